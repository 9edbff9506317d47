"""What a run tells while it goes."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any

from tqdm import tqdm

from results.printable import printable


class Meter:
    """Counts steps; `evaluated` prints one line an evaluation."""

    def __init__(self, steps: int) -> None:
        self.steps = steps
        self._bar = tqdm(total=steps, unit="step", disable=not sys.stderr.isatty(), leave=False)

    def step(self, done: int) -> None:
        """Advance to `done` steps."""
        self._bar.update(done - self._bar.n)

    def evaluated(self, entry: Mapping[str, Any]) -> None:
        """Report an evaluation."""
        metrics = "  ".join(
            f"{split} " + " ".join(f"{name} {value:.4f}" for name, value in scores.items())
            for split, scores in entry["scores"].items()
        )
        line = (
            f"step {entry['step']}/{self.steps}  epoch {entry['epoch']:g}  loss"
            f" {entry['train_loss']:.4f}  {metrics}"
        )
        tqdm.write(printable(line), file=sys.stderr)

    def close(self) -> None:
        """Take the bar away."""
        self._bar.close()


def say(line: str) -> None:
    """Print a line about the course of a run, apart from its result."""
    print(printable(line), file=sys.stderr, flush=True)


def show(line: str) -> None:
    """Print a line of a result."""
    print(printable(line), flush=True)
