"""Builds the model that a run starts with: the pretrained one, or what another run left of it.

Encoder and inserted modules come from that run; head, optimizer, schedule and random streams are
this run's own. What a method compares with, such as the weights that wd_pre pulls back to, is the
start, not the pretrained files. A pooler that the other run's model has not is the pretrained one.
For a method that reads answers from it, a head that predicts masked tokens comes along.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import torch
from safetensors.torch import load_file

from results.errors import UserError
from runners.config.check import RunConfig
from runners.exports.delta import load_delta
from runners.jobs.job import Job
from runners.models.build import apply_methods, load_pretrained, trained_sha256
from runners.models.predecessor import ENCODER, Predecessor, check_attributes
from runners.models.pretrained import Loaded

Tensors = Mapping[str, torch.Tensor]


@dataclass(frozen=True)
class Left:
    """A run's model, as the next one takes it: parameters by name, and which are a head's.

    `named` is what a sentence on it calls the run.
    """

    named: str
    tensors: Tensors
    head: frozenset[str]


def left_in(loaded: Loaded, named: str) -> Left:
    """Return what a model holds for the next run."""
    return Left(named, _plain(loaded.model), loaded.head | loaded.read)


def build_model(job: Job, total_steps: int, left: Left | None = None) -> Loaded:
    """Return a job's model before its first step, with its methods' changes.

    `left` takes the place of what its predecessor left. A start that does not fit is a UserError.
    """
    loaded = load_pretrained(job.config, job.weights)
    prefix = f"{loaded.model.base_model_prefix}."
    if left is None and job.predecessor is not None:
        left = _left_by(job.predecessor, job, prefix)
    if left is None:
        return apply_methods(job.config, loaded, job.weights, total_steps, job.attributes)
    named, theirs, head = left.named, left.tensors, left.head
    own = _plain(loaded.model)
    wanted = {n for n in own if n.startswith(prefix)}
    if job.config.settings.start.head == "keep":
        wanted |= loaded.head
    outside = {n for n in own if not n.startswith(prefix)}
    if _reads_tokens(job.config) and outside <= set(theirs):
        wanted |= outside
        facts = {**loaded.facts, "mlm_head": f"as {named} left it"}
        loaded = replace(loaded, head=frozenset(), facts=facts)
    wanted -= {n for n in wanted - set(theirs) if _of_pooler(n)}  # some heads stand on none
    lacking = sorted(wanted - set(theirs))
    if lacking:
        raise UserError(f"{named}: it left no tensor {lacking[0]}, which this run's model has")
    keeps = job.config.settings.start.head == "keep"
    inserted = {
        n: t
        for n, t in theirs.items()
        if n not in own and (keeps or n not in head) and not _of_pooler(n)
    }
    _copy({n: theirs[n] for n in wanted}, own, named)
    loaded = apply_methods(job.config, loaded, job.weights, total_steps, job.attributes)
    _copy(inserted, _plain(loaded.model), named)
    if job.config.settings.start.freeze:
        for name, parameter in loaded.model.named_parameters():
            parameter.requires_grad_(name in loaded.head)
        if not loaded.head:
            raise UserError(
                f"{named} start.freeze=true: only a drawn head would train, and this run's head is"
                " that of the start; leave start.freeze out"
            )
    return loaded


def _reads_tokens(config: RunConfig) -> bool:
    """Say whether a method reads answers from the head that predicts masked tokens."""
    return any(method.model_head == "tokens" for method in config.methods)


def _left_by(predecessor: Predecessor, job: Job, prefix: str) -> Left:
    """Return what a predecessor left, checked to be what its record names.

    Of an exported encoder, whose names lack the model's `prefix`, there is no more than that.
    """
    named = f"start={predecessor.run}"
    if predecessor.exported:
        tensors = load_file(predecessor.folder / ENCODER)
        prefixed = {f"{prefix}{name}": tensor for name, tensor in tensors.items()}
        return Left(named, prefixed, frozenset())
    delta = load_delta(predecessor.delta(), model_path=str(job.weights.folder), act="start")
    check_attributes(named, delta.attributes, job.attributes)
    folds = any(m.fold(delta.loaded.model).replaced for m in delta.config.methods)
    if not folds and trained_sha256(delta.loaded.model) != predecessor.sha256:
        raise UserError(
            f"{named}: {predecessor.folder} holds other weights than its record names; run it again"
            " with save=delta"
        )
    return left_in(delta.loaded, named)


def _plain(model: torch.nn.Module) -> dict[str, torch.nn.Parameter]:
    """Return a model's parameters by name, without the layers that peft puts around modules."""
    return {n.replace(".base_layer.", "."): p for n, p in model.named_parameters()}


def _of_pooler(name: str) -> bool:
    return ".pooler." in name


def _copy(tensors: Tensors, own: Tensors, named: str) -> None:
    for name, tensor in tensors.items():
        if name not in own or own[name].shape != tensor.shape:
            raise UserError(
                f"{named}: its method put {name} {tuple(tensor.shape)} into the encoder, for which"
                " this run has no place; use that method with the same options here too, or start"
                " from a run of a method that inserts nothing"
            )
        with torch.no_grad():
            own[name].copy_(tensor)
