"""Reads test sets, which have texts and no answers: GLUE's, as its server wants them answered.

Each is named in a task's `test`. Rows are counted as the card of nyu-mll/glue on the hub counts
them (`num_examples`); a set with other rows is refused, as the server would be given answers to
something else.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from pathlib import Path

import yaml

from results.errors import UserError
from runners.config.settings import Data
from runners.config.task import Task, Unanswered
from runners.data.files import place_of, read_rows, unlike
from runners.data.hub import NoSuchSplit, hub_commit, read_hub_texts
from runners.data.sources import choose_source, local_folder
from runners.data.split import Split
from runners.root import CONFIGS

Texts = tuple[tuple[str, ...], ...]
NUMBERS = ("index", "id")  # what test files call the column that counts their rows from 0


@cache
def tasks_with_tests() -> Mapping[str, Task]:
    """Return the shipped tasks that have test sets, by name."""
    files = sorted((CONFIGS / "task").glob("*.yaml"))
    contents = [yaml.safe_load(path.read_text(encoding="utf-8")) for path in files]
    tasks = [Task.model_validate(content) for content in contents if "test" in content]
    return {task.name: task for task in tasks}


def read_unanswered(task: Task, data: Data) -> tuple[dict[str, Texts], dict[str, str]]:
    """Return the texts of a task's test sets that are there, and where the others are not.

    With data.eval_size, a set has its first rows only.
    """
    source, reason = choose_source(task, data)
    if source == "embedded":
        raise UserError(
            f"task={task.name}: {reason}, and no test set is generated; type data=local"
            " data.dir=GLUE, or data=hub"
        )
    folder = local_folder(task, data) if source == "local" else None
    commit = hub_commit(task.hub.path, data.revision) if task.hub and folder is None else None
    sets: dict[str, Texts] = {}
    absent: dict[str, str] = {}
    for name, one in task.test.items():
        if folder is not None:
            place, where = folder / one.local, f"task={task.name}: {folder / one.local}"
            if not place.is_file():
                absent[name] = str(place)
                continue
            texts = _read_local(task, place, where)
        else:
            assert task.hub is not None
            where = f"task={task.name}: {task.hub.path} {one.hub}"
            try:
                texts = read_hub_texts(task, one.hub, commit)
            except NoSuchSplit:
                absent[name] = f"{task.hub.path} {one.hub}"
                continue
        _check_rows(one, texts, data.eval_size, where)
        sets[name] = texts[: data.eval_size]
    return sets, absent


def local_test_sets(task: Task, folder: Path) -> list[Split]:
    """Return a task's test sets of which the files lie below `folder`."""
    places = {name: folder / one.local for name, one in task.test.items()}
    return [
        Split(name, _read_local(task, place, f"task={task.name}: {place}"), None)
        for name, place in places.items()
        if place.is_file()
    ]


def _check_rows(one: Unanswered, texts: Texts, few: int | None, where: str) -> None:
    if few is None and len(texts) != one.rows:
        raise UserError(
            f"{where} has {len(texts):,} rows, GLUE's has {one.rows:,}: answers to it could not be"
            " submitted; take the whole set, or try some rows by data.eval_size=N"
        )


def _read_local(task: Task, path: Path, where: str) -> Texts:
    """Return the texts of a file with a header, whose rows are in the order of their numbers."""
    rows = read_rows(path, where)
    header = next(rows, None)
    if header is None:
        raise UserError(f"{where} is empty")
    named = {} if task.local is None else task.local.columns
    columns = [named.get(name, name) for name in task.columns]
    # Of a training file without a header, columns are numbers, and are no other file's.
    names = [
        own if isinstance(own, str) else name
        for name, own in zip(task.columns, columns, strict=True)
    ]
    places = [place_of(name, header.fields, where) for name in names]
    number = next((header.fields.index(n) for n in NUMBERS if n in header.fields), None)
    texts: list[tuple[str, ...]] = []
    for row in rows:
        at = f"{where} line {row.line}"
        if len(row.fields) != len(header.fields):
            raise UserError(unlike(len(row.fields), len(header.fields), at))
        if number is not None and row.fields[number] != str(len(texts)):
            raise UserError(
                f"{at}: {header.fields[number]} is {row.fields[number]}, expected {len(texts)};"
                " take the file in its own order"
            )
        texts.append(tuple(row.fields[place] for place in places))
    return tuple(texts)
