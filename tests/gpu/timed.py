"""Runs run.py, and prints besides how long its steps took once the first ones were done.

python -m tests.gpu.timed WARM SETTING …: the last line is JSON. What the record says of a step's
time holds the first use of every kernel too, and for a short run that is most of it.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from typing import Any

from runners.command import main as command
from runners.training.watch import Watch

Figures = dict[str, float | int | None]


class Stopwatch:
    """Looks at the clock after step `warm` and after the last one, when the device is done."""

    def __init__(self, warm: int) -> None:
        self.warm = warm
        self.at: dict[int, float] = {}

    def step(self, step: int, last: bool) -> None:
        """Note a step's end, where it is wanted."""
        if step == self.warm or last:
            wait_for_device()
            self.at[step] = time.perf_counter()

    def figures(self) -> Figures:
        """Return the seconds of a step after the warm ones, None where there were no more."""
        last = max(self.at, default=0)
        known = self.warm in self.at and last > self.warm
        seconds = (self.at[last] - self.at[self.warm]) / (last - self.warm) if known else None
        return {"steps": last, "seconds_a_step": seconds}


def wait_for_device() -> None:
    """Wait until a GPU has done what it was asked for, where there is one."""
    import torch

    if torch.cuda.is_available():
        torch.cuda.synchronize()


def timed(warm: int, arguments: list[str], run: Callable[[], int] = command) -> tuple[int, Figures]:
    """Run run.py in this process; return its exit code and what a step took."""
    watch, own = Stopwatch(warm), Watch.step

    def step(self: Any, number: int) -> None:
        watch.step(number, number == self.loop.steps)
        own(self, number)

    Watch.step = step  # type: ignore[method-assign]
    sys.argv = ["run.py", *arguments]
    try:
        return run(), watch.figures()
    finally:
        Watch.step = own  # type: ignore[method-assign]


if __name__ == "__main__":
    code, seen = timed(int(sys.argv[1]), sys.argv[2:])
    print(json.dumps(seen))
    sys.exit(code)
