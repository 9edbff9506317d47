"""Weights that a run leaves for the next one only: marked before they are made, removed after.

A mark is an empty file beside the records. Weights without one were there before, or are kept.
"""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Iterable
from pathlib import Path

from results import record as records
from runners.boards.planned import Planned

FOLDER = ".stages"


def _mark_of(run: Planned) -> Path:
    return run.path.parent / FOLDER / run.name


def mark(run: Planned) -> None:
    """Note that the weights that a run is about to leave are for the next stage only."""
    path = _mark_of(run)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()


def remove(run: Planned) -> None:
    """Remove the weights that a run left, where they are marked, and the mark."""
    path = _mark_of(run)
    if path.is_file():
        shutil.rmtree(run.delta, ignore_errors=True)
        path.unlink(missing_ok=True)
        with contextlib.suppress(OSError):
            path.parent.rmdir()


def remove_unneeded(runs: Iterable[Planned]) -> None:
    """Remove marked weights from which no run is left to start."""
    later = [run for run in runs if run.before is not None]
    stages = {id(run.before): run.before for run in later if run.before is not None}
    needed = {id(run.before) for run in later if run.look() not in records.DONE}
    for key, stage in stages.items():
        if key not in needed and stage.state in records.DONE:
            remove(stage)
