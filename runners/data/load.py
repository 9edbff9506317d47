"""Chooses where a task's data comes from, and prepares the splits of one run."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import Any

from methods.method import TrainingText
from results.errors import UserError
from runners.config.settings import Data, Protocol, Settings
from runners.config.task import Pairs, Task
from runners.data.corpus import read_training_text
from runners.data.embedded.splits import (
    EMBEDDED_SETS,
    embedded_pairs,
    read_embedded,
)
from runners.data.evaluated import Evaluated
from runners.data.few_shots import few_shots
from runners.data.further import read_further
from runners.data.hub import read_hub
from runners.data.lines import load_lines
from runners.data.local import read_local
from runners.data.mine import draw_mined, mine
from runners.data.mixture import load_mixture
from runners.data.pairs import read_hub_pairs, read_pairs
from runners.data.sources import _source_of_pairs, choose_source, local_folder, named_folder
from runners.data.split import (
    Label,
    Split,
    TaskData,
    check_split,
    count_overlap,
    cut_selection,
    draw,
    further_rows,
)
from runners.data.unanswered import local_test_sets
from runners.data.unlabelled import offered_rows

_OF_PAIRS = (
    "to train on its pairs type method.simcse.mode=supervised, or promptbert's; for sentences "
)


def load_task_data(
    task: Task, data: Data, protocol: Protocol, text: TrainingText = "labelled", seed: int = 0
) -> TaskData:
    """Read, check, draw and cut the splits of a run of that seed, which trains on `text`."""
    if task.facts.vectors:
        return _load_pairs(task, data, protocol, text, seed)
    if task.mixture is not None:
        return load_mixture(task, data, protocol, partial(load_task_data, seed=seed))
    if task.mlm is not None:
        return load_lines(task, data, protocol, seed)
    source, reason = choose_source(task, data)
    train, report, revision = _read(task, data, source)
    hub = None if task.hub is None else task.hub.path
    for name, further in task.further.items():
        report[name] = read_further(name, further, data, source, hub)
    whole, all_mined, mined, scored = train, None, None, [*report.values()]
    if source == "local" and (data.mine.source or data.adds):
        scored += local_test_sets(task, local_folder(task, data))
    if data.mine.source is not None:
        all_mined, facts = mine(task, data, train, _evaluated(scored))
        whole, counts = draw_mined(task, data, all_mined, data.train_seed(seed))
        mined = {**facts, **counts}
        if (data.train_size or 0) <= len(train):  # else no run on the task's own rows is like it
            with contextlib.suppress(UserError):  # nor where train has too few in another way
                mined |= {"in_place_of": _rows_of(*_learned_of(train, task, data, protocol, seed))}
    full = {split.name: len(split) for split in (whole, *report.values())}
    whole_labels = _labels_drawn_from(data, [whole], [*report.values()])
    pool = train.sha256 if data.seed == "seed" else None
    train, selection = _learned_of(whole, task, data, protocol, seed)
    if data.eval_size is not None:
        balanced = data.balanced == "all"
        report = {
            k: draw(v, data.eval_size, data.report_seed, task, "data.eval_size", balanced)
            for k, v in report.items()
        }
    cut_off = selection is not None and protocol.rows is None and data.shots is None
    cut = len(selection) if selection is not None and cut_off else 0
    complete = {
        name: rows == _published(task, name, full[name])
        for name, rows in [
            ("train", len(train) + cut),
            *((name, len(split)) for name, split in report.items()),
        ]
    }
    if mined is not None:
        complete["train"] = False
    learned = [train] if selection is None else [train, selection]
    scored += learned[1:]
    offered = None
    if data.adds == "pseudo":
        offered = offered_rows(whole, task, data, protocol, seed, _evaluated(scored))
    evaluated = _evaluated(scored) if data.adds == "generated" else None
    report = {name: count_overlap(split, learned) for name, split in report.items()}
    selection = None if selection is None else count_overlap(selection, [train])
    return TaskData(
        source, reason, revision, train, report, selection, complete,
        drawn_from=pool, whole_labels=whole_labels, offered=offered,
        evaluated=evaluated, mined=mined, all_mined=all_mined,
    )  # fmt: skip


def filtered(own: TaskData, settings: Settings, stays: Sequence[bool]) -> TaskData:
    """Return a run's data with draws from those of its mined rows that stay."""
    task, data, seed = settings.task, settings.data, settings.seed
    assert own.all_mined is not None
    whole, counts = draw_mined(task, data, own.all_mined, data.train_seed(seed), stays)
    train, selection = _learned_of(whole, task, data, settings.protocol, seed)
    labels = own.whole_labels | _labels_drawn_from(data, [whole], [])
    mined = {k: v for k, v in (own.mined or {}).items() if k not in counts} | counts
    return replace(own, train=train, selection=selection, whole_labels=labels, mined=mined)


def _read(task: Task, data: Data, source: str) -> tuple[Split, dict[str, Split], str | None]:
    """Return a task's own splits, checked, and the hub's commit."""
    revision = None
    if source == "local":
        skip = data.malformed_rows == "skip"
        train, report = read_local(task, local_folder(task, data), skip, data.report_seed)
    elif source == "hub":
        train, report, revision = read_hub(task, data.revision)
    else:
        train, report = read_embedded(task)
    for split in (train, *report.values()):
        check_split(split, task, f"{source} {split.name}")
    return train, report, revision


def _evaluated(scored: list[Split]) -> Evaluated:
    return Evaluated(texts for split in scored for texts in split.texts)


def _learned_of(
    train: Split, task: Task, data: Data, protocol: Protocol, seed: int
) -> tuple[Split, Split | None]:
    """Return what a run learns from: the rows to train on, and those that select weights."""
    selection = None
    if data.shots is not None:
        selects = protocol.fraction is not None
        train, selection = few_shots(train, data.shots, data.train_seed(seed), task, selects)
    elif protocol.rows is not None:
        selection = _further(train, task, data, protocol.rows, seed)
    if data.train_size is not None:
        balanced = data.balanced != "none"
        train = draw(
            train, data.train_size, data.train_seed(seed), task, "data.train_size", balanced
        )
        check_split(train, task, f"data.train_size={data.train_size}")
    if protocol.fraction is not None and selection is None:
        train, selection = cut_selection(train, protocol.fraction, data.train_seed(seed), task)
    return train, selection


def _rows_of(train: Split, selection: Split | None) -> dict[str, Any]:
    """Return what tells in which column a run on these rows stands."""
    each = [train] if selection is None else [train, selection]
    return {split.name: {"rows": len(split), "sha256": split.sha256} for split in each}


def _labels_drawn_from(
    data: Data, train: list[Split], report: list[Split]
) -> dict[str, tuple[Label, ...]]:
    """Return the labels of the splits that parts are to be drawn of."""
    drawn = [*(train if data.train_size or data.shots else []), *(report if data.eval_size else [])]
    return {split.name: split.labels for split in drawn if split.labels is not None}


def _further(train: Split, task: Task, data: Data, rows: int, seed: int) -> Split:
    size = len(train) if data.train_size is None else data.train_size
    return further_rows(train, size, data.train_seed(seed), task, data.balanced != "none", rows)


def _published(task: Task, split: str, rows: int) -> int:
    """Return the rows of the published split, those that are there where none are known."""
    if (further := task.further.get(split)) is None:
        return task.rows.get(split, rows)
    theirs = further.definition
    return rows if theirs is None else theirs.rows.get(further.own_split, rows)


def _load_pairs(
    task: Task, data: Data, protocol: Protocol, text: TrainingText, seed: int
) -> TaskData:
    """Read the sets of scored pairs, and text to train on that holds none of their sentences."""
    source, reason = _source_of_pairs(task, data)
    chosen = {**task.pairs, **({"selection": task.selection} if protocol.fraction else {})}
    if protocol.rows is not None:
        raise UserError(
            f"protocol.rows={protocol.rows}: task {task.name} selects by a set of its own"
        )
    if protocol.fraction and task.selection is None:
        raise UserError(f"protocol=select: task {task.name} has no set to select by")
    sets: dict[str, Split] = {}
    commits: dict[str, str | None] = {}
    for name, files in chosen.items():
        if files is None or (source == "embedded" and name not in (*EMBEDDED_SETS, "selection")):
            continue
        if source == "hub":
            sets[name], commits[name] = read_hub_pairs(task, name, files, data.revision)
        else:
            sets[name] = _pairs(task, name, files, data, source)
    full = {name: len(split) for name, split in sets.items()}
    whole_labels = _labels_drawn_from(data, [], [*sets.values()])
    if data.eval_size is not None:
        sets = {
            k: draw(v, min(data.eval_size, len(v)), data.report_seed, task, "data.eval_size")
            for k, v in sets.items()
        }
    complete = {name: len(v) == task.rows.get(name, full[name]) for name, v in sets.items()}
    train, facts, pool = Split("train", (), None), None, None
    if text != "nothing":
        evaluated = {
            sentence for split in sets.values() for pair in split.texts for sentence in pair
        }
        train, facts = read_training_text(data, source, text, evaluated, _OF_PAIRS)
        pool = train.sha256 if data.seed == "seed" else None
        if data.train_size is not None:
            train = draw(train, data.train_size, data.train_seed(seed), task, "data.train_size")
    selection = sets.pop("selection", None)
    revision = ", ".join(f"{name} {commit}" for name, commit in commits.items()) or None
    return TaskData(
        source, reason, revision, train, sets, selection, complete, facts,
        drawn_from=pool, whole_labels=whole_labels,
    )  # fmt: skip


def _pairs(task: Task, name: str, files: Pairs, data: Data, source: str) -> Split:
    if source == "embedded":
        return embedded_pairs(name)
    return read_pairs(task, name, files, named_folder(data.dir, "STS_DIR"))


def describe_all(data: TaskData) -> dict[str, dict[str, object]]:
    """Return what the record keeps of every split."""
    complete = data.complete or {}
    return {name: describe(split, complete.get(name)) for name, split in data.splits().items()}


def describe(split: Split, complete: bool | None) -> dict[str, object]:
    """Return what the record keeps of a split."""
    facts: dict[str, object] = {"rows": len(split), "sha256": split.sha256}
    if complete is not None:
        facts["complete"] = complete
    if split.skipped_rows:
        facts["skipped_rows"] = split.skipped_rows
    if split.also_in_train:
        facts["also_in_train"] = split.also_in_train
    return facts
