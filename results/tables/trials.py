"""Which learning rate a search chooses: one rule for a board's plan and for its pages."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from statistics import fmean

from results.record import Record


def trial_score(record: Record) -> float:
    """Return what a trial scored on the part cut from train; one that diverged is below any."""
    chosen = record.selected if record.status == "finished" else None
    return -math.inf if chosen is None else float(chosen["score"])


def best_rate(trials: Mapping[float, Sequence[float]]) -> float:
    """Return the rate of the best mean of its trials' scores, the smaller where two are equal."""
    return min(trials, key=lambda rate: (-fmean(trials[rate]), rate))
