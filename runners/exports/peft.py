"""A delta in peft's own format."""

from __future__ import annotations

import re
from enum import Enum
from pathlib import Path
from typing import Any

from safetensors.torch import save_file

from results.errors import UserError
from results.plain_file import is_file, read_json
from runners.config.check import RunConfig
from runners.config.places import portable
from runners.exports.card import hub_name
from runners.models.about import ABOUT, PEFTS
from runners.models.build import Tensors, kept_tensors
from runners.models.pretrained import Loaded
from runners.models.weights import Weights

OPTIONS = "adapter_config.json"
_LARGEST = 2**20  # bytes of it
# Options that count at peft's own default too.
_ALWAYS = (
    *("peft_type", "r", "lora_alpha", "lora_dropout", "bias", "use_rslora", "use_dora"),
    *("rank_pattern", "alpha_pattern", "prefix_projection", "encoder_hidden_size"),
)


def _write_peft(
    folder: Path,
    tensors: Tensors,
    model: Any,
    head: frozenset[str],
    config: RunConfig,
    weights: Weights,
) -> str | None:
    """Write peft's two files, or return None where the run is not one of peft's alone."""
    configs = [c for c in (m.peft_config() for m in config.methods) if c is not None]
    if any(m.leaves and m.peft_config() is None for m in config.methods):
        return None  # peft would load it, and answer otherwise
    own_head = any(m.model_head is not None for m in config.methods)
    if len(configs) != 1 or own_head or config.head == "tokens":
        return None  # peft asks for a tied head's own tensor, and there is none
    [peft] = configs
    names = {name: _peft_name(name, peft, head) for name in tensors}
    if None in names.values():
        return None  # another method of the run changed something besides
    outside = {n for n in head if not n.startswith(model.base_model_prefix + ".")}
    peft.modules_to_save = sorted(
        {n.split(".")[0] for n in outside} | {n.rsplit(".", 1)[0] for n in head - outside}
    )
    peft.base_model_name_or_path = hub_name(config, weights) or portable(weights.name_or_path)
    peft.revision = weights.revision
    peft.inference_mode = True
    if hasattr(peft, "save_projection"):
        peft.save_projection = False  # peft draws it again from the same key
    save_file({str(names[n]): t for n, t in tensors.items()}, folder / PEFTS)
    peft.save_pretrained(str(folder))
    return PEFTS


_PROMPTS = (
    "prefix:prompt_embeddings",
    "prompt_encoder.made_by.embedding.weight",
    "prompt_encoder.embedding.weight",
)


def _peft_name(name: str, peft: Any, head: frozenset[str]) -> str | None:
    """Return peft's name of a tensor; None if it is neither the head's nor the adapter's."""
    learning = peft.is_prompt_learning
    root = "base_model." if learning else "base_model.model."
    if name in head:
        return root + name
    if learning:
        return "prompt_embeddings" if name in _PROMPTS else None
    if shared := _SHARED.search(name):
        return f"base_model.{shared[1]}"
    name = name.replace(".lora_magnitude_vector.default.weight", ".lora_magnitude_vector.default")
    return root + name.replace(".default", "") if ".default" in name else None


# What layers share stands once in peft's file, and beside the model.
_SHARED = re.compile(r"\.(vblora_vector_bank|unilora_theta_d)\.default$")


def _options(peft: Any) -> dict[str, Any]:
    """Return what a method set of peft's options, and what it left as it is, as plain values."""
    plain = type(peft)(**_NEEDED.get(type(peft).__name__, {})).to_dict()
    options = peft.to_dict()
    chosen = {k: v for k, v in options.items() if v != plain.get(k) or k in _ALWAYS}
    return {k: _plain(v) for k, v in chosen.items() if k not in _OURS}


_NEEDED = {"AdaLoraConfig": {"total_step": 1}}  # without which peft makes no configuration
_OURS = (
    "modules_to_save",
    "save_projection",
    "base_model_name_or_path",
    "inference_mode",
    "peft_version",
)


def _plain(value: Any) -> Any:
    """Return a value as JSON holds it; the order of names says nothing."""
    if isinstance(value, set | list | tuple):
        return sorted(map(str, value))
    return value.value if isinstance(value, Enum) else value


def _of_peft(config: RunConfig, named: str) -> Any:
    """Return peft's configuration of the one method that has one."""
    configs = [c for c in (m.peft_config() for m in config.methods) if c is not None]
    if len(configs) != 1:
        raise UserError(
            f"{named}: {PEFTS} is of one method of peft's, and {ABOUT} names"
            f" {', '.join(config.method_names)}; the folder mixes two runs"
        )
    return configs[0]


def check_peft(folder: Path, config: RunConfig, named: str) -> None:
    """Refuse options, in the file that peft reads, that are not those of the configuration."""
    path, expected = folder / OPTIONS, _options(_of_peft(config, named))
    if not is_file(path):
        return  # peft alone needs it
    try:
        stored, _ = read_json(path, _LARGEST)
    except (OSError, ValueError) as error:
        raise UserError(f"{named}: {OPTIONS} is not readable JSON ({error})") from None
    if not isinstance(stored, dict):
        raise UserError(f"{named}: {OPTIONS} is not peft's; save the delta again")
    for key, value in expected.items():
        if key in stored and _plain(stored[key]) != value:
            raise UserError(
                f"{named}: {OPTIONS} has {key}={stored[key]!r}, the run {value!r}; save the"
                " delta again"
            )


def _from_peft(tensors: Tensors, loaded: Loaded, config: RunConfig) -> Tensors:
    """Give the tensors of peft's file our names again; foreign ones keep theirs."""
    peft = next(c for c in (m.peft_config() for m in config.methods) if c is not None)
    names = kept_tensors(loaded.model, config.methods)
    ours = {_peft_name(name, peft, loaded.head): name for name in names}
    return {ours.get(n, n): t for n, t in tensors.items()}
