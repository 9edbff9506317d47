"""Finds the run that labels rows for another, and says what it left, without loading torch."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from results import record as records
from results.errors import UserError
from results.places import expanded
from runners.config.settings import Settings
from runners.config.task import Task
from runners.config.unlabelled import STAGE
from runners.models.learned import answers_of, labelled, seen_by
from runners.models.predecessor import Predecessor, of_stored


def find_teacher(
    settings: Settings, train: str, selection: str | None = None
) -> Predecessor | None:
    """Return the run that data.….teacher names, by record, run or delta; None where none is.

    `train` is the hash of the labelled rows, and `selection` of those that select weights. A run
    that is not finished, or that has other labels, is a UserError; so is one of the same task, or
    of an arm of it, that learned from, or selected by, other rows: these may be among those that it
    is to label.
    """
    named = settings.data.teacher
    if named is None:
        return None
    key = f"data.{settings.data.adds}.teacher"
    where = f"{key}={named}"
    if named == STAGE:
        raise UserError(f"{where}: the run without these rows comes first; name it in its place")
    path = _record_of(expanded(named).rstrip("/"), Path(settings.out), where)
    stored = records.read(path)
    if stored.status != "finished":
        raise UserError(f"{where}: that run is {stored.status}; name one that trained and finished")
    if stored.trained_sha256 is None:
        raise UserError(f"{where}: nothing of that run was trained; name one that trained")
    theirs, task = stored.config.get("task") or {}, settings.task
    if theirs.get("kind") != task.kind or theirs.get("labels") != list(task.labels):
        raise UserError(
            f"{where}: its labels are {theirs.get('labels')}, those of task={task.name}"
            f" {list(task.labels)}; name a run with the same"
        )
    if len(theirs.get("text") or ()) != len(task.text):
        raise UserError(f"{where}: its task has not {len(task.text)} texts, as task={task.name}")
    own = stored.data["splits"].get("train", {}).get("sha256")
    same = {*answers_of({**theirs, "name": stored.task})} & {*answers_of(task.model_dump())}
    if same and own != train:
        raise UserError(
            f"{where}: it learned from other rows of task={min(same)}, perhaps from those that it"
            " is to label; name a run of the same data.train_size and data.seed, or stage"
        )
    selected = stored.data["splits"].get("selection")
    if same and selected is not None and selected["sha256"] != selection:
        raise UserError(
            f"{where}: it chose its weights by rows of task={min(same)}, perhaps by those that it"
            " is to label; name a run of the same protocol="
        )
    before = of_stored(stored, path)
    _check_unseen(where, stored, before, task)
    return before


def check_stage(settings: Settings, start: Predecessor | None) -> None:
    """Refuse what a teacher that is a stage would be refused for once it is trained: its start.

    It starts from the run that the one which it teaches starts from.
    """
    if start is not None:
        where = f"data.{settings.data.adds}.teacher={STAGE} start={settings.start.run}"
        _check_start(where, start.facts["chain"], settings.task)


def _check_start(where: str, chain: Iterable[Mapping[str, Any]], task: Task) -> None:
    """Refuse a teacher that started from runs of which one saw a task's labels."""
    if seen := _labels_of(task) & seen_by(chain):
        raise UserError(
            f"{where}: it started from another run of task={min(seen)}, which may have seen the"
            " labels that are hidden; name a run that did not"
        )


def _labels_of(task: Task) -> set[str]:
    """Return by which names a chain may tell that a task's labels were seen."""
    return {*labelled(task.model_dump())}


def _check_unseen(where: str, stored: records.Record, before: Predecessor, task: Task) -> None:
    """Refuse a run that started from one that saw a task's labels, or was taught by one.

    A teacher of the same task was held to the same rows when it taught.
    """
    _check_start(where, before.chain, task)
    added = stored.data.get("pseudo") or stored.data.get("generated") or {}
    *earlier, last = (added.get("teacher") or {}).get("chain") or [None]
    held = last is None or (stored.task == task.name and last["task"] == task.name)
    if seen := _labels_of(task) & seen_by(earlier if held else [*earlier, last]):
        raise UserError(
            f"{where}: its own teacher came from a run of task={min(seen)}, which may have seen the"
            " labels that are hidden; name a run that did not"
        )


def _record_of(named: str, out: Path, where: str) -> Path:
    """Return the file of a record, of which the delta may be named too."""
    instead = "name a record's file, a run of out=, or stage"
    if named.endswith(".delta"):
        named = f"{named.removesuffix('.delta')}.json"
    return records.find_record(named, out, where.partition("=")[0], instead)
