"""Reads a task from delimited text files: GLUE's TSV layout, or a user's own TSV and CSV.

GLUE's TSV fields are never quoted, so quotes are text there; lines end at a newline and nowhere
else (some sentences hold other line separators); a byte-order mark is dropped. A .csv follows RFC
4180.
"""

from __future__ import annotations

import itertools
from pathlib import Path

from results.errors import UserError
from runners.config.task import CUT, LocalFiles, Task
from runners.data.attributes import lacking, values_of
from runners.data.files import is_whole, place_of, read_rows, refuse_json
from runners.data.labels import local_label
from runners.data.split import Label, Split, Values, cut_report


def read_local(
    task: Task, folder: Path, skip_malformed: bool, seed: int = 0
) -> tuple[Split, dict[str, Split]]:
    """Return train and report splits read below `folder`; a fault is named with file and line.

    The rows to report on that are cut from train are drawn by the seed.
    """
    files = task.local
    assert files is not None
    train = read_file(task, files, folder / files.train, "train", skip_malformed)
    report = {
        name: read_file(task, files, folder / path, name, skip_malformed)
        for name, path in files.report.items()
    }
    if files.split is not None:
        train, report[CUT] = cut_report(train, files.split, seed, task)
    for name, path in files.where_present.items():
        if (folder / path).is_file():
            report[name] = read_file(task, files, folder / path, name, skip_malformed)
    return train, report


BELOW = "; data.dir (or GLUE_DIR) must hold it"


def read_file(
    task: Task,
    files: LocalFiles,
    path: Path,
    split: str,
    skip_malformed: bool,
    hint: str = BELOW,
) -> Split:
    """Read one split; a diagnostic split without a label column is unlabelled.

    `hint` ends the line about a file that is missing.
    """
    where = f"task={task.name}: {path}"
    rows = read_rows(path, where, hint)
    first = next(rows, None)
    if first is None:
        raise UserError(f"{where} is empty")
    if len(first.fields) == 1:
        refuse_json(first.fields[0], where)
    if files.header:
        names: list[str] | None = first.fields
        width = len(first.fields)
    else:
        names, width = None, len(first.fields)
        rows = itertools.chain([first], rows)
    roles = (*task.columns, *task.attributes, "label")
    columns = {name: files.columns.get(name, name) for name in roles}
    for name in task.attributes:
        if names is not None and isinstance(columns[name], str) and columns[name] not in names:
            raise lacking(str(columns[name]), names, where)
    places = {
        name: _place(column, names, width, where, name)
        for name, column in columns.items()
        if name != "label"
    }
    label_place = None
    column = columns["label"]
    is_there = column < width if isinstance(column, int) else column in (names or ())
    if split not in task.diagnostics or is_there:
        label_place = _place(columns["label"], names, width, where, "label")
    texts: list[tuple[str, ...]] = []
    values: list[Values] = []
    labels: list[Label] = []
    skipped = 0
    for row in rows:
        if not is_whole(row, width, where, skip_malformed):
            skipped += 1
            continue
        texts.append(tuple(row.fields[places[name]] for name in task.columns))
        cells = (row.fields[places[name]] for name in task.attributes)
        values.append(tuple(values_of(cell, task.separator) for cell in cells))
        if label_place is not None:
            labels.append(
                local_label(row.fields[label_place], task, files, f"{where} line {row.line}")
            )
    if not texts:
        raise UserError(f"{where} has a header and no rows")
    answers = tuple(labels) if label_place is not None else None
    attributes = tuple(values) if task.attributes else None
    return Split(split, tuple(texts), answers, skipped, attributes=attributes)


def _place(column: str | int, names: list[str] | None, width: int, where: str, role: str) -> int:
    if isinstance(column, int):
        if not 0 <= column < width:
            raise UserError(
                f"{where} has {width} columns, so {role} cannot be column {column} (counted from 0)"
            )
        return column
    if names is None:
        raise UserError(
            f"{where} has no header (local.header=false): give local.columns.{role} as a number"
        )
    return place_of(column, names, where, f", or give local.columns.{role} as a number")
