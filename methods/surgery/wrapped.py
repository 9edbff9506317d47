"""Puts a tuner of peft into a model in place, by the name that peft registers it under."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from functools import partial
from typing import Any

import torch
from torch import nn

from methods.method import Setting, by_token
from methods.surgery import places, tuners
from methods.surgery.presets import Targets
from results.errors import UserError

Names = Mapping[str, Sequence[str]]  # of matrices inside a layer, by the name of their stack
# Options from which a tuner draws what it keeps frozen, such as VeRA's projections: the run's seed
# decides where they are not typed. peft's own defaults would be the same draw for every seed.
SEEDS = (
    *("projection_prng_key", "random_loc_seed", "random_seed", "projection_seed", "proj_seed"),
)
# Their ranks may exceed a matrix's: of random matrices, of entries that are chosen, of blocks.
_ANY_RANK = frozenset(
    {"vera", "pvera", "randlora", "shira", "oft", "lokr", "adamss", "tinylora", "unilora", "vblora"}
)
# They draw a number at each layer from the stream of dropout, whether or not any is dropped.
_DRAWING = frozenset({"loha", "lokr"})
# Lily's answers depend on all tokens of a batch, and PVeRA draws noise for each of them.
_NOT_BY_TOKEN = frozenset({"lily", "pvera"})


@dataclass(frozen=True)
class Wrapped:
    """A tuner that was put into a model: peft's configuration of it, and the tuner itself."""

    config: Any
    tuner: Any


def targeted(model: Any, method: str, targets: Targets) -> dict[str, list[str]]:
    """Return the names of the matrices that `targets` stands for, by the name of their layers."""
    places.layers(model, method, ["value"] if targets == "value" else [])
    attention = {"value": ["value"], "query_value": ["query", "value"]}
    wanted = attention.get(targets, ["query", "key", "value"])
    return tuners.matrices(model, method, wanted, targets == "all_linear")


def wrap(
    model: Any,
    method: str,
    tuner: str,
    options: Mapping[str, Any],
    targets: Targets,
    setting: Setting,
) -> Wrapped:
    """Wrap the targeted matrices in a tuner's layers; these and the head train.

    What peft refuses is a UserError in peft's words.
    """
    from peft import PeftType, TaskType
    from peft.mapping import PEFT_TYPE_TO_CONFIG_MAPPING, PEFT_TYPE_TO_TUNER_MAPPING

    kind = PeftType(tuner.upper())
    cls: Any = PEFT_TYPE_TO_CONFIG_MAPPING[kind]
    names = targeted(model, method, targets)
    pattern = tuners.inside_layers(names)
    seeds = {
        field.name: int(torch.randint(2**31, (), generator=setting.generator))
        for field in fields(cls)
        if field.name in SEEDS
    }
    _check_rank(model, method, tuner, options, names)
    options = {**seeds, **options, **_to_be_counted(model, method, tuner, options, names)}
    places.freeze_all_but_head(model, setting.head)
    try:
        config = cls(task_type=TaskType.SEQ_CLS, target_modules=pattern, **options)
        with tuners.own_stream(setting), warnings.catch_warnings():
            warnings.filterwarnings("ignore", module=r"peft\.tuners\.boft")  # of a kernel, not used
            put = PEFT_TYPE_TO_TUNER_MAPPING[kind](model, config, "default")
    except ImportError as error:
        raise UserError(
            f"method={method}: its tuner needs a package that is not installed ({error})"
        ) from None
    except (ValueError, TypeError, KeyError, NotImplementedError, AssertionError) as error:
        raise UserError(
            f"method={method}: peft refuses it on this model: {error}; change"
            f" method.{method}.options"
        ) from None
    for name, parameter in model.named_parameters():
        if name in setting.head:
            parameter.requires_grad_(True)
    if tuner in _NOT_BY_TOKEN:
        _mark_as_not_by_token(model)
    if tuner in _DRAWING:
        _let_none_draw(model)
    if tuner == "fourierft":
        _let_places_follow(model)
    return Wrapped(config, put)


def _check_rank(
    model: Any, method: str, tuner: str, options: Mapping[str, Any], names: Names
) -> None:
    """Refuse a rank above a side of a targeted matrix: what it adds could not have it."""
    option = next((o for o in ("init_r", "r") if o in options), "r")
    rank = options.get(option)
    if tuner in _ANY_RANK or not isinstance(rank, int):
        return
    sides = [min(matrix.weight.shape) for matrix in _matrices(model, method, names)]
    if rank > min(sides):
        raise UserError(
            f"method.{method}.options.{option}={rank} is above {min(sides)}, the smaller side of a"
            f" matrix that it is to change; use at most {min(sides)}"
        )


def _to_be_counted(
    model: Any, method: str, tuner: str, options: Mapping[str, Any], names: Names
) -> dict[str, Any]:
    """Let a model without values, whose parameters are only counted, be wrapped; return options."""
    if next(model.parameters()).device.type != "meta":
        return {}
    if tuner == "shira":  # chooses entries, which are not on that device
        for matrix in _matrices(model, method, names):
            matrix.to_empty(device="cpu")
    return {"init_lora_weights": True} if "init_lora_weights" in options else {}


def _matrices(model: Any, method: str, names: Names) -> Iterator[Any]:
    """Yield the modules of these names in every layer."""
    for layer in places.layers(model, method):
        for name in names[layer.places.layers]:
            yield layer.module.get_submodule(name)


def _mark_as_not_by_token(model: nn.Module) -> None:
    from peft.tuners.tuners_utils import BaseTunerLayer

    for module in model.modules():
        if isinstance(module, BaseTunerLayer):
            module.by_token = False  # type: ignore[assignment]


def _let_places_follow(model: nn.Module) -> None:
    """Let the places of FourierFT's entries move with the model, not be copied in each pass."""
    from peft.tuners._buffer_dict import BufferDict
    from peft.tuners.fourierft.layer import FourierFTLayer

    for module in model.modules():
        if isinstance(module, FourierFTLayer):
            module.indices = BufferDict(module.indices)  # type: ignore[assignment]


def _let_none_draw(model: nn.Module) -> None:
    """Let layers of LoHa and LoKr compute what they do without dropping whole modules."""
    from peft.tuners.lycoris_utils import LycorisLayer

    for module in model.modules():
        if isinstance(module, LycorisLayer):
            module.forward = partial(_never_dropped, module)


@by_token
def _never_dropped(layer: Any, inputs: torch.Tensor) -> torch.Tensor:
    result: torch.Tensor = layer.base_layer(inputs)
    added: torch.Tensor = layer._get_delta_activations("default", inputs)
    return (result + added).to(inputs.dtype)
