"""The columns of a table: which part of a record stands in which, and what tells them apart."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

from results.record import Record
from results.rescored import each_slice, part_of
from results.tables.conditions import drawn, draws_by_seed, makes_vectors
from results.tables.labels import READ_BY, arm_of, read_by_filter
from results.tables.leaves import HASH, apart, effective, leaves, short, typed

TASK_ORDER = (
    *("cola", "sst2", "mrpc", "stsb", "qqp", "mnli", "qnli", "rte", "wnli"),
    *("STS12", "STS13", "STS14", "STS15", "STS16", "STS-B", "SICK-R"),
)


# What of a task that was trained on a score on another's set depends on.
_TRAINED = ("version", "kind", "text", "options", "labels")


def rank(task: str) -> tuple[int, str]:
    return (TASK_ORDER.index(task) if task in TASK_ORDER else len(TASK_ORDER), task)


def by_column(record: Record) -> list[Record]:
    """Return a record for each column that a run has a place in."""
    if makes_vectors(record):
        return _by_set(record)
    return _by_task(record) or [*_with_further_apart(record), *_slices(record)]


def _by_task(record: Record) -> list[Record]:
    """Return a mixture's record as one for each task; each bears its share of the time.

    Of any other record there is none.
    """
    of_run = record.config.get("task") or {}
    definitions = (of_run.get("mixture") or {}).get("tasks", {})
    parts = {t: facts for t, facts in record.data.get("parts", {}).items() if t in definitions}
    splits, seconds = record.data["splits"], record.training_seconds
    definition = effective(of_run, "task")
    if definition.get("task.kind") == "mixture":  # as it was called first
        definition["task.kind"] = "multitask"
    mixed = {"": definition} | {
        name: {"train": _learned(record, train), **effective(definitions[name], "task")}
        for name, train in parts.items()
    }
    each = []
    for task, train in parts.items():
        definition = definitions[task]
        names = {n: n.partition("/")[2] for n in splits if n.partition("/")[0] == task}
        scores = {names[n]: metrics for n, metrics in record.scores.items() if n in names}
        own = {k: m for k, m in scores.items() if k not in definition.get("diagnostics", {}) and m}
        means = [fmean(metrics.values()) for metrics in own.values()]
        each.append(
            dataclasses.replace(
                record,
                task=task,
                score=fmean(means) if means else None,
                scores=scores,
                predictions={names[n]: p for n, p in record.predictions.items() if n in names},
                config={**record.config, "task": definition},
                data={
                    **record.data,
                    "mixed": _hash(mixed),
                    "splits": {"train": train, **{own: splits[n] for n, own in names.items()}},
                },
                train_seconds=None if seconds is None else seconds / len(parts),
                preparation_seconds=None,
            )
        )
    return each


def _with_further_apart(record: Record) -> list[Record]:
    """Return a record, and one for each set of another task that it reported at no further cost."""
    task = record.config.get("task")
    sets = task.get("further", {}) if isinstance(task, dict) else {}
    if not (isinstance(task, dict) and sets):
        return [record]
    own = {key: value for key, value in task.items() if key in _TRAINED}
    splits = record.data["splits"]
    parts = [
        dataclasses.replace(
            record,
            scores={k: v for k, v in record.scores.items() if k not in sets},
            data={**record.data, "splits": {k: v for k, v in splits.items() if k not in sets}},
        )
    ]
    for name in (name for name in sets if record.scores.get(name)):
        column = f"{name} by {record.task}"
        answers: dict[str, Any] = {"merge": sets[name].get("merge", {}), "by": own}
        answers |= _scored_otherwise(sets[name]["definition"], record.scores[name])
        arm = arm_of(record)
        answers["arm_of"] = None if arm is None else f"{name} by {arm}"
        parts.append(
            dataclasses.replace(
                record,
                task=column,
                score=fmean(record.scores[name].values()),
                scores={name: record.scores[name]},
                config={
                    **record.config,
                    "task": {**sets[name]["definition"], "name": column, **answers},
                },
                data={
                    **record.data,
                    "splits": {k: v for k, v in splits.items() if k in ("train", name)},
                },
                train_seconds=0.0,
                preparation_seconds=None,
            )
        )
    return parts


def _scored_otherwise(definition: Mapping[str, Any], scores: Mapping[str, float]) -> dict[str, Any]:
    """Return a set's metrics where they are not its task's: a diagnostic one has its own.

    Once it had them only where the run called it as its own task does.
    """
    return {} if {*definition.get("metrics", scores)} == {*scores} else {"own_metrics": [*scores]}


def _slices(record: Record) -> list[Record]:
    """Return a record for the rows with seen attributes, and one for the others.

    Sets of other tasks are no part of them. Each says of which part it is (`slice`), and its column
    is of the rows that are unseen: an arm may have learned from rows that hold other values.
    """
    task = record.config.get("task")
    if not isinstance(task, dict):
        return []
    apart = {*task.get("diagnostics", {}), *task.get("further", {})}
    parts: dict[str, dict[str, Mapping[str, float]]] = {}
    for split, part, scores in each_slice(record.slices):
        if split not in apart and scores:
            parts.setdefault(part, {})[split] = scores
    of_arm = arm_of(record)
    rows = {split: kept["unseen"] for split, kept in record.slices.items() if split not in apart}
    # Each seed that drew its own rows of train has its own unseen ones, in one column.
    same = {} if draws_by_seed(record) else {"unseen": _hash(rows)[:HASH]}
    return [
        dataclasses.replace(
            record,
            task=f"{record.task} {part}",
            score=fmean(fmean(scores.values()) for scores in own.values()),
            scores={split: dict(scores) for split, scores in own.items()},
            predictions={split: part_of(record, split, part) for split in own},
            slices={},
            logits_sha256=None,  # those are of the whole split
            config={
                **record.config,
                "task": {
                    **task,
                    **same,
                    **({} if of_arm is None else {"arm_of": f"{of_arm} {part}"}),
                    "name": f"{record.task} {part}",
                },
            },
            data={
                **record.data,
                "slice": part,
                "splits": {k: v for k, v in record.data["splits"].items() if k not in apart},
            },
            train_seconds=0.0,
            preparation_seconds=None,
        )
        for part, own in sorted(parts.items())
    ]


def _by_set(record: Record) -> list[Record]:
    """Return a record of sentence vectors as one for each set; each bears its share of the time."""
    sets = [name for name in record.data["splits"] if name not in ("train", "selection")]
    seconds = record.training_seconds
    text = record.data.get("text")
    if text is not None:  # of which data.train_size may have drawn a part
        train = record.data["splits"].get("train", {})
        sha256 = _learned(record, train) if train else None
        text = {**text, "rows": train.get("rows", text["rows"]), "sha256": sha256}
    parts = []
    for name in sets:
        values = list(record.scores.get(name, {}).values())
        parts.append(
            dataclasses.replace(
                record,
                task=name,
                score=fmean(values) if values else None,
                scores={name: record.scores[name]} if name in record.scores else {},
                data={
                    **record.data,
                    "splits": {name: record.data["splits"][name]},
                    "text": text,
                },
                train_seconds=None if seconds is None else seconds / len(sets),
                preparation_seconds=None,
            )
        )
    return parts


def _hash(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


@dataclass(frozen=True, order=True)
class Column:
    """What the scores of a column share: the task, the contents of its splits, its definition."""

    task: str
    splits: tuple[tuple[str, str], ...]
    definition: tuple[tuple[str, str], ...]

    @property
    def facts(self) -> dict[str, str]:
        hashes = {f"{name}.sha256": short(sha256) for name, sha256 in self.splits}
        return {**dict(self.definition), **hashes}


@dataclass(frozen=True)
class Columns:
    """The name of each run's column of a task, and what stands under the table of some."""

    name_of: dict[tuple[str, str], str]
    marks: dict[str, str]


def columns_of(records: Sequence[Record]) -> Columns:
    """Name the columns of comparable records: by the task, the later ones of one task numbered.

    A mark says of which rows a drawn split is, and what tells columns of one task apart.
    """
    column_of = _by_run(records)
    names: dict[Column, str] = {}
    for column in sorted({*column_of.values()}, key=lambda c: (rank(c.task), c)):
        same = sum(1 for c in names if c.task == column.task)
        names[column] = column.task if not same else f"{column.task}#{same + 1}"
    name_of = {run: names[column] for run, column in column_of.items()}
    subsets: dict[str, str] = {}
    for record in records:
        name = name_of[record.run, record.task]  # one draw, whether or not each record says it
        subsets[name] = max(subsets.get(name, ""), _subset(record), key=len)
    differs = _differs(names, records, name_of)
    marks = {n: "; ".join(filter(None, (subsets[n], differs.get(n)))) for n in subsets}
    return Columns(name_of, {name: mark for name, mark in marks.items() if mark})


def task_of(column: str) -> str:
    """Return the task of a column, which of several columns of one task has a number."""
    return column.partition("#")[0]


def _subset(record: Record) -> str:
    splits = record.data["splits"]
    partial = any(facts.get("complete") is False for facts in splits.values())
    if not partial or record.data["source"] == "embedded" or _has_more_rows(record):
        return ""
    rows = [f"{name} {facts['rows']:,}{drawn(record, name)}" for name, facts in splits.items()]
    return f"subset: {', '.join(rows)}"


def _differs(
    names: dict[Column, str], records: Sequence[Record], name_of: dict[tuple[str, str], str]
) -> dict[str, str]:
    """Return what tells columns of one task apart: definitions, contents, and how they came."""
    by_task: dict[str, list[Column]] = defaultdict(list)
    for column in names:
        by_task[column.task].append(column)
    data = {name_of[r.run, r.task]: r.config.get("data") for r in records}
    words = {}
    for columns in by_task.values():
        if len(columns) < 2:
            continue
        facts = apart([column.facts for column in columns])
        read = apart([{k: typed(v) for k, v in leaves(data[names[c]], "data")} for c in columns])
        for column, own, drawing in zip(columns, facts, read, strict=True):
            known = own | {k: v for k, v in drawing.items() if k in _DRAWN}
            words[names[column]] = ", ".join(f"{k}={v}" for k, v in sorted(known.items()))
    return words


# What draws other rows of the same files.
_DRAWN = (
    *("data.train_size", "data.eval_size", "data.shots", "data.seed", "data.balanced"),
    "data.malformed_rows",
)


def _column(record: Record) -> Column:
    splits = {**record.data["splits"], **_in_place_of(record)}
    hashes = {name: facts["sha256"] for name, facts in splits.items()}
    if _has_more_rows(record):
        hashes["train"] = record.config["control"]["train"]
    elif draws_by_seed(record):  # other rows with each seed, which are of one column
        learned = {"train", "selection"} & hashes.keys()
        hashes |= {name: _learned(record, splits[name]) for name in learned}
    definition = effective(record.config.get("task"), "task")
    definition |= _range_as_answer(record)
    if section := read_by_filter(record):  # which a row names
        definition = {k: v for k, v in definition.items() if not k.startswith(f"task.{section}.")}
    return Column(record.task, tuple(sorted(hashes.items())), tuple(sorted(definition.items())))


def _range_as_answer(record: Record) -> dict[str, str]:
    """Return the range of scores where a method makes its answer of it, as one that reads words."""
    task = record.config.get("task")
    if not (isinstance(task, dict) and task.get("prompt") and task.get("range")):
        return {}
    return {"task.prompt.range": typed(task["range"])}


def _in_place_of(record: Record) -> dict[str, Any]:
    """Return what a run on mined rows would have learned from: it is compared with those."""
    mined = record.data.get("mined") or {}
    return dict(mined.get("in_place_of", {}))


def _learned(record: Record, split: dict[str, Any]) -> str:
    """Return what runs share that learned from a split: its contents, or how each drew its own."""
    if not draws_by_seed(record):
        return str(split["sha256"])
    balanced = record.config["data"].get("balanced", "all")
    pool = record.data.get("drawn_from")
    if shots := record.config["data"].get("shots"):
        return f"{shots} of each class of {pool} by seed"
    return f"{split['rows']} of {pool} by seed, balanced {balanced}"


def _by_run(records: Sequence[Record]) -> dict[tuple[str, str], Column]:
    """Return the column of each run and task.

    An arm stands in that of the task which it is an arm of, where there is one of its report.
    """
    own = _read_alike({(r.run, r.task): _column(r) for r in records})
    same: dict[tuple[str | None, object], set[Column]] = defaultdict(set)
    for r in records:
        if arm_of(r) is None:
            same[r.task, _reported(own[r.run, r.task])].add(own[r.run, r.task])
    for r in records:
        if len(of_arm := same.get((arm_of(r), _reported(own[r.run, r.task])), set())) == 1:
            [own[r.run, r.task]] = of_arm
    return own


# What of a task only some methods read: their records alone have it.
_READ = tuple(f"task.{section}." for section in READ_BY.values())


def _read_alike(columns: dict[tuple[str, str], Column]) -> dict[tuple[str, str], Column]:
    """Let runs that read such a section stand beside those that do not, where all read the same."""
    read: dict[tuple[str, str], set[tuple[tuple[str, str], ...]]] = defaultdict(set)
    for column in columns.values():
        for section in _READ:
            if own := tuple(leaf for leaf in column.definition if leaf[0].startswith(section)):
                read[column.task, section].add(own)
    alike = {(task, section) for (task, section), each in read.items() if len(each) == 1}

    def said(column: Column) -> Column:
        passed = tuple(section for section in _READ if (column.task, section) in alike)
        kept = tuple(leaf for leaf in column.definition if not leaf[0].startswith(passed))
        return dataclasses.replace(column, definition=kept) if passed else column

    return {run: said(column) for run, column in columns.items()}


def _reported(column: Column) -> object:
    """Return what an arm shares with its task: how it is scored, and on what."""
    reported = (s for s in column.splits if s[0] not in ("train", "selection"))
    return tuple(reported), column.definition


def _has_more_rows(record: Record) -> bool:
    """Say whether a run had as many rows as a chain has; it is compared with those that had not."""
    return (record.config.get("control") or {}).get("equal") == "data"
