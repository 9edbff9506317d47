"""Reads each record of the repository once a test process: all of them take three seconds."""

from __future__ import annotations

import pickle
from pathlib import Path

from results import record
from results.record import Record

_read = record.read
_known: dict[tuple[str, int, int], bytes] = {}


def _remembered(path: Path) -> Record:
    """Read a record, or remember the same file, here or in a copy that kept its time."""
    try:
        facts = path.lstat()
    except (OSError, ValueError):
        return _read(path)
    key = (path.name, facts.st_mtime_ns, facts.st_size)
    if key not in _known:
        _known[key] = pickle.dumps(_read(path))
    known: Record = pickle.loads(_known[key])  # each reader has its own
    return known


def remember_records() -> None:
    """Read by memory from here on, where whole folders are read."""
    record.read = _remembered
