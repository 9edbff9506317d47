"""Which learning rate a search chooses: one rule for a board's plan and for its pages."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from statistics import fmean, stdev
from typing import TypeVar

from results.record import Record

Choice = TypeVar("Choice", float, tuple[float, tuple[str, ...]])  # a rate, or one with options


def trial_score(record: Record) -> float:
    """Return a trial's score on other rows of train than it trained on; of a diverged one -inf."""
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
    """Return the choice that is best by its trials' scores.

    Each has, by seed, the scores of its tasks, which are averaged. Of equal ones it is that of the
    smaller rate, then the first.
    """

    def value(choice: Choice) -> float:
        return sure_of([fmean(scores) for scores in trials[choice].values()])

    def rate(choice: Choice) -> float:
        return choice if isinstance(choice, float) else choice[0]

    return min(trials, key=lambda choice: (-value(choice), rate(choice)))
