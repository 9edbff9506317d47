"""What a board still costs: real tokens, and hours on this machine from a short calibration.

A row's first missing task is calibrated: the model is prepared, and a few of its own steps, its
preparation and an evaluation batch are timed. A step costs a + b · padded tokens. The row's other
tasks are counted with their own lengths at those rates. As many processes measure side by side as
the board will have workers, with as many threads each, because they slow each other
(runners/boards/calibrate.py is what they do).
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from results.errors import UserError
from runners.boards.planned import Compose, Planned
from runners.config.typed import is_typed
from runners.root import ROOT


@dataclass(frozen=True)
class Work:
    """Steps of one run and its tokens: real ones in training, and padded ones."""

    steps: int
    real: int
    padded: int
    epoch_padded: int
    evaluated_padded: int


@dataclass(frozen=True)
class Rates:
    """Seconds of one run: before the first step, a step and a token, each in its phase."""

    start: float
    step: float
    token: float
    preparing_token: float
    evaluated_token: float

    def seconds(self, work: Work) -> float:
        """Return what a run of so much work takes."""
        return (
            self.start
            + self.preparing_token * work.epoch_padded
            + self.step * work.steps
            + self.token * work.padded
            + self.evaluated_token * work.evaluated_padded
        )


@dataclass(frozen=True)
class Estimate:
    """A board's missing work: runs, real tokens in training, and seconds with all its workers."""

    runs: int
    real_tokens: int
    seconds: float


def estimate(
    runs: Sequence[Planned], compose: Compose, environments: Sequence[dict[str, str]]
) -> Estimate:
    """Return what runs cost with a worker in each of the environments."""
    workers = len(environments)
    cells = Counter((run.slot.row, run.slot.task) for run in runs)
    jobs: dict[int, list[tuple[str, dict[str, Any]]]] = {}
    for run in runs:
        row = jobs.setdefault(run.slot.row, [])
        if run.slot.task not in [task for task, _ in row]:
            row.append((run.slot.task, compose(_without_start(run))))
    shares = [list(jobs.items())[i::workers] for i in range(min(workers, len(jobs)))]
    processes = [
        subprocess.Popen(
            [sys.executable, "-m", "runners.boards.calibrate"],
            env={**environment, "PYTHONPATH": _search_path(environment)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for environment in environments[: len(shares)]
    ]
    try:
        for process, share in zip(processes, shares, strict=True):
            assert process.stdin is not None
            # One that has died already has told why, and is told of below.
            with contextlib.suppress(BrokenPipeError), process.stdin as stream:
                json.dump([time.time(), share], stream)
        answers = [line for p in processes for line in (p.stdout or ()) if line.startswith("[")]
        failed = [p.returncode for p in processes if p.wait()]
    except BaseException:
        for process in processes:
            process.kill()
        raise
    if failed:
        raise UserError("the calibration failed, as told above; estimate=false lists without it")
    real, seconds = 0, 0.0
    for row, task, work, rates in map(json.loads, answers):
        real += cells[row, task] * work["real"]
        seconds += cells[row, task] * Rates(**rates).seconds(Work(**work))
    return Estimate(len(runs), real, seconds / workers)


def _without_start(run: Planned) -> list[str]:
    """Return what is typed for a run, as if it began anew: its start may not be there yet."""
    return [a for a in run.alone or run.overrides if not is_typed([a], "start")]


def _search_path(environment: dict[str, str]) -> str:
    return os.pathsep.join([str(ROOT), *filter(None, [environment.get("PYTHONPATH")])])
