"""Chooses where a task's data comes from, and prepares the splits of one run."""

from __future__ import annotations

import os
from pathlib import Path

from methods.method import TrainingText
from results.errors import UserError
from runners.config import Data, Pairs, Protocol, Task
from runners.embedded_data import EMBEDDED_SETS, embedded_pairs, embedded_tasks, read_embedded
from runners.examples import Split, TaskData, check_split, cut_selection, draw
from runners.hub_data import hub_answers, read_hub
from runners.local_data import read_local
from runners.pairs_data import read_hub_pairs, read_pairs
from runners.training_text import read_training_text


def load_task_data(
    task: Task, data: Data, protocol: Protocol, text: TrainingText = "labelled"
) -> TaskData:
    """Read, check, draw and cut the splits of a run, which trains on `text`."""
    if task.kind == "similarity":
        return _load_pairs(task, data, protocol, text)
    source, reason = choose_source(task, data)
    revision = None
    if source == "local":
        train, report = read_local(task, local_folder(task, data), data.malformed_rows == "skip")
    elif source == "hub":
        train, report, revision = read_hub(task, data.revision)
    else:
        train, report = read_embedded(task)
    for split in (train, *report.values()):
        check_split(split, task, f"{source} {split.name}")
    full = {split.name: len(split) for split in (train, *report.values())}
    selection = None
    if data.train_size is not None:
        train = draw(train, data.train_size, data.seed, task, "data.train_size")
        check_split(train, task, f"data.train_size={data.train_size}")
    if data.eval_size is not None:
        report = {
            k: draw(v, data.eval_size, data.seed, task, "data.eval_size") for k, v in report.items()
        }
    complete = {
        split.name: len(split) == task.rows.get(split.name, full[split.name])
        for split in (train, *report.values())
    }
    if protocol.fraction is not None:
        train, selection = cut_selection(train, protocol.fraction, data.seed, task)
    return TaskData(source, reason, revision, train, report, selection, complete)


def _load_pairs(task: Task, data: Data, protocol: Protocol, text: TrainingText) -> TaskData:
    """Read the sets of scored pairs, and text to train on that holds none of their sentences."""
    source, reason = _source_of_pairs(task, data)
    chosen = {**task.pairs, **({"selection": task.selection} if protocol.fraction else {})}
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
    if data.eval_size is not None:
        sets = {
            k: draw(v, min(data.eval_size, len(v)), data.seed, task, "data.eval_size")
            for k, v in sets.items()
        }
    complete = {name: len(v) == task.rows.get(name, full[name]) for name, v in sets.items()}
    train, facts = Split("train", (), None), None
    if text != "nothing":
        evaluated = {
            sentence for split in sets.values() for pair in split.texts for sentence in pair
        }
        train, facts = read_training_text(data, source, text, evaluated)
        if data.train_size is not None:
            train = draw(train, data.train_size, data.seed, task, "data.train_size")
    selection = sets.pop("selection", None)
    revision = ", ".join(f"{name} {commit}" for name, commit in commits.items()) or None
    return TaskData(source, reason, revision, train, sets, selection, complete, facts)


def _source_of_pairs(task: Task, data: Data) -> tuple[str, str]:
    if data.source != "auto":
        return data.source, f"data={data.source}"
    if data.dir or os.environ.get("STS_DIR"):
        return "local", "local files are configured"
    hub = next((files.hub for files in task.pairs.values() if files.hub is not None), None)
    silence = hub_answers(hub) if hub else "no hub data set is named"
    if silence is None:
        return "hub", "the hub answered"
    return "embedded", f"neither data.dir nor STS_DIR is set and {silence}"


def _pairs(task: Task, name: str, files: Pairs, data: Data, source: str) -> Split:
    if source == "embedded":
        return embedded_pairs(name)
    named = data.dir or os.environ.get("STS_DIR")
    if named is None:
        raise UserError("data=local needs data.dir=FOLDER or the environment's STS_DIR")
    folder = Path(named).expanduser()
    if not folder.is_dir():
        raise UserError(f"data.dir={named}: no such folder")
    return read_pairs(task, name, files, folder)


def choose_source(task: Task, data: Data) -> tuple[str, str]:
    """Return the source and why: local if configured, else a hub that answers, else embedded."""
    if data.source != "auto":
        _check_possible(task, data.source)
        return data.source, f"data={data.source}"
    if task.local and (data.dir or os.environ.get("GLUE_DIR") or _stands_alone(task)):
        return "local", "local files are configured"
    if task.hub is None:
        return "local", f"task {task.name} has local files only"
    silence = hub_answers(task.hub.path)
    if silence is None:
        return "hub", "the hub answered"
    if task.name not in embedded_tasks():
        raise UserError(
            f"task={task.name}: no data: data.dir is not set and {silence}; set data.dir=FOLDER (or"
            " GLUE_DIR)"
        )
    return "embedded", f"neither data.dir nor GLUE_DIR is set and {silence}"


def local_folder(task: Task, data: Data) -> Path:
    """Return the folder that local paths are relative to; a missing one is a UserError."""
    named = data.dir or os.environ.get("GLUE_DIR")
    if named is None and _stands_alone(task):
        return Path.cwd()
    if named is None:
        raise UserError("data=local needs data.dir=FOLDER or the environment's GLUE_DIR")
    folder = Path(named).expanduser()
    if not folder.is_dir():
        raise UserError(f"data.dir={named}: no such folder")
    return folder


def _stands_alone(task: Task) -> bool:
    """Tell whether a task has only files of its own: paths are absolute or relative to here."""
    return task.local is not None and task.hub is None and task.name not in embedded_tasks()


def _check_possible(task: Task, source: str) -> None:
    has = {
        "local": task.local is not None,
        "hub": task.hub is not None,
        "embedded": task.name in embedded_tasks(),
    }
    if not has[source]:
        able = [f"data={name}" for name, possible in has.items() if possible]
        raise UserError(
            f"data={source}: task {task.name} has no such source; use {' or '.join(able)}"
        )


def describe(split: Split, complete: bool | None) -> dict[str, object]:
    """Return what the record keeps of a split."""
    facts: dict[str, object] = {"rows": len(split), "sha256": split.sha256}
    if complete is not None:
        facts["complete"] = complete
    if split.skipped_rows:
        facts["skipped_rows"] = split.skipped_rows
    return facts
