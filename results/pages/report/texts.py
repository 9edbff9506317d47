"""Reads the texts of a report split from a folder of local files, where they are the run's rows.

They are taken for the run's where the file's labels are the record's references, one for one.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from results.pages.report.answers import Answers, section
from results.pages.report.parts import Cell, cut, words
from results.pages.report.rows import file_of, whereabouts
from results.plain_file import read_plain
from results.record import Record

LARGEST = 2**28  # bytes of a file
LONGEST = 400  # signs of a text


@dataclass(frozen=True)
class Row:
    """A row of a file: where it lies, its texts, and its label as the file writes it."""

    place: str
    texts: tuple[str, ...]
    label: str


@dataclass(frozen=True)
class Texts:
    """What a page says of a split's rows: further columns, and where they lie."""

    said: str
    heads: tuple[Cell, ...] = ()
    rows: Sequence[Row] = ()

    def of(self, place: int) -> list[Cell]:
        """Return what stands in the further columns of a row, counted from 0."""
        if not self.rows:
            return []
        row = self.rows[place]
        return [row.place, *(words(cut(text, LONGEST)) for text in row.texts)]


class _Unlike(Exception):
    """A file that cannot be read as the run's rows, and why."""


def texts_of(record: Record, answers: Answers, folder: Path | None) -> Texts:
    """Return where a split's rows lie, and their texts where the folder has them."""
    if folder is None:
        more = " --data FOLDER shows their texts." if record.data.get("source") == "local" else ""
        return Texts(whereabouts(record, answers) + more)
    try:
        named = file_of(record, answers)
        if named is None:
            raise _Unlike("the record does not say which file they are of")
        path = folder / named
        rows = _read(path, answers)
        _check(rows, answers, path)
    except OSError as error:
        return Texts(f"Texts are left out: {error.strerror or error} ({path}).")
    except (_Unlike, ValueError, csv.Error) as reason:
        return Texts(f"Texts are left out: {reason}. {whereabouts(record, answers)}")
    columns = answers.task.get("text")
    names = [words(cut(name)) for name in columns] if isinstance(columns, list) else []
    return Texts(f"Texts are from {path}.", ("line", *names), rows)


def _read(path: Path, answers: Answers) -> list[Row]:
    if answers.of_vectors:
        pairs = section(answers.task, "pairs", answers.split)
        rows = _scored_folder(path) if pairs.get("folder") else _scored_file(path, pairs)
        return [row for row in rows if row.label.strip()]
    return list(_labelled(path, answers))


def _labelled(path: Path, answers: Answers) -> Iterator[Row]:
    """Yield the rows of a task's table."""
    files = section(answers.task, "local")
    rows = _fields(path)
    columns = section(files, "columns")
    header = next(rows, (0, []))[1] if files.get("header", True) else None
    texts = answers.task.get("text")
    wanted = [*map(str, texts if isinstance(texts, list) else []), "label"]
    places = [_place(columns.get(name, name), header) for name in wanted]
    for line, fields in rows:
        if len(fields) <= max(places):
            raise _Unlike(f"line {line} of {path} has {len(fields)} fields")
        *texts, label = (fields[place] for place in places)
        yield Row(f"{line}", tuple(texts), label)


def _place(column: Any, header: Sequence[str] | None) -> int:
    if isinstance(column, int) and column >= 0:
        return column
    if header is None or column not in header:
        raise _Unlike(f"the file has no column {cut(column)}")
    return header.index(column)


def _scored_file(path: Path, pairs: Any) -> Iterator[Row]:
    """Yield the rows of a file of scored pairs, which has tabs whatever it is called."""
    columns = pairs.get("columns")
    good = isinstance(columns, list) and all(isinstance(c, int) and c >= 0 for c in columns)
    first, second, score = columns if good and len(columns) == 3 else (0, 1, 2)
    for line, fields in _tabbed(path):
        if line == 1 and pairs.get("header"):
            continue
        if len(fields) <= max(first, second, score):
            raise _Unlike(f"line {line} of {path} has {len(fields)} fields")
        yield Row(f"{line}", (fields[first], fields[second]), fields[score])


def _scored_folder(path: Path) -> Iterator[Row]:
    """Yield the rows of a folder in SentEval's layout."""
    for pairs in sorted(path.glob("STS.input.*.txt")):
        gold = pairs.with_name(pairs.name.replace("STS.input.", "STS.gs."))
        sides = zip(_lines(pairs), _lines(gold), strict=True)
        for number, (pair, score) in enumerate(sides, start=1):
            first, _, second = pair.partition("\t")
            yield Row(f"{pairs.name} {number}", (first, second.split("\t")[0]), score)


def _fields(path: Path) -> Iterator[tuple[int, list[str]]]:
    """Yield the line and the fields of each row that is not empty."""
    if path.suffix.lower() != ".csv":
        yield from _tabbed(path)
        return
    text = read_plain(path, LARGEST).decode("utf-8-sig")
    csv.field_size_limit(max(csv.field_size_limit(), len(text)))  # Python's own is 131,072
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    for fields in reader:
        if fields:
            yield reader.line_num, fields


def _tabbed(path: Path) -> Iterator[tuple[int, list[str]]]:
    rows = enumerate(_lines(path), start=1)
    return ((number, line.split("\t")) for number, line in rows if line)


def _lines(path: Path) -> list[str]:
    lines = read_plain(path, LARGEST).decode("utf-8-sig").split("\n")
    return [line.removesuffix("\r") for line in (lines[:-1] if lines[-1] == "" else lines)]


def _check(rows: Sequence[Row], answers: Answers, path: Path) -> None:
    """Refuse rows whose labels are not the record's references."""
    gold = answers.gold.tolist()
    if len(rows) != len(gold):
        raise _Unlike(f"{path} has {len(rows):,} rows and the record {len(gold):,}")
    value = _value_of(answers)
    for row, reference in zip(rows, gold, strict=True):
        if abs(value(row.label) - reference) > 1e-6 * max(1.0, abs(reference)):
            raise _Unlike(f"line {row.place} of {path} has another label than the record's row")


def _value_of(answers: Answers) -> Callable[[str], float]:
    """Return what turns a file's label into a reference."""
    if not answers.of_classes:
        return float
    names = section(answers.task, "local", "label_names")
    labels = answers.task.get("labels")
    known = {
        str(name): float(i) for i, name in enumerate(labels if isinstance(labels, list) else [])
    }
    return lambda label: known.get(str(names.get(label, label)), -1.0)
