"""Which learning rate a search chooses: one rule for a board's plan and for its pages."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from statistics import fmean, stdev
from typing import TypeVar

from results.record import Record

Choice = TypeVar("Choice", float, tuple[float, tuple[str, ...]])


def trial_score(record: Record) -> float:
    """Return what a trial scored on the part cut from train; one that diverged is below any."""
    chosen = record.selected if record.status == "finished" else None
    return -math.inf if chosen is None else float(chosen["score"])


def sure_of(by_seed: Sequence[float]) -> float:
    """Return the mean less its standard error, so that a choice which collapses at times loses.

    Of one seed, its score.
    """
    mean = fmean(by_seed)
    if len(by_seed) < 2 or not math.isfinite(mean):
        return mean
    return mean - stdev(by_seed) / math.sqrt(len(by_seed))


def best_choice(trials: Mapping[Choice, Mapping[int, Sequence[float]]]) -> Choice:
    """Return the choice that is best by its trials' scores, the smaller where two are equal.

    Each has, by seed, the scores of its tasks, which are averaged.
    """

    def value(choice: Choice) -> float:
        return sure_of([fmean(scores) for scores in trials[choice].values()])

    return min(trials, key=lambda choice: (-value(choice), choice))
