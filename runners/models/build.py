"""Builds the model of a configuration: pretrained weights, a fresh head, the methods' changes."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace

import torch

from methods.method import Folded, Method, Setting
from methods.surgery.inserted import as_loaded
from runners.config.check import RunConfig
from runners.models.pretrained import Loaded, load_model
from runners.models.weights import Weights
from runners.seeds import derive
from runners.speed.levers import Levers


def trained_sha256(model: torch.nn.Module) -> str:
    """Hash the trained tensors, by name and bytes; equal for two runs that agree to the bit."""
    digest = hashlib.sha256()
    for name, parameter in sorted(model.named_parameters()):
        if parameter.requires_grad:
            digest.update(f"{name}\0{tuple(parameter.shape)}\0".encode())
            digest.update(parameter.detach().cpu().contiguous().numpy().data)
    return digest.hexdigest()


Tensors = dict[str, torch.Tensor]


def load_pretrained(config: RunConfig, weights: Weights) -> Loaded:
    """Load the model that a configuration starts from, before any method."""
    settings, budget = config.settings, config.settings.budget
    loaded = load_model(
        weights,
        settings.task,
        settings.seed,
        budget.max_length,
        budget.dropout,
        settings.model.untrained,
        config.head,
    )
    _levers(config).model_loaded(loaded.model)
    return loaded


def apply_methods(
    config: RunConfig,
    loaded: Loaded,
    weights: Weights,
    total_steps: int,
    attributes: Mapping[str, Sequence[str]] | None = None,
    left: frozenset[str] = frozenset(),
) -> Loaded:
    """Let the methods prepare the model, in the order typed, each with its own random stream.

    One that represents sentences, extends the head, or says what is loaded as one, comes first:
    what it adds belongs to the head of what the others are told, and of what is returned.
    `attributes` are the values that the model is to know. `left` names what a run before put in,
    which then takes the place of what a method puts in here.
    """
    settings = config.settings
    wanted = any("pretrained" in method.needs for method in config.methods)
    pretrained = (
        {n: p.detach().clone() for n, p in loaded.model.named_parameters()} if wanted else {}
    )
    for method in sorted(config.methods, key=lambda m: not _has_the_head(m)):
        setting = Setting(
            head=loaded.head,
            generator=torch.Generator().manual_seed(derive(settings.seed, f"method {method.name}")),
            num_labels=len(settings.task.outputs),
            regression=settings.task.facts.answer == "score",
            total_steps=total_steps,
            max_length=settings.budget.max_length,
            precision=config.precision,
            pretrained=pretrained,
            methods=config.method_names,
            tokenizer=loaded.tokenizer,
            files=weights.files,
            attributes=attributes or {},
            stored=config.stored,
        )
        before = {name for name, _ in loaded.model.named_parameters()}
        with _nothing_taken_out(loaded.model, left):
            method.prepare(loaded.model, setting)
        if _has_the_head(method):
            added = {name for name, _ in loaded.model.named_parameters()} - before
            loaded = replace(loaded, head=loaded.head | added)
    for method in config.methods:
        method.all_prepared(loaded.model)
    _levers(config).model_prepared(loaded.model)
    return loaded


@contextmanager
def _nothing_taken_out(model: torch.nn.Module, left: frozenset[str]) -> Iterator[None]:
    """Put weights back that a method changes in modules where a run before `left` what it puts in.

    PiSSA takes out of a matrix what its pair begins with. That run has done so, and left the rest.
    """
    if not left:
        yield
        return
    before = {as_loaded(n): (p, p.detach().clone()) for n, p in model.named_parameters()}
    yield
    put = {as_loaded(name) for name, _ in model.named_parameters()} - set(before)
    beside = tuple(put & left)
    with torch.no_grad():
        for name, (parameter, weights) in before.items():
            module = name.rpartition(".")[0] + "."
            if any(other.startswith(module) for other in beside):
                parameter.copy_(weights)


def _has_the_head(method: Method) -> bool:
    return method.represents or method.extends_head or method.model_head is not None


def _levers(config: RunConfig) -> Levers:
    return Levers(config.settings.speed.switches, "cpu")  # where models are loaded and prepared


def kept_tensors(model: torch.nn.Module, methods: tuple[Method, ...]) -> Tensors:
    """Return the trained tensors by name; what only serves training is replaced by what is kept.

    A tensor that a method folded is named METHOD:NAME.
    """
    tensors = {n: p.detach() for n, p in model.named_parameters() if p.requires_grad}
    for method in methods:
        folded = method.fold(model)
        trains = not folded.replaced.isdisjoint(tensors)  # else it is as a run before left it
        tensors = {n: t for n, t in tensors.items() if n not in folded.replaced}
        tensors |= folded_tensors(method.name, folded) if trains else {}
    return tensors


def folded_tensors(method: str, folded: Folded) -> Tensors:
    """Return what a method keeps of parameters that it folds, by the names in a delta."""
    return {f"{method}:{name}": tensor for name, tensor in folded.kept.items()}


def count_parameters(
    model: torch.nn.Module, head: frozenset[str], methods: tuple[Method, ...]
) -> dict[str, int]:
    """Count scalars; shared tensors count once.

    `total`, `trainable` and `trainable_without_head` count what is kept after training;
    `training_only` counts the trained parameters that are then replaced, such as an MLP that makes
    a prefix.
    """
    kept = kept_tensors(model, methods)
    trainable = sum(t.numel() for t in kept.values())
    optimized = sum(p.numel() for p in model.parameters() if p.requires_grad)
    own = {name.rpartition(":")[2]: t for name, t in kept.items()}  # as a model's own names are
    names = {name for name, _ in model.named_parameters()}
    plain = sum(t.numel() for name, t in own.items() if name in names)
    return {
        "total": sum(p.numel() for p in model.parameters()) - optimized + trainable,
        "trainable": trainable,
        "trainable_without_head": sum(t.numel() for n, t in own.items() if n not in head),
        "training_only": optimized - plain,
    }


def stored_bytes(model: torch.nn.Module, methods: tuple[Method, ...]) -> int:
    """Return what must be kept to have the trained model again, given the pretrained one."""
    return sum(t.numel() * t.element_size() for t in kept_tensors(model, methods).values())
