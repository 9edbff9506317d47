"""Reads a task from delimited text files: GLUE's TSV layout, or a user's own TSV and CSV.

GLUE's TSV fields are never quoted, so quotes are text there; lines end at a newline and nowhere
else (some sentences hold other line separators); a byte-order mark is dropped. A .csv follows RFC
4180.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from results.errors import UserError, nearest
from runners.config.task import LocalFiles, Task
from runners.data.files import read_text
from runners.data.labels import local_label
from runners.data.split import Label, Split


def read_local(task: Task, folder: Path, skip_malformed: bool) -> tuple[Split, dict[str, Split]]:
    """Return train and report splits read below `folder`; a fault is named with file and line."""
    files = task.local
    assert files is not None
    train = read_file(task, files, folder / files.train, "train", skip_malformed)
    report = {
        name: read_file(task, files, folder / path, name, skip_malformed)
        for name, path in files.report.items()
    }
    for name, path in files.where_present.items():
        if (folder / path).is_file():
            report[name] = read_file(task, files, folder / path, name, skip_malformed)
    return train, report


def read_file(task: Task, files: LocalFiles, path: Path, split: str, skip_malformed: bool) -> Split:
    """Read one split; a diagnostic split without a label column is unlabelled."""
    where = f"task={task.name}: {path}"
    rows = _rows(path, where)
    first = next(rows, None)
    if first is None:
        raise UserError(f"{where} is empty")
    if files.header:
        names: list[str] | None = first.fields
        width = len(first.fields)
    else:
        names, width = None, len(first.fields)
        rows = _chain(first, rows)
    columns = {name: files.columns.get(name, name) for name in (*task.columns, "label")}
    places = {
        name: _place(column, names, width, where, name)
        for name, column in columns.items()
        if name != "label"
    }
    label_place = None
    if split not in task.diagnostics or (names and columns["label"] in names):
        label_place = _place(columns["label"], names, width, where, "label")
    texts: list[tuple[str, ...]] = []
    labels: list[Label] = []
    skipped = 0
    for row in rows:
        if len(row.fields) != width:
            if skip_malformed:
                skipped += 1
                continue
            raise UserError(
                f"{where} line {row.line} has {len(row.fields)} fields, expected {width}; the file"
                " may be cut off (data.malformed_rows=skip leaves such rows out and records how"
                " many)"
            )
        texts.append(tuple(row.fields[places[name]] for name in task.columns))
        if label_place is not None:
            labels.append(
                local_label(row.fields[label_place], task, files, f"{where} line {row.line}")
            )
    if not texts:
        raise UserError(f"{where} has a header and no rows")
    return Split(split, tuple(texts), tuple(labels) if label_place is not None else None, skipped)


@dataclass(frozen=True)
class _Row:
    line: int
    fields: list[str]


def _chain(first: _Row, rest: Iterator[_Row]) -> Iterator[_Row]:
    yield first
    yield from rest


def _rows(path: Path, where: str) -> Iterator[_Row]:
    """Yield non-empty rows with their line numbers, counted from 1."""
    text = read_text(path, where, "; data.dir (or GLUE_DIR) must hold it")
    if "\0" in text:
        raise UserError(
            f"{where} holds a NUL byte at character {text.index(chr(0))}; it is damaged or no text"
        )
    if path.suffix.lower() == ".csv":
        reader = csv.reader(io.StringIO(text, newline=""), strict=True)
        try:
            for fields in reader:
                if fields:
                    yield _Row(reader.line_num, fields)
        except csv.Error as error:
            raise UserError(f"{where} line {reader.line_num}: {error}; check its quotes") from None
        return
    for number, line in enumerate(text.split("\n"), start=1):
        line = line.removesuffix("\r")
        if line:
            yield _Row(number, line.split("\t"))


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
    if column not in names:
        raise UserError(f"{where} has no column '{column}'{nearest(column, names)}")
    return names.index(column)
