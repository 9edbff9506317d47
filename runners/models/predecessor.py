"""Finds the run that another starts from, and says what it left, without loading torch."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from results import record as records
from results.errors import UserError
from results.places import expanded
from results.tables.conditions import harness
from runners.config.settings import Settings
from runners.models.about import ABOUT, pretrained_facts, read_about
from runners.models.learned import (
    Rows,
    content_of,
    labelled,
    methods_of,
    rows_of,
    seen_by,
    with_taught,
)
from runners.models.weights import Weights, files_differ

Values = Mapping[str, Sequence[str]]  # of attributes, that a model knows
MODULES, ENCODER = "modules.json", "model.safetensors"  # of a folder of sentence-transformers


@dataclass(frozen=True)
class Predecessor:
    """A finished run that another starts from.

    `sha256` is that of its trained tensors. `chain` tells the runs before it, the first one first.
    `folder` is where its delta lies, if it is still there. `config` is its own, and `weights` the
    facts of the pretrained files that it started from. One that is `exported` left its encoder as a
    folder of sentence-transformers, whose hash is then `sha256`. `taught` are the tasks whose
    labels its teacher saw. `rows` tell what it learned from, where that is known, and `content` is
    a hash of that and of the code's versions.
    """

    run: str
    sha256: str
    chain: tuple[dict[str, Any], ...]
    folder: Path
    config: Mapping[str, Any]
    weights: Mapping[str, Any]
    exported: bool = False
    taught: tuple[str, ...] = ()
    rows: Rows | None = None
    content: str | None = None

    @property
    def facts(self) -> dict[str, Any]:
        """Return what a record, and a delta, say of it.

        Each run of the chain is told with its task, its methods, and a hash of its settings without
        the seed, by which tables know that the seeds of a row come by one way, as they do by that
        of its `content`, which older runs do not tell. `labelled` are the tasks whose labels it
        saw, its own or its teacher's, and `rows` tell their rows.
        """
        methods = "+".join(method["name"] for method in methods_of(self.config))
        own = {
            "run": self.run,
            "task": chain_name(self.config["task"]),
            "methods": methods,
            "settings": _hash_settings(self.config),
            **({} if self.content is None else {"content": self.content}),
            "labelled": sorted({*labelled(self.config["task"]), *self.taught}),
            **({} if self.rows is None else {"rows": with_taught(self.rows, self.taught)}),
        }
        return {"run": self.run, "sha256": self.sha256, "chain": [*self.chain, own]}

    def delta(self, key: str = "start") -> Path:
        """Return the folder of its delta, which `key` asks for; where it is gone, a UserError."""
        if not (self.folder / ABOUT).is_file():
            raise UserError(
                f"{key}={self.run}: its weights were not kept in {self.folder}; run it again with"
                " save=delta"
            )
        return self.folder


def chain_name(task: Mapping[str, Any]) -> str:
    """Return what a chain calls a task: with the tasks that it reads or mixes, where it does.

    A control on shuffled words, and another way of masking, are told apart.
    """
    mlm = task.get("mlm") or {}
    of = (task.get("mixture") or {}).get("of") or mlm.get("on") or []
    words = ["+".join(of)] if of else []
    words += [mlm["mask"].replace("_", " ")] if mlm.get("mask", "token") != "token" else []
    words += ["shuffled"] if mlm.get("shuffle") else []
    return str(task["name"]) + (f"({', '.join(words)})" if words else "")


_NOT_SETTINGS = ("seed", "device", "start", "save", "method")
_PLACES = ("dir", "glue_dir", "text")


def _hash_settings(config: Mapping[str, Any]) -> str:
    """Hash a run's configuration without its seed, and without where its data lie."""
    settings = {k: v for k, v in config.items() if k not in _NOT_SETTINGS}
    settings["data"] = {k: v for k, v in settings["data"].items() if k not in _PLACES}
    for section in ("pseudo", "generated"):
        if options := settings["data"].get(section):
            own = {k: v for k, v in options.items() if k not in ("teacher", "generator")}
            settings["data"][section] = own
    settings["task"] = {k: v for k, v in settings["task"].items() if k != "rows_of"}  # came later
    settings["model"] = settings["model"]["name"]  # its files have hashes of their own
    settings["method"] = [
        {k: v for k, v in method.items() if k != "version"} for method in methods_of(config)
    ]
    text = json.dumps(settings, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:8]


def find_predecessor(settings: Settings, weights: Weights) -> Predecessor | None:
    """Return the run that `start=` names, by record, run or delta; None where it names none.

    One that is not finished, or does not fit this run, is a UserError.
    """
    named = settings.start.run
    if named is None:
        if settings.start.head == "keep":
            raise UserError("start.head=keep goes with start=RUN, whose head is kept")
        if settings.start.freeze:
            raise UserError("start.freeze=true goes with start=RUN, whose encoder is frozen")
        return None
    folder = Path(expanded(named))
    if (folder / MODULES).is_file():
        before = _of_export(named, folder)
    else:
        before = _of_delta(named, folder) if folder.is_dir() else _of_record(named, settings.out)
    task = before.config.get("task") or {}
    check_fits(f"start={named}", before.weights, task, settings, weights)
    return before


def check_fits(
    where: str,
    theirs: Mapping[str, Any],
    task: Mapping[str, Any],
    settings: Settings,
    weights: Weights,
) -> None:
    """Refuse a start from a run of other pretrained files, or with a head that cannot be kept.

    `theirs` are the facts of its pretrained files, and `task` is its own.
    """
    if theirs.get("sha256") != weights.sha256:
        raise UserError(
            f"{where}: it was trained from {theirs.get('name_or_path')} (sha256"
            f" {str(theirs.get('sha256'))[:12]}), and this run is of {weights.name_or_path}"
            f" ({weights.sha256[:12]}): choose the same model="
        )
    if files_differ(theirs, weights):
        raise UserError(
            f"{where}: it was trained with another configuration or tokenizer than"
            f" {weights.name_or_path} has now (sha256 of these files"
            f" {str(theirs['files_sha256'])[:12]}, now {weights.files_sha256[:12]}): choose the"
            " same model="
        )
    if settings.start.head == "keep":
        _check_labels(where, task, settings)


def check_attributes(where: str, theirs: Values, own: Values) -> None:
    """Refuse a start from a run whose model knows other values of attributes than this one's."""
    if theirs and own and theirs != own:
        raise UserError(
            f"{where}: its train has other values of {', '.join(theirs)} than this run's, so that"
            " rows of their tables would change places; start from a run of the same rows"
        )


def _of_record(named: str, out: str) -> Predecessor:
    path = records.find_record(named, Path(out), "start")
    stored = records.read(path)
    if stored.status != "finished":
        raise UserError(f"start={named}: that run is {stored.status}; name a finished one")
    if stored.trained_sha256 is None:
        raise UserError(f"start={named}: nothing of that run was trained; leave start= out")
    return of_stored(stored, path)


def of_stored(stored: records.Record, path: Path) -> Predecessor:
    """Return a finished run that trained something, by its record at `path`."""
    assert stored.trained_sha256 is not None
    chain = tuple((stored.weights.get("start") or {}).get("chain", ()))
    folder = path.with_name(f"{stored.run}.delta")
    added = stored.data.get("pseudo") or stored.data.get("generated") or {}
    return Predecessor(
        stored.run, stored.trained_sha256, chain, folder, stored.config, stored.weights,
        taught=_taught_by(added.get("teacher")), rows=_rows_of(stored),
        content=_content_of(stored),
    )  # fmt: skip


def _content_of(stored: records.Record) -> str:
    return content_of(stored.config, stored.data, harness(stored))


def _rows_of(stored: records.Record) -> Rows:
    """Return what a record tells of the rows that its run learned from."""
    splits = {**stored.data["splits"]}
    splits |= {f"{name}/train": part for name, part in stored.data.get("parts", {}).items()}
    hashes = {name: facts["sha256"] for name, facts in splits.items()}
    task, data = stored.config["task"], stored.config.get("data") or {}
    return rows_of(task, data, stored.data.get("source"), hashes)


def _taught_by(teacher: Mapping[str, Any] | None) -> tuple[str, ...]:
    """Return the tasks whose labels a teacher saw, by its facts; none where there was none."""
    return tuple(sorted(seen_by((teacher or {}).get("chain", ()))))


def _of_export(named: str, folder: Path) -> Predecessor:
    record, encoder = folder.with_suffix(".json"), folder / ENCODER
    if not record.is_file() or not encoder.is_file():
        raise UserError(
            f"start={named}: {record.name} is not beside it, or {ENCODER} not in it; name the"
            " folder that save=sentence-transformers wrote, or take it as the pretrained model by"
            " model.name_or_path="
        )
    before = _of_record(str(record), str(folder.parent))
    return replace(before, sha256=_sha256(encoder), folder=folder, exported=True)


def _sha256(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def as_started(record: Path, facts: Mapping[str, Any]) -> Path:
    """Return by what path a run goes on again from the one with this record.

    `facts` are what its own record tells of that. Of a record and a folder of sentence-transformers
    it is the one that has the hash told.
    """
    folder = record.with_suffix(".sentence-transformers")
    encoder = folder / ENCODER
    return folder if encoder.is_file() and _sha256(encoder) == facts.get("sha256") else record


def _of_delta(named: str, folder: Path) -> Predecessor:
    about = read_about(folder, "start")
    beside = records.record_path(folder.parent, str(about["run"]))
    data = about["config"].get("data") or {}
    taught = any((data.get(name) or {}).get("teacher") for name in ("pseudo", "generated"))
    unsaid = {"trained_sha256": "what was trained"}
    unsaid |= {"teacher": "whose labels its teacher saw"} if taught else {}
    unsaid = {key: what for key, what in unsaid.items() if key not in about}
    if unsaid and beside.is_file():  # a delta of before it held that
        return replace(_of_record(str(beside), str(folder.parent)), folder=folder)
    if unsaid:
        raise UserError(
            f"start={named}: it does not say {' and '.join(unsaid.values())}, as its record is not"
            " beside it; save the delta again"
        )
    chain, rows = tuple((about.get("start") or {}).get("chain", ())), about.get("rows")
    content = about.get("content")
    if (rows is None or content is None) and beside.is_file():  # a delta of before it held these
        stored = records.read(beside)
        rows, content = _rows_of(stored) if rows is None else rows, _content_of(stored)
    return Predecessor(
        str(about["run"]), str(about["trained_sha256"]), chain, folder, about["config"],
        pretrained_facts(folder, about), taught=_taught_by(about.get("teacher")), rows=rows,
        content=content,
    )  # fmt: skip


def _check_labels(where: str, task: Mapping[str, Any], settings: Settings) -> None:
    """Refuse to keep a head that answers another question."""
    own = settings.task.model_dump()
    if _head_of(task) != _head_of(own):
        what = "tasks" if task.get("mixture") else "scores" if task.get("range") else "labels"
        raise UserError(
            f"{where} start.head=keep: its {what} are {_answers(task)}, those of"
            f" task={own['name']} {_answers(own)}; leave start.head out: the head is then"
            " drawn, and one that predicts masked tokens comes along for a method that reads it"
        )


def _head_of(task: Mapping[str, Any]) -> list[Any]:
    """Return what a head answers: kind and labels or range, of a mixture each task's in order."""
    if mixture := task.get("mixture"):
        return [[name, _head_of(mixture["tasks"][name])] for name in mixture["of"]]
    return [task.get("kind"), task.get("labels"), task.get("range")]


def _answers(task: Mapping[str, Any]) -> str:
    """Return in words what a task answers with."""
    if mixture := task.get("mixture"):
        return ", ".join(f"{name} {_answers(mixture['tasks'][name])}" for name in mixture["of"])
    if scores := task.get("range"):
        return f"from {scores[0]} to {scores[1]}"
    return str(task.get("labels"))
