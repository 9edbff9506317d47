"""A user's table, read and written a row at a time: .csv, .tsv or JSON lines, by its name's end.

A .csv follows RFC 4180, fields of a .tsv are never quoted, and both begin with a header. Of JSON
lines each is an object.
"""

from __future__ import annotations

import codecs
import csv
import json
import reprlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

from results.errors import UserError
from results.plain_file import is_file, is_there, parse_json
from runners.config.task import Task
from runners.data.files import unlike
from runners.data.formats import json_likeness, likeness, one_byte

JSON_LINES = (".jsonl", ".ndjson")
KNOWN = (".csv", ".tsv", *JSON_LINES)
READ = "what is read is UTF-8 text in .csv, .tsv or .jsonl"
BEGIN = 2**16  # bytes from which another format is told


@dataclass(frozen=True)
class TableRow:
    """A row: the number of its last line, from 1, and a value for each of its columns."""

    line: int
    columns: Sequence[str]
    values: Sequence[Any]


def listed(given: Iterable[Any], what: str) -> list[Any]:
    """Return what somebody gives from Python as a list.

    A single text, a mapping and a table of pandas, whose parts would be letters and names of
    columns, are a UserError that begins with `what`.
    """
    if isinstance(given, str | bytes | Mapping) or hasattr(given, "columns"):
        raise UserError(f"{what} are to be in a list, and a {type(given).__name__} was given")
    return list(given)


def texts_of(row: Any, task: Task, where: str) -> tuple[str, ...]:
    """Return a row's texts, given in the order of the task's columns, or one where that is all.

    Another number of texts, and what is none, are a UserError that begins with `where`.
    """
    texts = (row,) if isinstance(row, str) else row
    if isinstance(texts, bytes | Mapping) or not isinstance(texts, Iterable):
        raise UserError(
            f"{where} is {reprlib.repr(row)}; give its {', '.join(task.columns)} in a tuple, in"
            " this order"
        )
    texts = tuple(texts)
    if len(texts) != len(task.columns):
        raise UserError(
            f"{where} has {len(texts)} texts; task={task.name} has {', '.join(task.columns)}"
        )
    for column, text in zip(task.columns, texts, strict=True):
        if not isinstance(text, str):
            raise UserError(f"{where}: its {column} is {reprlib.repr(text)}, no text")
    return texts


def format_of(path: Path, where: str) -> str:
    """Return the end of a table's name; another one is a UserError that begins with `where`."""
    end = path.suffix.lower()
    if end not in KNOWN:
        raise UserError(f"{where}: the name must end in {', '.join(KNOWN[:-1])} or {KNOWN[-1]}")
    return end


def read_table(path: Path, where: str) -> Iterator[TableRow]:
    """Yield the rows of a table; what cannot be read is a UserError that begins with `where`."""
    end = format_of(path, where)
    _check_begin(path, where)
    newline = "" if end == ".csv" else "\n"  # nothing else ends a line that is not quoted
    try:
        with path.open(encoding="utf-8-sig", newline=newline) as stream:
            lines = _without_nul(stream, where)
            if end in JSON_LINES:
                yield from _read_json(lines, where)
            else:
                yield from _read_fields(lines, end == ".csv", where)
    except UnicodeDecodeError:
        raise UserError(_undecodable(path, where)) from None
    except OSError as error:
        raise UserError(f"{where} cannot be read: {error.strerror}") from None


def _check_begin(path: Path, where: str) -> None:
    """Refuse what is no file, or one that begins as another format does."""
    if not is_file(path):
        raise UserError(f"{where} {'is no file' if is_there(path) else 'is missing'}")
    try:
        with path.open("rb") as stream:
            begin = stream.read(BEGIN)
            stream.seek(-min(BEGIN, path.stat().st_size), 2)
            end = stream.read(BEGIN)
    except OSError as error:
        raise UserError(f"{where} cannot be read: {error.strerror}") from None
    decoder = codecs.getincrementaldecoder("utf-8")()
    try:
        is_text = "\0" not in decoder.decode(begin)
    except UnicodeDecodeError:
        is_text = False
    if not is_text and (other := likeness(begin + end)):
        raise UserError(f"{where} is not UTF-8: {other}; {READ}")


def _undecodable(path: Path, where: str) -> str:
    """Say at which byte of a file UTF-8 ends, and what it is there."""
    place = 0
    with path.open("rb") as stream:
        for line in stream:
            try:
                line.decode("utf-8")
            except UnicodeDecodeError as error:
                other = one_byte(line)
                return f"{where} is not UTF-8 at byte {place + error.start}: {other}; {READ}"
            place += len(line)
    return f"{where} is not UTF-8; {READ}"


def _without_nul(lines: Iterable[str], where: str) -> Iterator[str]:
    for number, line in enumerate(lines, start=1):
        if "\0" in line:
            raise UserError(f"{where} line {number} holds a NUL byte; it is damaged or no text")
        yield line


def _read_fields(lines: Iterator[str], quoted: bool, where: str) -> Iterator[TableRow]:
    """Yield the rows of delimited text after its header, each as wide as that."""
    rows = _read_quoted(lines, where) if quoted else _read_plain(lines)
    line, header = next(rows, (0, []))
    if not header:
        raise UserError(f"{where} {'line 1 ' if line else ''}is empty; the columns are named there")
    if len(header) == 1 and (other := json_likeness(header[0])):
        raise UserError(f"{where} is no table: {other}; call it .jsonl")
    for line, fields in rows:
        at = f"{where} line {line}"
        if not fields:
            raise UserError(f"{at} is empty; take it out, or write a row there")
        if len(fields) != len(header):
            raise UserError(unlike(len(fields), len(header), at))
        yield TableRow(line, header, fields)


def _read_plain(lines: Iterator[str]) -> Iterator[tuple[int, list[str]]]:
    for number, line in enumerate(lines, start=1):
        text = line.removesuffix("\n").removesuffix("\r")
        yield number, text.split("\t") if text else []


def _read_quoted(lines: Iterator[str], where: str) -> Iterator[tuple[int, list[str]]]:
    csv.field_size_limit(max(csv.field_size_limit(), 2**30))  # Python's own is 131,072
    reader = csv.reader(lines, strict=True)
    try:
        for fields in reader:
            yield reader.line_num, fields
    except csv.Error as error:
        raise UserError(f"{where} line {reader.line_num}: {error}; check its quotes") from None


def _read_json(lines: Iterator[str], where: str) -> Iterator[TableRow]:
    number = 0
    for number, line in enumerate(lines, start=1):
        at = f"{where} line {number}"
        if not line.strip():
            raise UserError(f"{at} is empty; take it out, or write an object there")
        try:
            content = parse_json(line.encode("utf-8", "surrogatepass"), line)
        except ValueError as error:
            raise UserError(f"{at} is no JSON: {error}; write an object a line") from None
        if not isinstance(content, dict):
            raise UserError(f'{at} is no JSON object, as {{"COLUMN": "text"}} is')
        yield TableRow(number, list(content), list(content.values()))
    if not number:
        raise UserError(f"{where} is empty")


class TableWriter:
    """Writes rows, with further columns after their own, into a stream in a table's format.

    `where` begins what is said of a row that the format cannot hold; a stream may be left out where
    rows are only checked.
    """

    def __init__(self, end: str, where: str, stream: TextIO | None = None) -> None:
        self.end, self.where, self.stream = end, where, stream
        self.header: Sequence[str] | None = None
        self._csv = self._quoted = None
        if stream and end == ".csv":
            self._csv = csv.writer(stream, lineterminator="\n")
            self._quoted = csv.writer(stream, lineterminator="\n", quoting=csv.QUOTE_ALL)

    def write(self, row: TableRow, more: Mapping[str, str | float]) -> None:
        """Write a row; numbers of `more` have nine digits."""
        line = self._object(row, more) if self.end in JSON_LINES else self._fields(row, more)
        if self.stream is None:
            return
        if isinstance(line, str):
            self.stream.write(line + "\n")
        else:
            self._put(line)

    def _object(self, row: TableRow, more: Mapping[str, str | float]) -> str:
        if len(set(row.columns)) < len(row.columns):
            twice = next(name for name in row.columns if list(row.columns).count(name) > 1)
            raise UserError(
                f"{self.where} has several columns called '{twice}', of which a JSON object holds"
                " one; rename them, or write a .csv"
            )
        values = {name: float(_nine(v)) if isinstance(v, float) else v for name, v in more.items()}
        content = dict(zip(row.columns, row.values, strict=True)) | values
        return json.dumps(content, ensure_ascii=False, allow_nan=False)

    def _fields(self, row: TableRow, more: Mapping[str, str | float]) -> list[str]:
        if self.header is None:
            self.header = row.columns
            self._put(self._checked([*row.columns, *more], row.line))
        if row.columns is not self.header and list(row.columns) != list(self.header):
            raise UserError(
                f"{self.where} line {row.line} has the keys {', '.join(row.columns)}, its first"
                f" line {', '.join(self.header)}; write a .jsonl, which has no header"
            )
        answers = [_nine(v) if isinstance(v, float) else v for v in more.values()]
        return self._checked([*map(_text, row.values), *answers], row.line)

    def _put(self, fields: list[str]) -> None:
        if self._csv is not None and self._quoted is not None:
            # Python before 3.13 leaves a \r without quotes, at which readers end the row.
            bare = any("\r" in field for field in fields)
            (self._quoted if bare else self._csv).writerow(fields)
        elif self.stream is not None:
            self.stream.write("\t".join(fields) + "\n")

    def _checked(self, fields: list[str], line: int) -> list[str]:
        if self.end == ".tsv" and any(set(field) & set("\t\n\r") for field in fields):
            raise UserError(
                f"{self.where} line {line}: a text holds a tab or a line's end, which a .tsv"
                " cannot; write a .csv or a .jsonl"
            )
        return fields


def _text(value: Any) -> str:
    if isinstance(value, str):
        return value
    return "" if value is None else json.dumps(value, ensure_ascii=False)


def _nine(value: float) -> str:
    return f"{value:.9g}"
