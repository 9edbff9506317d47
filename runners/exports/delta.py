"""What training changed, on disk and back: small, without pickles, bound to its pretrained weights.

A folder holds delta.json (configuration, hashes, the values of attributes that the model knows) and
the tensors that differ from the pretrained model: as delta.safetensors, or, where peft has the
method, in peft's own format (adapter_model.safetensors, adapter_config.json), which
`PeftModel.from_pretrained` reads as well. What a method found beside the model, such as
Child-Tuning D's mask, is in METHOD.safetensors.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from methods.method import Method
from results.errors import UserError
from results.places import expanded
from results.plain_file import is_file
from results.sealed import sealed
from results.whole import EVERYONE, whole
from runners.config.check import RunConfig, from_record
from runners.config.places import portable
from runners.data.attributes import Known
from runners.exports.peft import _from_peft, _write_peft, check_peft
from runners.jobs.job import Job
from runners.models.about import ABOUT, FORMAT, OURS, PEFTS, pretrained_facts, read_about
from runners.models.build import (
    Tensors,
    apply_methods,
    folded_tensors,
    kept_tensors,
    load_pretrained,
    trained_sha256,
)
from runners.models.pretrained import Loaded
from runners.models.sides import check_sides
from runners.models.weights import Weights, check_unchanged, find_weights


def changed_tensors(
    model: torch.nn.Module, head: frozenset[str], config: RunConfig, weights: Weights
) -> Tensors:
    """Return what must be kept: the head, and whatever is not bit-equal to the pretrained model."""
    pretrained = load_pretrained(config, weights).model.state_dict()
    kept = kept_tensors(model, config.methods)
    folds = {m.name: m.fold(model) for m in config.methods}
    for name, folded in folds.items():  # trained here, or by a run before
        kept |= folded_tensors(name, folded)
    replaced = {n for folded in folds.values() for n in folded.replaced}
    for name, parameter in model.named_parameters():
        own = pretrained.get(name.replace(".base_layer.", "."))
        same = own is not None and torch.equal(own, parameter.detach().cpu())
        if name not in replaced and (name in head or not same):
            kept[name] = parameter.detach()
    return {n: t.cpu().contiguous() for n, t in kept.items()}


def save_delta(folder: Path, model: Any, head: frozenset[str], job: Job) -> int:
    """Write the folder of a job, whole or not at all; return the bytes of its tensors."""
    config, weights, predecessor = job.config, job.weights, job.predecessor
    tensors = changed_tensors(model, head, config, weights)
    with whole(folder, EVERYONE) as temporary:
        temporary.mkdir()
        file = _write_peft(temporary, tensors, model, head, config, weights)
        if file is None:
            file = OURS
            save_file(tensors, temporary / file)
        for method in config.methods:
            beside = {n: t.cpu().contiguous() for n, t in method.tensors().items()}
            if beside:
                save_file(beside, temporary / f"{method.name}.safetensors")
        about = {
            "format": FORMAT,
            "run": job.name,
            "trained_sha256": trained_sha256(model),
            "file": file,
            "sha256": _sha256(temporary / file),
            "files": {path.name: _sha256(path) for path in sorted(temporary.iterdir())},
            "weights": {
                "name_or_path": portable(weights.name_or_path),
                "sha256": weights.sha256,
                "files_sha256": weights.files_sha256,
                **({"turned": list(weights.turned)} if weights.turned else {}),
            },
            "config": _composed(job),
            "rows": job.rows,
            "content": job.content,
            **({} if predecessor is None else {"start": predecessor.facts}),
            **({} if job.teacher is None else {"teacher": job.teacher.facts}),
            **({"attributes": job.attributes} if job.attributes else {}),
        }
        (temporary / ABOUT).write_text(sealed(about), encoding="utf-8")
    return (folder / file).stat().st_size


def _composed(job: Job) -> dict[str, Any]:
    """Return the configuration in the shape that `check` takes."""
    config, before = job.config, job.predecessor
    methods = {
        item["name"]: {k: v for k, v in item.items() if k not in ("name", "version")}
        for item in config.method_options()
    }
    settings = job.named_settings.model_dump(mode="json") | {"save": None}
    if before is not None:
        settings["start"] = {**settings["start"], "run": before.run}
    return {**settings, "lr": config.lr, "precision": config.precision, "method": methods}


def _sha256(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


@dataclass(frozen=True)
class Delta:
    """A delta that was read and checked: its configuration, weights and model, ready to use.

    `attributes` are the values that the model knows of each attribute.
    """

    config: RunConfig
    weights: Weights
    loaded: Loaded
    run: str
    attributes: Known


def load_delta(folder: str | Path, *, model_path: str | None = None, act: str = "eval") -> Delta:
    """Rebuild a trained model from a folder that `save=delta` wrote.

    `model_path` names the pretrained weights where they lie elsewhere now; `act` is the key that
    named the folder. Files that are missing, damaged, of another format, or for other weights or
    another configuration or tokenizer are a UserError; nothing is unpickled.
    """
    folder = Path(expanded(str(folder)))
    named = f"{act}={folder}"
    about = read_about(folder, act)
    path = folder / about["file"]
    _check_files(folder, about, named)
    config = configuration_of(named, ABOUT, about["config"], model_path)
    weights = find_weights(config.settings.model)
    facts = pretrained_facts(folder, about)
    check_unchanged(named, facts, weights)
    check_sides(named, facts, weights.turned, config.settings.budget.truncate)
    tensors = _read_tensors(path, named)
    attributes = _attributes(about, config, named)
    loaded = _build(named, config, weights, attributes)
    if path.name == PEFTS:
        check_peft(folder, config, named)
        tensors = _from_peft(tensors, loaded, config)
    _check_tensors(tensors, loaded, config, named)
    _check_beside(folder, loaded.model, config.methods, named)
    _put(tensors, loaded.model, config.methods)
    loaded.model.eval()
    return Delta(config, weights, loaded, about["run"], attributes)


def _attributes(about: dict[str, Any], config: RunConfig, named: str) -> Known:
    """Return the values that a delta's model knows, of the attributes that its run reads."""
    kept: dict[str, list[str]] = about.get("attributes", {})
    read = config.settings.task.attributes if config.reads_attributes else []
    if set(kept) != set(read):
        raise UserError(
            f"{named}: {ABOUT} holds known values of {', '.join(kept) or 'no attribute'}, and its"
            f" run reads {', '.join(read) or 'none'}; save the delta again"
        )
    return {name: kept[name] for name in read}


def _check_files(folder: Path, about: dict[str, Any], named: str) -> None:
    """Refuse a folder of which a file is missing or is not the one that was written."""
    for name, sha256 in {about["file"]: about["sha256"], **about.get("files", {})}.items():
        if not is_file(folder / name):
            raise UserError(f"{named}: {name} is missing; copy the whole folder")
        if _sha256(folder / name) != sha256:
            raise UserError(
                f"{named}: {name} is damaged or was changed (its sha256 is not the one in"
                f" {ABOUT}); save the delta again"
            )


def configuration_of(
    named: str, file: str, composed: dict[str, Any], model_path: str | None
) -> RunConfig:
    """Return the configuration that a delta or a record holds; what is none is a UserError.

    `named` is the argument that named it, and `file` is its file's name.
    """
    if model_path is not None:
        model = composed.get("model")
        model = dict(model) if isinstance(model, dict) else {}
        composed = {**composed, "model": {**model, "name_or_path": model_path, "package": None}}
    try:
        return from_record(composed)
    except UserError as error:
        raise UserError(f"{named}: {file}: {error}") from None
    except Exception as error:
        raise UserError(
            f"{named}: {file} holds no configuration of a run ({error!r}); save the delta again"
        ) from None


def _read_tensors(path: Path, named: str) -> Tensors:
    try:
        return load_file(path)
    except (OSError, SafetensorError) as error:
        raise UserError(f"{named}: {path.name} cannot be read ({error})") from None


def _build(named: str, config: RunConfig, weights: Weights, attributes: Known) -> Loaded:
    """Return the model of a delta's configuration before its tensors are put there."""
    loaded = load_pretrained(config, weights)
    try:
        return apply_methods(config, loaded, weights, 1, attributes)
    except UserError as error:
        raise UserError(f"{named}: {ABOUT}: {error}") from None
    except Exception as error:  # of torch and peft, at options that no run had
        raise UserError(
            f"{named}: the model that {ABOUT} describes cannot be built ({error!r})"
        ) from None


def _check_tensors(tensors: Tensors, loaded: Loaded, config: RunConfig, named: str) -> None:
    """Refuse tensors that are not those of the model, each in its shape and type, and finite.

    Of a frozen encoder only what the runs before trained is there, and of a head that predicts
    tokens; which tensors these are, the folder's hashes tell.
    """
    folds = {method.name: method.fold(loaded.model) for method in config.methods}
    replaced = {name for fold in folds.values() for name in fold.replaced}
    own: Tensors = dict(loaded.model.named_parameters())
    needed = {n for n, p in own.items() if p.requires_grad} - replaced
    if config.settings.start.freeze:
        needed &= loaded.head - loaded.read
    for name, fold in folds.items():
        kept = {f"{name}:{n}": t for n, t in fold.kept.items()}
        own |= kept
        needed |= set() if fold.replaced <= set(tensors) else set(kept)
    for name, tensor in tensors.items():
        if name not in own or own[name].shape != tensor.shape:
            raise UserError(
                f"{named}: the tensor {name} {tuple(tensor.shape)} has no place in the model"
                " that its configuration builds; the folder mixes two runs"
            )
        if own[name].dtype != tensor.dtype:
            raise UserError(
                f"{named}: the tensor {name} holds {tensor.dtype}, the model"
                f" {own[name].dtype}; save the delta again"
            )
        _check_finite(name, tensor, named)
    if lacking := needed - set(tensors):
        raise UserError(
            f"{named}: {len(lacking)} trained tensors are missing, such as"
            f" {sorted(lacking)[0]}; save the delta again"
        )


def _check_finite(name: str, tensor: torch.Tensor, named: str) -> None:
    if not torch.isfinite(tensor).all():
        raise UserError(
            f"{named}: the tensor {name} holds nan or infinity, which no finished run"
            " leaves; save the delta again"
        )


def _check_beside(
    folder: Path, model: torch.nn.Module, methods: tuple[Method, ...], named: str
) -> None:
    """Refuse what a method kept beside the model, such as a mask, where it is of another model."""
    own = dict(model.named_parameters())
    for path in (folder / f"{method.name}.safetensors" for method in methods):
        if path.name in (OURS, PEFTS) or not is_file(path):
            continue
        for name, tensor in _read_tensors(path, named).items():
            if name in own and own[name].shape != tensor.shape:
                raise UserError(
                    f"{named}: {path.name} has {name} {tuple(tensor.shape)}, the model"
                    f" {tuple(own[name].shape)}; the folder mixes two runs"
                )
            _check_finite(f"{name} of {path.name}", tensor, named)


def _put(tensors: Tensors, model: torch.nn.Module, methods: tuple[Method, ...]) -> None:
    """Put checked tensors into the model."""
    own = dict(model.named_parameters())
    with torch.no_grad():
        for name, tensor in tensors.items():
            if ":" not in name:
                own[name].copy_(tensor)
    for method in methods:
        prefix = f"{method.name}:"
        folded = {n.removeprefix(prefix): t for n, t in tensors.items() if n.startswith(prefix)}
        if folded:
            method.unfold(model, folded)
