"""What a run tells while it goes."""

from __future__ import annotations

import contextlib
import json
import os
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tqdm import tqdm

from results.printable import printable

PROGRESS = "TUNEBENCH_PROGRESS"  # names the file in which a board's run says how far it is
EVERY = 0.5  # seconds between two words in it
BAR = "{percentage:3.0f}%|{bar}| {n_fmt}/{total_fmt} steps [{remaining} left{postfix}]"


def in_words(facts: Mapping[str, float]) -> str:
    """Return the loss, rate and scores of `facts` as a bar shows them."""
    forms = {"loss": ".4f", "rate": ".2e", "score": ".4f", "best": ".4f"}
    return ", ".join(f"{n} {facts[n]:{form}}" for n, form in forms.items() if n in facts)


class Meter:
    """Counts steps; `evaluated` prints one line an evaluation.

    On a terminal a bar shows it, with the loss, the learning rate, and the last and the best score;
    a run of a board says the same in a file.
    """

    def __init__(self, steps: int, done: int = 0) -> None:
        self.steps, self.done = steps, done
        self._facts: dict[str, float] = {}
        self._file = os.environ.get(PROGRESS)
        self._written = -EVERY
        self._bar = tqdm(
            total=steps,
            initial=done,
            disable=not sys.stderr.isatty(),
            leave=False,
            bar_format=BAR,
            dynamic_ncols=True,
        )

    def step(self, done: int) -> None:
        """Advance to `done` steps."""
        self._bar.update(done - self.done)
        self.done = done
        if self._file is not None and time.monotonic() - self._written >= EVERY:
            self._write(self._file)

    def seen(self, loss: float, rate: float) -> None:
        """Show the last loss and learning rate."""
        self._show(loss=loss, rate=rate)

    def scored(self, last: float, best: float) -> None:
        """Show the last and the best of the task's one number."""
        self._show(score=last, best=best)

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

    def _show(self, **facts: float) -> None:
        self._facts |= facts
        self._bar.set_postfix_str(in_words(self._facts), refresh=False)

    def _write(self, file: str) -> None:
        """Put the facts in the board's file, where it finds them whole."""
        self._written = time.monotonic()
        draft = Path(f"{file}.tmp")
        with contextlib.suppress(OSError):
            draft.write_text(json.dumps({"step": self.done, "steps": self.steps, **self._facts}))
            draft.replace(file)


def say(line: str) -> None:
    """Print a line about the course of a run, apart from its result."""
    print(printable(line), file=sys.stderr, flush=True)


def show(line: str) -> None:
    """Print a line of a result."""
    print(printable(line), flush=True)


def first_line(error: BaseException) -> str:
    """Return what an error says, in a line."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
