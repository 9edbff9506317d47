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

    Each has, by seed, the scores of its tasks, which are averaged. One of which fewer trials
    diverged is better; of equal ones it is that of the smaller rate, then the first.
    """

    def rank(choice: Choice) -> tuple[int, float, float]:
        each = trials[choice].values()
        held = [[score for score in scores if math.isfinite(score)] for scores in each]
        lost = sum(map(len, each)) - sum(map(len, held))
        means = [fmean(scores) for scores in held if scores]
        rate = choice if isinstance(choice, float) else choice[0]
        return lost, -sure_of(means) if means else math.inf, rate

    return min(trials, key=rank)
