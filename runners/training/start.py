"""Builds the model that a run starts with: the pretrained one, or what another run left of it.

Encoder and inserted modules come from that run; head, optimizer, schedule and random streams are
this run's own. What a method compares with, such as the weights that wd_pre pulls back to, is the
start, not the pretrained files. A pooler that the other run's model has not is the pretrained one.
For a method that reads answers from it, a head that predicts masked tokens comes along.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import torch
from safetensors.torch import load_file

from methods.method import Method
from methods.surgery.effects import differs, drawn_from, effects
from methods.surgery.inserted import as_loaded, inserts, unshaped
from results.errors import UserError
from runners.config.check import RunConfig
from runners.exports.delta import Delta, load_delta
from runners.jobs.job import Job
from runners.models.about import read_about
from runners.models.build import apply_methods, load_pretrained, trained_sha256
from runners.models.predecessor import ENCODER, Predecessor, check_attributes
from runners.models.pretrained import Loaded

Tensors = Mapping[str, torch.Tensor]


@dataclass(frozen=True)
class Left:
    """A run's model, as the next one takes it: parameters by name, and which are a head's.

    `named` is what a sentence on it calls the run. `folded` are the tensors that its `methods` keep
    of parameters of the encoder, which are then not among the others, by the names of the methods.
    `effects` are what the layers of peft's compute.
    """

    named: str
    tensors: Tensors
    head: frozenset[str]
    methods: tuple[Method, ...] = ()
    folded: Mapping[str, Tensors] = field(default_factory=dict)
    effects: Tensors = field(default_factory=dict)


def left_in(loaded: Loaded, named: str, methods: tuple[Method, ...]) -> Left:
    """Return what a model of these methods holds for the next run."""
    head, tensors, folded = loaded.head | loaded.read, _plain(loaded.model), {}
    for method in methods:
        own = method.fold(loaded.model)
        if own.kept and not own.replaced <= head:
            folded[method.name] = {n: t.detach().clone() for n, t in own.kept.items()}
            tensors = {n: t for n, t in tensors.items() if n not in own.replaced}
    return Left(named, tensors, head, methods, folded, effects(loaded.model))


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
    pooled = any(_of_pooler(n) for n in own)
    inserted = {
        n: t
        for n, t in theirs.items()
        if n not in own and (keeps or n not in head) and (pooled or not _of_pooler(n))
    }
    _check_options(left, job.config)
    _copy({n: theirs[n] for n in wanted}, own, named)
    put = frozenset(inserted)
    loaded = apply_methods(job.config, loaded, job.weights, total_steps, job.attributes, put)
    _copy(inserted, _plain(loaded.model), named, _typed(left, job.config))
    _unfold(left, job.config, loaded.model)
    _check_effects(left, job.config, loaded.model)
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
    check_left(predecessor, delta, named)
    return left_in(delta.loaded, named, delta.config.methods)


def check_left(predecessor: Predecessor, delta: Delta, named: str) -> None:
    """Refuse a delta that holds other weights than its run's record names."""
    if _trained_sha256(predecessor, delta) != predecessor.sha256:
        raise UserError(
            f"{named}: {predecessor.folder} holds other weights than its record names; run it again"
            " with save=delta"
        )


def _trained_sha256(predecessor: Predecessor, delta: Delta) -> str:
    """Return the hash of what was trained: as the delta says where not all of that was kept."""
    model = delta.loaded.model
    trained = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    whole = all(m.fold(model).replaced.isdisjoint(trained) for m in delta.config.methods)
    if whole and not delta.config.settings.start.freeze:  # of which less was trained
        return trained_sha256(model)
    about = read_about(predecessor.delta(), "start")
    return str(about.get("trained_sha256", predecessor.sha256))


def _plain(model: torch.nn.Module) -> dict[str, torch.nn.Parameter]:
    """Return a model's parameters by name, without the layers that peft puts around modules."""
    return {as_loaded(n): p for n, p in model.named_parameters()}


def _of_pooler(name: str) -> bool:
    return ".pooler." in name


def _copy(tensors: Tensors, own: Tensors, named: str, typed: str = "") -> None:
    """Put tensors where they belong; `typed` is what this run lacks, where that is known."""
    _check_places(tensors, own, named, typed)
    with torch.no_grad():
        for name, tensor in tensors.items():
            own[name].copy_(tensor)


def _check_places(tensors: Tensors, own: Tensors, named: str, typed: str = "") -> None:
    for name, tensor in tensors.items():
        if name not in own or own[name].shape != tensor.shape:
            raise UserError(
                f"{named}: its method put {name} {tuple(tensor.shape)} into the encoder, for which"
                " this run has no place; use that method with the same options here too"
                f"{typed}, or start from a run of a method that inserts nothing"
            )


def _check_options(left: Left, config: RunConfig) -> None:
    """Refuse options with which a method's modules would compute something else than there."""
    theirs = {method.name: unshaped(method) for method in left.methods}
    for method in config.methods:
        there, here = theirs.get(method.name, {}), unshaped(method)
        for option in (o for o in there if there[o] != here[o]):
            raise UserError(
                f"{left.named}: what its method put into the encoder was trained with"
                f" method.{method.name}.{option}={there[option]}, and would compute something else"
                f" with {here[option]}; type that"
            )


def _typed(left: Left, config: RunConfig) -> str:
    """Say what to type so that a method's frozen parts are drawn as they were; empty if they are.

    They are drawn from the run's seed where nothing is typed.
    """
    theirs, ours = drawn_from(left.methods), drawn_from(config.methods)
    keys = [
        f"method.{name}.options.{key}={seed}"
        for name in theirs.keys() & ours.keys()
        for key, seed in theirs[name].items()
        if ours[name].get(key) != seed
    ]
    return f", with {' and '.join(keys)}, as there" if keys else ""


def _unfold(left: Left, config: RunConfig, model: torch.nn.Module) -> None:
    """Put what methods keep of their parameters into a model whose encoder stays frozen."""
    methods = {method.name: method for method in config.methods}
    for name, tensors in left.folded.items():
        own = methods[name].fold(model).kept if name in methods else {}
        _check_places(tensors, own, left.named)
        if not config.settings.start.freeze:
            raise UserError(
                f"{left.named}: method={name} makes its prefix by an MLP, which is not kept, so"
                " that this cannot be trained any further; type start.freeze=true to train a head"
                " on it, or start from a run of another method"
            )
        methods[name].unfold(model, dict(tensors))


def _check_effects(left: Left, config: RunConfig, model: torch.nn.Module) -> None:
    """Refuse layers of peft's that compute something else than in the run before.

    A method that alters the pretrained matrices alters what these layers answer, not what is added.
    """
    if not left.effects:
        return
    perturbed = any(method.changes_start and not inserts(method) for method in config.methods)
    typed = _typed(left, config)
    layer = differs(left.effects, effects(model), perturbed) if typed or not perturbed else ""
    if layer:
        raise UserError(
            f"{left.named}: {layer} of its encoder would compute something else in this run; use"
            f" that method with the same options here too{typed}"
        )
