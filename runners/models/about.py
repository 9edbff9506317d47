"""Reads in what is saved beside a record which run's weights it holds, without loading torch.

A delta says it in delta.json, with all the rest; a folder for another library in tunebench.json.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from results.errors import UserError
from results.plain_file import is_file, read_json
from results.record import Record, read, record_path
from results.sealed import is_changed, sealed

FORMAT = "tunebench delta 1"
ABOUT, OURS, PEFTS = "delta.json", "delta.safetensors", "adapter_model.safetensors"
SOURCE = "tunebench.json"  # in a folder for another library; no run reads it as a model's
OTHERS = "holds other weights than the record tells of, as the run was done again since"
LARGEST = 2**26  # bytes of delta.json


def read_about(folder: Path, act: str) -> dict[str, Any]:
    """Return what a delta says of itself, checked; `act` is the key that named its folder."""
    path = folder / ABOUT
    if not is_file(path):
        raise UserError(f"{act}={folder}: no {ABOUT} there; name a folder that save=delta wrote")
    try:
        about, text = read_json(path, LARGEST)
    except (OSError, ValueError) as error:
        raise UserError(f"{act}={folder}: {ABOUT} is not readable JSON ({error})") from None
    if not isinstance(about, dict) or about.get("format") != FORMAT:
        raise UserError(
            f"{act}={folder}: {ABOUT} does not say '{FORMAT}'; it is of another program"
        )
    missing = {"run", "file", "sha256", "weights", "config"} - set(about)
    if missing or about["file"] not in (OURS, PEFTS) or not _is_whole(about):
        raise UserError(f"{act}={folder}: {ABOUT} is incomplete; save the delta again")
    if is_changed(about, text):
        raise UserError(
            f"{act}={folder}: {ABOUT} is damaged or was changed (its content does not have the hash"
            " that it holds); save the delta again"
        )
    return about


def tells_of_others(folder: Path, record: Record, act: str) -> bool:
    """Say whether a delta holds other weights than a record tells of.

    So it is where a run was done again without saving them. Where either does not say which
    weights they were, they pass for the same.
    """
    return _are_others(read_about(folder, act).get("trained_sha256"), record)


def source_of(run: str, trained_sha256: str | None) -> str:
    """Return what a folder for another library says of the run whose weights it holds."""
    return sealed({"run": run, "trained_sha256": trained_sha256})


def holds_others(folder: Path, record: Record, act: str) -> bool:
    """Say of a folder for another library what `tells_of_others` says of a delta."""
    path = folder / SOURCE
    if not is_file(path):
        return False  # an older one does not say whose weights they are
    try:
        source, text = read_json(path, LARGEST)
    except (OSError, ValueError) as error:
        raise UserError(f"{act}={folder}: {SOURCE} is not readable JSON ({error})") from None
    if not isinstance(source, dict) or is_changed(source, text):
        raise UserError(f"{act}={folder}: {SOURCE} is damaged or was changed; save it again")
    return _are_others(source.get("trained_sha256"), record)


def _are_others(saved: str | None, record: Record) -> bool:
    return None not in (saved, record.trained_sha256) and saved != record.trained_sha256


def pretrained_facts(folder: Path, about: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a delta tells of the pretrained files that it was made with.

    Of configuration and tokenizer an older one does not tell: its record does, where it lies
    beside.
    """
    facts: dict[str, Any] = about["weights"]
    beside = record_path(folder.absolute().parent, about["run"])
    if "files_sha256" in facts or not is_file(beside):
        return facts
    try:
        theirs = read(beside).weights
    except UserError:
        return facts
    return {**facts, **{k: theirs[k] for k in ("files_sha256",) if k in theirs}}


def _is_whole(about: dict[str, Any]) -> bool:
    """Say whether its parts are of their kinds and its files lie in the folder itself."""
    weights, files = about["weights"], about.get("files", {})
    return (
        isinstance(about["config"], dict)
        and isinstance(about["run"], str)
        and isinstance(weights, dict)
        and "sha256" in weights
        and isinstance(files, dict)
        and all(name == Path(name).name for name in files)
        and isinstance(about["sha256"], str)
        and _are_values(about.get("attributes", {}))
        and _are_rows(about.get("rows", {}))
        and isinstance(about.get("content", ""), str)
        and files.get(about["file"], about["sha256"]) == about["sha256"]
    )


def _are_values(attributes: Any) -> bool:
    """Say whether known values of attributes are lists of texts, each text once."""
    return isinstance(attributes, dict) and all(
        isinstance(values, list)
        and all(isinstance(value, str) for value in values)
        and len(set(values)) == len(values)
        for values in attributes.values()
    )


def _are_rows(rows: Any) -> bool:
    """Say whether what tells the rows that a run learned from is of texts."""
    return isinstance(rows, dict) and all(
        isinstance(one, dict) and all(isinstance(text, str) for text in one.values())
        for one in rows.values()
    )
