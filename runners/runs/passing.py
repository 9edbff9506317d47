"""Weights that a run leaves for the next one only: marked before they are made, removed after.

A mark is an empty file beside the records. Weights without one were there before, or are kept. A
run that a user asks for with its weights takes the mark away; one that a chain or a board starts
knows by PASSING that it is not.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

FOLDER = ".stages"
PASSING = "TUNEBENCH_STAGES"  # in the environment of what a chain or a board starts


def mark(path: Path) -> None:
    """Note that the weights that the run of a record is about to leave are for the next one."""
    place = _mark_of(path)
    place.parent.mkdir(parents=True, exist_ok=True)
    place.touch()


def is_marked(path: Path) -> bool:
    """Say whether the weights of a record's run are for the next one only."""
    return _mark_of(path).is_file()


def unmark(path: Path) -> None:
    """Take the mark away: the weights, if any, are somebody's."""
    place = _mark_of(path)
    with contextlib.suppress(OSError):
        place.unlink()
        place.parent.rmdir()


def keep_saved(path: Path, save: str | None) -> None:
    """Take the mark away where weights are asked for outside of a chain or a board."""
    if save == "delta" and PASSING not in os.environ:
        unmark(path)


@contextlib.contextmanager
def starting_stages() -> Iterator[None]:
    """Let the runs that are started inside know that they are of a chain or a board."""
    before = os.environ.get(PASSING)
    os.environ[PASSING] = "1"
    try:
        yield
    finally:
        if before is None:
            os.environ.pop(PASSING, None)
        else:
            os.environ[PASSING] = before


def _mark_of(path: Path) -> Path:
    return path.parent / FOLDER / path.stem
