"""Tells from its first bytes what a file is that is not read, so that the refusal can name it."""

from __future__ import annotations

import json

READ = "what is read is UTF-8 text: tab-separated, or CSV where the name ends in .csv"
_PACKED = {
    b"\x1f\x8b": ("gzip", "unpack it with gunzip"),
    b"BZh": ("bzip2", "unpack it with bunzip2"),
    b"\xfd7zXZ\0": ("xz", "unpack it with unxz"),
    b"\x28\xb5\x2f\xfd": ("Zstandard", "unpack it with unzstd"),
    b"7z\xbc\xaf\x27\x1c": ("7-Zip", "unpack it"),
    b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1": ("an old Excel or Word file", "save it as CSV UTF-8"),
    b"SQLite format 3\0": ("an SQLite database", "export the table as CSV"),
    b"ARROW1\0\0": ("Arrow", "write it with pandas' to_csv"),
    b"\x89HDF\r\n\x1a\n": ("HDF5", "write it with pandas' to_csv"),
    b"%PDF-": ("PDF", "save its text as UTF-8"),
}
# The columns that hold pairs of texts, and by what a line is parted: SimCSE's; MNLI's and SNLI's.
NLI = {",": ("sent0", "sent1"), "\t": ("sentence1", "sentence2", "gold_label")}
_FURTHER = ("hard_neg",)


JSON_NAMES = (".json", ".jsonl", ".ndjson")


def likeness(raw: bytes) -> str:
    """Return which other format a file's bytes look like and what to do, or nothing."""
    for begin, (kind, instead) in _PACKED.items():
        if raw.startswith(begin):
            return f"it looks like {kind}: {instead}"
    if raw.startswith(b"PK\x03\x04"):
        if b"xl/" in raw:
            return "it looks like an Excel workbook: save it as CSV UTF-8"
        return "it looks like a zip archive: unpack it"
    if raw.startswith(b"PAR1") and raw.endswith(b"PAR1"):
        return "it looks like Parquet: write it with pandas' to_csv"
    wide = _wide(raw)
    return f"it looks like {wide}: save it as UTF-8" if wide else ""


def _wide(raw: bytes) -> str:
    """Return the encoding with several bytes a letter, by its mark or by where its zeros stand."""
    if raw[:4] in (b"\xff\xfe\0\0", b"\0\0\xfe\xff"):
        return "UTF-32"
    if raw[:2] in (b"\xff\xfe", b"\xfe\xff"):
        return "UTF-16"
    part = raw[:4096]
    zeros = [part[place::4].count(0) * 4 / max(4, len(part)) for place in range(4)]
    if sum(share > 0.9 for share in zeros) == 3:
        return "UTF-32"
    even, odd = (zeros[0] + zeros[2]) / 2, (zeros[1] + zeros[3]) / 2
    return "UTF-16" if max(even, odd) > 0.4 and min(even, odd) < 0.1 else ""


def one_byte(raw: bytes) -> str:
    """Return what bytes look like that are not UTF-8: text with a byte a letter, or no text."""
    part = raw[:4096]
    controls = sum(byte < 32 and byte not in (9, 10, 12, 13) for byte in part)
    if controls > len(part) // 50:
        return "it looks like no text at all"
    return "it looks like Latin-1 or Windows-1252: save it as UTF-8"


def nli_columns(line: str) -> str:
    """Return which columns of a table of NLI a file's first line names, or nothing."""
    for mark, names in NLI.items():
        fields = [field.strip().strip('"') for field in line.split(mark)]
        if set(names) <= set(fields):
            return ", ".join([*names, *(n for n in _FURTHER if n in fields)])
    return ""


def json_likeness(line: str) -> str:
    """Return that a file whose first line this is looks like JSON, or nothing."""
    begin = line.strip()
    if begin in ("[", "{"):
        return "it looks like JSON"
    if begin[:1] not in ("[", "{"):
        return ""
    try:
        json.loads(begin)
    except (ValueError, RecursionError):
        return ""
    return "it looks like JSON lines"
