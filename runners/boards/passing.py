"""Removes weights that runs left for the next one only, once no run is left to start from them."""

from __future__ import annotations

import shutil
from collections.abc import Iterable

from results import record as records
from runners.boards.planned import Planned
from runners.runs.passing import is_marked, unmark


def remove(run: Planned) -> None:
    """Remove the weights that a run left, where they are marked, and the mark."""
    if is_marked(run.path):
        shutil.rmtree(run.delta, ignore_errors=True)
        unmark(run.path)


def remove_unneeded(runs: Iterable[Planned]) -> None:
    """Remove marked weights from which no run is left to start."""
    later = [run for run in runs if run.before is not None]
    stages = {id(run.before): run.before for run in later if run.before is not None}
    needed = {id(run.before) for run in later if run.look() not in records.DONE}
    for key, stage in stages.items():
        if key not in needed and stage.state in records.DONE:
            remove(stage)


def keep(runs: Iterable[Planned]) -> None:
    """Take the marks of earlier commands away: `keep=true` keeps those weights too."""
    for run in runs:
        if run.before is not None:
            unmark(run.before.path)


def keep_typed(runs: Iterable[Planned]) -> None:
    """Take the marks of runs away whose weights are typed to be saved."""
    for run in runs:
        if run.kept and run.state != "waiting":
            unmark(run.path)
