"""Shows and logs a course while it goes, at the moments when its losses are looked at anyway."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch

from runners.machine.console import Meter
from runners.machine.trackers import Trackers
from runners.training.loop import Loop


class Watch:
    """A meter on standard error, and the trackers of `log=`; a run waits for neither.

    Steps get train/loss, train/learning_rate (the highest, where layers differ),
    train/gradient_norm before clipping (where no method clips them), and
    train/tokens_per_second since the last look. Evaluations get SPLIT/METRIC.
    """

    def __init__(self, loop: Loop, trackers: Trackers) -> None:
        self.loop, self.trackers = loop, trackers
        self.meter: Meter | None = None
        self._tokens, self._seconds = 0, 0.0
        if trackers:
            loop.trace = []

    def begin(self, scores: Sequence[float]) -> None:
        """Start to count, from the step that the loop is at; `scores` are those of before."""
        progress = self.loop.progress
        self._tokens, self._seconds = progress.real_tokens, progress.train_seconds
        self.meter = Meter(self.loop.steps, self.loop.step)
        if scores:
            self.meter.scored(scores[-1], max(scores))

    def step(self, step: int) -> None:
        """Count a step, and look where the losses are known."""
        if self.meter is not None:
            self.meter.step(step)
        self.look()

    def look(self) -> None:
        """Show and log the steps since the last look, once the loop has looked at their losses."""
        loop = self.loop
        if len(loop.progress.losses) != loop.step or not loop.step:
            return
        if self.meter is not None:
            self.meter.seen(loop.progress.losses[-1], loop.rate)
        if loop.trace:
            self.trackers.steps(self._rows(loop.trace))
            loop.trace = []

    def _rows(
        self, trace: list[tuple[float, torch.Tensor | None]]
    ) -> list[tuple[int, dict[str, float]]]:
        loop, first = self.loop, self.loop.step - len(trace)
        tokens = loop.progress.real_tokens - self._tokens
        seconds = loop.progress.train_seconds - self._seconds
        self._tokens, self._seconds = loop.progress.real_tokens, loop.progress.train_seconds
        norms = [norm for _, norm in trace if norm is not None]
        known = torch.stack(norms).tolist() if len(norms) == len(trace) else []
        rows = []
        for i, (rate, _) in enumerate(trace):
            row = {"train/loss": loop.progress.losses[first + i], "train/learning_rate": rate}
            if known:
                row["train/gradient_norm"] = known[i]
            if seconds > 0:
                row["train/tokens_per_second"] = tokens / seconds
            rows.append((first + i + 1, row))
        return rows

    def evaluated(self, entry: Mapping[str, Any], scores: Sequence[float]) -> None:
        """Tell of an evaluation; `scores` are the numbers by which all so far are compared."""
        if self.meter is not None:
            self.meter.evaluated(entry)
            if scores:
                self.meter.scored(scores[-1], max(scores))
        parts = {"selection": entry["selection"]} if "selection" in entry else {}
        parts |= entry["scores"]
        self.trackers.scores(entry["step"], parts)

    def end(self) -> None:
        """Take the bar away; what is still unknown of the last steps may be logged later."""
        if self.meter is not None:
            self.meter.close()
