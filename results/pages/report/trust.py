"""Draws how far a run's probabilities can be trusted."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from results.pages.leaderboard.scale import Scale
from results.pages.report.answers import Answers
from results.pages.report.draw import Axes, bar, framed, line, picture
from results.pages.report.parts import grid, heading, soft, table
from results.stats.calibration import BINS, Bin, bins, calibration, log_softmax

SHARES = Scale(0.0, 1.0, (0.0, 0.25, 0.5, 0.75, 1.0))


def trust_section(answers: Answers, logits: NDArray[np.float32]) -> str:
    """Return a split's reliability diagram, and what it comes to."""
    gold = answers.gold
    known = calibration(logits, gold)
    each = bins(np.exp(log_softmax(logits)), gold.astype(np.int64))
    said = (
        f"ECE is {100 * known.ece:.1f} % (of the answer, over {BINS} equal bins), NLL"
        f" {known.nll:.4f} nats, the Brier score {known.brier:.4f} (from 0 to 2)."
    )
    beside = [_diagram(each, answers.split), f"<div>{soft(said)}{_table(each)}</div>"]
    return heading("Calibration", 3) + grid(beside)


def _diagram(each: list[Bin], split: str) -> str:
    where = Axes(SHARES, SHARES)
    inside = "".join(
        bar(where, one.low, one.high, one.accuracy, f"{one.rows:,} rows, {_share(one.accuracy)}")
        for one in each
    )
    inside += line(where, [(0.0, 0.0), (1.0, 1.0)], "equal")
    svg = picture(where, inside, f"accuracy by confidence, {split}", "confidence")
    caption = "A bar that ends below the line: surer than right."
    return framed("Accuracy by confidence", svg, caption)


def _table(each: list[Bin]) -> str:
    body = [
        [
            f"{_share(one.low)} to {_share(one.high)}",
            f"{one.rows:,}",
            _share(one.confidence),
            _share(one.accuracy),
        ]
        for one in each
    ]
    return table(["confidence", "rows", "mean confidence", "accuracy"], body)


def _share(value: float) -> str:
    return f"{100 * value:.1f} %"
