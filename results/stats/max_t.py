"""Step-down max-T: many paired comparisons tested together by one set of flipped signs.

Westfall and Young 1993. Under the hypothesis that a comparison's differences are symmetric about
zero, any sign of a unit (a task and seed) is as likely as the other. A unit's sign is the same in
all comparisons, so that what they share, such as the baseline's scores, is kept.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from results.stats.paired import EQUAL, Floats

DRAWS = 200_000  # patterns of signs, where all are more: of 18 units there are 2^17


MOST = 100_000_000  # statistics, of comparisons times draws: a family above 500 has fewer draws


BLOCK = 200_000  # statistics held at a time: what a cache holds


ROOM = 1e-9  # within which statistics, of which one is the most, are equal


Differences = Mapping[Hashable, float]  # by unit


def step_down(comparisons: Sequence[Differences], seed: int = 0, draws: int = DRAWS) -> list[float]:
    """Return a p value for each comparison, adjusted for all of them, in the order given.

    The most extreme comparison is beside the largest statistic of all of them under each pattern of
    signs, the next beside that of the others, and so on; none gets less than one before it. All
    patterns where they are no more than `draws`, else so many drawn ones and the one observed; of
    more than 500 comparisons fewer. One whose differences are zero, or do not vary, gets 1.
    """
    if not comparisons:
        return []
    family = _Family(comparisons, seed, draws)
    # Rounding is a part of the summed sizes, so of 1, however small the sum of them is.
    limits = family.observed - ROOM
    reached, seen = np.zeros(len(limits)), 0
    for statistics in family.flipped():
        np.maximum.accumulate(statistics, axis=1, out=statistics)
        reached += np.count_nonzero(statistics >= limits, axis=0)
        seen += len(statistics)
    from_most = np.maximum.accumulate((reached / seen)[::-1])[::-1]
    adjusted = np.ones(len(limits))
    adjusted[family.order] = np.where(family.observed > 0, from_most, 1.0)
    return [float(p) for p in adjusted]


def critical_t(comparisons: Sequence[Differences], level: float, seed: int = 0) -> list[float]:
    """Return how far, as |t| of each comparison, its mean may lie from a tested value.

    Beyond it no more than a part `level` of the patterns have any comparison: the ends of
    simultaneous intervals, mean ± t · sd / √n. Infinite where so few pairs reach no such limit, and
    for differences that do not vary.
    """
    if not comparisons:
        return []
    family = _Family(comparisons, seed, DRAWS)
    largest = np.sort(np.concatenate([each.max(axis=1) for each in family.flipped()]))
    allowed = int(np.floor(level * len(largest) + 1e-9))  # patterns that may lie beyond
    # With none allowed, even the most extreme pattern is too likely. What equals it is not beyond.
    limit = largest[len(largest) - 1 - allowed] * (1 + 1e-9) if allowed else 1.0
    limits = np.empty(len(comparisons))
    limits[family.order] = [family.as_t(limit, int(pairs)) for pairs in family.pairs]
    limits[[not varies(one.values()) for one in comparisons]] = np.inf
    return [float(t) for t in limits]


def varies(differences: Iterable[float]) -> bool:
    """Say whether differences are of several sizes.

    Those of one size, as of rows that no seed changes, are copies of one run: their t is infinite
    whenever their signs agree, which would rule every family that they are in.
    """
    sizes = [abs(value) for value in differences]
    return bool(sizes) and max(sizes) - min(sizes) > EQUAL * max(sizes)


class _Family:
    """Comparisons from the least extreme to the most, as one matrix [comparisons, units].

    Its values are differences over √n times their root mean square, zero where a unit lacks: a sum
    of flipped ones is mean over root mean square.
    """

    def __init__(self, comparisons: Sequence[Differences], seed: int, draws: int) -> None:
        units = list(dict.fromkeys(unit for one in comparisons for unit in one))
        values = np.array([[one.get(u, 0.0) for u in units] for one in comparisons], float)
        pairs = np.array([len(one) for one in comparisons])
        # Squares of values near the smallest float would be zero.
        values = _over(values, np.abs(values).max(axis=1, initial=0.0))
        values = _over(values, np.sqrt(pairs * (values**2).sum(axis=1)))
        vary = [varies(one.values()) for one in comparisons]
        values[np.logical_not(vary)] = 0.0
        counts = Counter(int(n) for n in pairs[vary])
        self.usual = max(counts, key=lambda n: (counts[n], -n), default=1)
        self.values, self.pairs = values, pairs
        observed = self._statistics(np.ones((1, len(units))))[0]
        self.order = np.argsort(observed, kind="stable")
        self.observed = observed[self.order]
        self.values, self.pairs = values[self.order], pairs[self.order]
        self.signs = patterns(len(units), seed, min(draws, MOST // len(values)))

    def flipped(self) -> Iterator[Floats]:
        """Yield the statistics under each pattern of signs, [patterns, comparisons], in blocks."""
        at_once = max(1, BLOCK // len(self.values))
        for begin in range(0, len(self.signs), at_once):
            yield self._statistics(self.signs[begin : begin + at_once].astype(float))

    def _statistics(self, signs: Floats) -> Floats:
        """Return |mean| over root mean square, which flips leave alone, on one scale for all.

        That scale is the statistic of the most frequent number of pairs.
        """
        ratio: Floats = signs @ self.values.T
        np.abs(ratio, out=ratio)
        for pairs in np.unique(self.pairs):
            if pairs != self.usual:
                of_it = self.pairs == pairs
                ratio[:, of_it] = np.interp(ratio[:, of_it], *_scale(int(pairs), self.usual))
        return ratio

    def as_t(self, limit: float, pairs: int) -> float:
        """Return the |t| of so many pairs that a statistic stands for."""
        if pairs != self.usual:
            own, usual = _scale(pairs, self.usual)
            limit = float(np.interp(limit, usual, own))
        if limit >= 1 - 1e-9 or pairs < 2:
            return float("inf")
        return float(np.sqrt(pairs - 1) * limit / np.sqrt(1 - limit**2))


def _over(values: Floats, sizes: Floats) -> Floats:
    """Return each line divided by its size, zero where that is zero."""
    divided: Floats = np.divide(
        values, sizes[:, None], out=np.zeros_like(values), where=sizes[:, None] > 0
    )
    return divided


@lru_cache
def _scale(pairs: int, usual: int) -> tuple[Floats, Floats]:
    """Return statistics of so many pairs, and those of the usual number that are as extreme.

    As extreme is the t that a statistic is equivalent to, by its tail probability: comparisons of
    few pairs, whose t is often large, would else rule the maximum.
    """
    from scipy import stats  # half a second, which a stored result need not wait for

    left = np.exp(-np.linspace(0, 34, 4001))  # of 1, so that the grid is fine near it
    ratio = 1 - left
    if pairs < 2:  # one pair is always at its end, and says nothing
        return ratio, np.zeros_like(ratio)
    tail = stats.t.sf(np.sqrt(pairs - 1) * ratio / np.sqrt(left * (1 + ratio)), pairs - 1)
    if usual < 2:
        return ratio, 1 - 2 * tail
    t = stats.t.isf(np.maximum(tail, 1e-200), usual - 1)
    usual_ratio: Floats = t / np.hypot(np.sqrt(usual - 1), t)
    return ratio, usual_ratio


@lru_cache(maxsize=4)
def patterns(units: int, seed: int, draws: int) -> NDArray[np.int8]:
    """Return patterns of signs [patterns, units]: all that differ by more than all signs, or drawn.

    The first pattern is the one observed.
    """
    if units <= 1 or 2 ** (units - 1) <= draws:
        numbers = np.arange(2 ** max(0, units - 1))[:, None] >> np.arange(units)
        return (1 - 2 * (numbers & 1)).astype(np.int8)
    rng = np.random.Generator(np.random.PCG64(seed))
    drawn = rng.integers(0, 2, size=(draws + 1, units), dtype=np.int8) * 2 - 1
    drawn[0] = 1
    return drawn
