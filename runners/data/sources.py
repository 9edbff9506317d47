"""Chooses where a task's data comes from: local files, the hub, or the embedded generator."""

from __future__ import annotations

import os
from pathlib import Path

from results.errors import UserError, nearest
from results.places import expanded
from runners.config.settings import Data
from runners.config.task import Task
from runners.data.embedded.splits import EMBEDDED_SETS, embedded_tasks
from runners.data.hub import hub_answers


def _source_of_pairs(task: Task, data: Data) -> tuple[str, str]:
    generated = bool({*task.pairs} & {*EMBEDDED_SETS})
    if data.source == "embedded" and not generated:
        raise UserError(
            f"data=embedded: task {task.name} has none of the sets that are generated"
            f" ({', '.join(EMBEDDED_SETS)}); use data=local data.dir=FOLDER"
        )
    if data.source != "auto":
        return data.source, f"data={data.source}"
    if data.dir or os.environ.get("STS_DIR"):
        return "local", "local files are configured"
    hub = next((files.hub for files in task.pairs.values() if files.hub is not None), None)
    silence = hub_answers(hub) if hub else "no hub data set is named"
    if silence is None:
        return "hub", "the hub answered"
    if not generated:
        raise UserError(
            f"task={task.name}: no data: data.dir is not set and {silence}; set data.dir=FOLDER (or"
            f" STS_DIR), or keep one of the sets that are generated ({', '.join(EMBEDDED_SETS)})"
        )
    return "embedded", f"neither data.dir nor STS_DIR is set and {silence}"


def choose_source(task: Task, data: Data) -> tuple[str, str]:
    """Return the source and why: local if configured, else a hub that answers, else embedded."""
    if task.generated and task.name not in embedded_tasks():
        raise UserError(
            f"task.generated=true: no data is generated for a task called '{task.name}'"
            f"{nearest(task.name, embedded_tasks())}; give it local.train and local.report instead"
        )
    if data.source != "auto":
        check_possible(task, data.source)
        return data.source, f"data={data.source}"
    if task.local and (data.dir or os.environ.get("GLUE_DIR") or _stands_alone(task)):
        return "local", "local files are configured"
    if task.generated:
        return "embedded", f"task {task.name} is generated only"
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
    if data.dir is None and _stands_alone(task):
        return Path.cwd()
    return named_folder(data.dir, "GLUE_DIR")


def named_folder(named: str | None, variable: str, key: str = "data.dir") -> Path:
    """Return the folder that a key names, else the environment; a missing one is a UserError."""
    place = named or os.environ.get(variable)
    if not place:
        raise UserError(f"data=local needs data.dir=FOLDER or the environment's {variable}")
    folder = Path(expanded(place))
    if not folder.is_dir():
        raise UserError(f"{key if named else variable}={place}: no such folder")
    return folder


def _stands_alone(task: Task) -> bool:
    """Tell whether a task's files need no folder: absolute ones, or those of a task of files only.

    The paths of the latter may also be relative to here.
    """
    if task.local is None:
        return False
    places = (task.local.train, *task.local.report.values())
    only = task.hub is None and task.name not in embedded_tasks()
    return only or all(Path(place).is_absolute() for place in places)


def check_possible(task: Task, source: str) -> None:
    """Refuse a source that a task does not have."""
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
