"""Reads text files that a user names; what cannot be read is one sentence."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from results.errors import UserError, nearest
from runners.data.formats import JSON_NAMES, READ, json_likeness, likeness, nli_columns, one_byte


def read_text(path: Path, where: str, hint: str = "") -> str:
    """Return a file's text, UTF-8 with or without a byte-order mark; failing is a UserError.

    `where` begins the sentence, `hint` ends the one about a file that is missing.
    """
    try:
        raw = path.read_bytes()
    except FileNotFoundError:
        raise UserError(f"{where} is missing{hint}") from None
    except OSError as error:
        raise UserError(f"{where} cannot be read: {error.strerror}") from None
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        other = likeness(raw) or one_byte(raw)
        raise UserError(f"{where} is not UTF-8 at byte {error.start}: {other}; {READ}") from None
    if "\0" in text and (other := likeness(raw)):
        raise UserError(f"{where} is not UTF-8: {other}; {READ}")
    return text


def lines_of(text: str) -> list[str]:
    """Return the lines of a text; only a newline ends one, and one at the end adds none."""
    lines = [line.removesuffix("\r") for line in text.split("\n")]
    return lines[:-1] if lines[-1] == "" else lines


def checked_lines(text: str, where: str) -> list[str]:
    """Return the lines of a text; one whose lines end in another way is a UserError."""
    if "\n" not in text and "\r" in text.rstrip("\r"):
        raise UserError(
            f"{where}: its lines end in carriage returns alone, as on old Macs; save it with line"
            " feeds"
        )
    return lines_of(text)


def read_sentences(path: Path, where: str, of_pairs: str = "") -> list[str]:
    """Return a file's lines, a sentence each; what cannot be read so is a UserError.

    `of_pairs` says what to do with a table of NLI.
    """
    lines = checked_lines(read_text(path, where), where)
    if lines and (columns := nli_columns(lines[0])):
        raise UserError(
            f"{where} holds no sentences: its first line names columns of NLI, {columns};"
            f" {of_pairs}write one sentence a line"
        )
    if lines and path.suffix.lower() in JSON_NAMES and (other := json_likeness(lines[0])):
        raise UserError(f"{where} holds no sentences: {other}; write one sentence a line")
    return lines


@dataclass(frozen=True)
class Row:
    """The fields of a delimited file's row, and the line at which it ends, counted from 1."""

    line: int
    fields: list[str]


def read_rows(path: Path, where: str, hint: str = "") -> Iterator[Row]:
    """Yield the rows of a .csv with quotes (RFC 4180), else of tab-separated lines without.

    Empty ones are passed over. What cannot be read is a UserError that begins with `where`.
    """
    text = read_text(path, where, hint)
    if "\0" in text:
        raise UserError(
            f"{where} holds a NUL byte at character {text.index(chr(0))}; it is damaged or no text"
        )
    if path.suffix.lower() != ".csv":
        for number, line in enumerate(checked_lines(text, where), start=1):
            if line:
                yield Row(number, line.split("\t"))
        return
    csv.field_size_limit(max(csv.field_size_limit(), len(text)))  # Python's own is 131,072
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    try:
        for fields in reader:
            if fields:
                yield Row(reader.line_num, fields)
    except csv.Error as error:
        raise UserError(f"{where} line {reader.line_num}: {error}; check its quotes") from None


def is_whole(row: Row, width: int, where: str, skip: bool) -> bool:
    """Say whether a row has as many fields as its file's first; if not, `skip` or a UserError."""
    if len(row.fields) == width:
        return True
    if skip:
        return False
    raise UserError(
        f"{unlike(len(row.fields), width, f'{where} line {row.line}')} (data.malformed_rows=skip"
        " leaves such rows out and records how many)"
    )


def unlike(fields: int, width: int, where: str) -> str:
    """Say that a row has another number of fields than its file's first."""
    return f"{where} has {fields} fields, expected {width}; the file may be cut off"


def place_of(column: str, header: Sequence[str], where: str, instead: str = "") -> int:
    """Return where a header names a column; none or two of that name are a UserError."""
    if column not in header:
        raise UserError(f"{where} has no column '{column}'{nearest(column, header)}")
    if (same := header.count(column)) > 1:
        raise UserError(
            f"{where} has {same} columns called '{column}'; rename all but one{instead}"
        )
    return header.index(column)


def refuse_json(line: str, where: str) -> None:
    """Refuse a file whose first line is JSON, where what is read could not be."""
    if other := json_likeness(line):
        raise UserError(f"{where} is no table: {other}; {READ}")
