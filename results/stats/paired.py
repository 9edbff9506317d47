"""What seeds can say: paired differences, their intervals and tests, ties and ranks.

Scores are paired by seed, which fixes data order and, where shapes allow, the head. Everything here
is a function of numbers; nothing reads a record.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


LEVEL = 0.05  # of a test; an interval covers the rest


EXACT_PAIRS = 40  # two halves of at most 2^20 sign patterns each


DRAWS = 100_000


BLOCK = 10_000_000  # resampled values held at a time


SEED_DRAWS = 10  # draws of seeds for each draw of examples


EQUAL = 1e-9  # part of the largest, within which values differ by rounding alone


FEWEST = 5  # of fewer values not even the whole range covers the mean nine times in ten


@dataclass(frozen=True)
class Difference:
    """A paired comparison: mean difference, 95 % BCa interval (None below 5 pairs), exact p."""

    pairs: int
    mean: float
    sd: float | None
    interval: tuple[float, float] | None
    p: float | None

    @property
    def excludes_zero(self) -> bool:
        """Say whether there is an interval and zero is outside it."""
        return self.interval is not None and (self.interval[0] > 0 or self.interval[1] < 0)


def compare(first: Sequence[float], second: Sequence[float], seed: int = 0) -> Difference:
    """Compare two methods by seed: the differences first - second."""
    if len(first) != len(second) or not len(first):
        raise ValueError(f"{len(first)} and {len(second)} scores are no pairs")
    differences = np.asarray(first, dtype=np.float64) - np.asarray(second, dtype=np.float64)
    return Difference(
        pairs=len(differences),
        mean=float(differences.mean()),
        sd=float(differences.std(ddof=1)) if len(differences) > 1 else None,
        interval=bca_interval(differences, seed=seed),
        p=sign_flip_p(differences) if len(differences) > 1 else None,
    )


def bca_interval(
    values: Sequence[float] | Floats, level: float = 0.95, draws: int = 9999, seed: int = 0
) -> tuple[float, float] | None:
    """Return the bias-corrected and accelerated bootstrap interval of a mean (Efron 1987).

    A bootstrap of ten values covers too little, so the level is widened: the normal quantile
    becomes √(n/(n-1)) times Student's (the expanded interval of Hesterberg 2015; recalled, and
    simulated in the tests). None below five values; equal values give an interval of no width.
    """
    values = np.asarray(values, dtype=np.float64)
    if len(values) < FEWEST:
        return None
    if not _spread(values):
        return float(values[0]), float(values[0])
    low, high = bca_ends(values, level, draws, seed)
    return float(low), float(high)


def bca_intervals(
    samples: Sequence[Floats], level: float = 0.95
) -> list[tuple[float, float] | None]:
    """Return the interval of each sample's mean: those of one length together, which is faster."""
    intervals: list[tuple[float, float] | None] = [None] * len(samples)
    by_length: dict[int, list[int]] = defaultdict(list)
    for i, values in enumerate(samples):
        by_length[len(values)].append(i)
    for length, places in by_length.items():
        if length < FEWEST:
            continue
        values = np.array([samples[i] for i in places], dtype=np.float64)
        spread = _spread(values)
        low, high = values[:, 0].copy(), values[:, 0].copy()
        if spread.any():
            low[spread], high[spread] = bca_ends(values[spread], level)
        for i, ends in zip(places, zip(low, high, strict=True), strict=True):
            intervals[i] = (float(ends[0]), float(ends[1]))
    return intervals


def _spread(values: Floats) -> Any:
    """Say along the last axis whether values differ by more than their rounding."""
    return np.ptp(values, axis=-1) > EQUAL * np.abs(values).max(axis=-1)


def bca_ends(
    values: Floats, level: float = 0.95, draws: int = 9999, seed: int = 0
) -> tuple[Floats, Floats]:
    """Return the ends of the intervals of `bca_interval` along the last axis, [..., values]."""
    from scipy import stats  # half a second, which a stored result need not wait for

    tail = _widened_tail(level, values.shape[-1])
    interval = stats.bootstrap(
        (values,),
        np.mean,
        axis=-1,
        confidence_level=1 - 2 * tail,
        n_resamples=draws,
        batch=max(1, BLOCK // values.size),
        method="BCa",
        rng=np.random.Generator(np.random.PCG64(seed)),
    ).confidence_interval
    return interval.low, interval.high


def _widened_tail(level: float, n: int) -> float:
    """Return what a bootstrap of n values leaves beyond either end, so that it covers `level`."""
    from scipy import stats  # half a second, which a stored result need not wait for

    return float(stats.norm.sf(math.sqrt(n / (n - 1)) * stats.t.ppf((1 + level) / 2, n - 1)))


def median_interval(
    values: Sequence[float] | Floats, level: float = 0.95
) -> tuple[float, float] | None:
    """Return the interval of a median that the sign test does not reject, two of the values.

    It holds for values of any distributions, also of several: where half of all lie below the
    median, a binomial bounds how many do (Hoeffding 1956). None below six values, of which not even
    the whole range covers it so often.
    """
    ordered = sorted(float(value) for value in values)
    n = len(ordered)
    below, outside = 0, 0.0  # values left out at either end, and what they leave uncovered
    while n and outside + 2 * math.comb(n, below) / 2**n <= 1 - level:
        outside += 2 * math.comb(n, below) / 2**n
        below += 1
    return (ordered[below - 1], ordered[n - below]) if below else None


def sign_flip_p(differences: Sequence[float] | Floats, seed: int = 0) -> float:
    """Return the two-sided p of the mean under flipped signs: exact to 40 pairs, else by draws.

    The smallest p that n pairs can give is 2^(1-n). No difference at all gives 1.
    """
    values = np.asarray(differences, dtype=np.float64)
    observed = abs(values.sum()) - 1e-12 * np.abs(values).sum()
    if observed <= 0:
        return 1.0
    if len(values) <= EXACT_PAIRS:
        # Every pattern is a sum over one half of the pairs and a sum over the other.
        half = len(values) // 2
        one, other = np.sort(_signed_sums(values[:half])), _signed_sums(values[half:])
        above = len(one) * len(other) - np.searchsorted(one, observed - other).sum()
        return float(min(1.0, 2 * above / 2.0 ** len(values)))
    hits = np.sum(np.abs(_signs(len(values), seed) @ values) >= observed)
    return float((hits + 1) / (DRAWS + 1))


@lru_cache(maxsize=1)
def _signs(pairs: int, seed: int) -> Floats:
    return np.random.Generator(np.random.PCG64(seed)).choice([-1.0, 1.0], size=(DRAWS, pairs))


def _signed_sums(values: Floats) -> Floats:
    sums = np.zeros(1)
    for value in values:
        sums = np.concatenate([sums + value, sums - value])
    return sums


def smallest_p(pairs: int) -> float:
    """Return the smallest p that the sign-flip test of so many pairs can give."""
    return 2.0 ** (1 - pairs) if pairs else 1.0


def holm(ps: Sequence[float]) -> list[float]:
    """Return p values adjusted for their number (Holm 1979), in the order given."""
    order = np.argsort(ps, kind="stable")
    adjusted = [0.0] * len(ps)
    highest = 0.0
    for rank, i in enumerate(order):
        highest = max(highest, min(1.0, (len(ps) - rank) * ps[i]))
        adjusted[i] = highest
    return adjusted


def multi_bootstrap(
    first: Floats, second: Floats, level: float = 0.95, seed: int = 0
) -> tuple[float, float] | None:
    """Return an interval of the mean difference over seeds and examples together.

    Sellam et al. 2022 (arXiv 2106.16163): seeds and examples are drawn with replacement, the same
    for both methods. `first` and `second` hold scores [seeds, draws]: column d is what each seed's
    model scores on the d-th draw of examples (results/stats/resampling.py). Its level is widened
    for few seeds as that of `bca_interval`. None below five seeds: more examples do not make up for
    them.
    """
    if first.shape != second.shape or first.ndim != 2 or not first.size:
        raise ValueError(f"shapes {first.shape} and {second.shape}: both need [seeds, draws]")
    differences = np.asarray(first, dtype=np.float64) - second
    seeds, draws = differences.shape
    if seeds < FEWEST:
        return None
    rng = np.random.Generator(np.random.PCG64(seed))
    drawn = rng.integers(seeds, size=(seeds, SEED_DRAWS * draws))
    means = differences[drawn, np.tile(np.arange(draws), SEED_DRAWS)].mean(axis=0)
    tail = _widened_tail(level, seeds)
    low, high = np.quantile(means, [tail, 1 - tail])
    return float(low), float(high)


def expected_best(scores: Sequence[float], trials: int) -> float:
    """Return the expected best of `trials` draws without replacement from the scores seen.

    Unbiased for the expected best of so many trials (Tang et al. 2020): the sum over the sorted
    scores of C(i-1, k-1) / C(n, k).
    """
    ordered = sorted(scores)
    if not 1 <= trials <= len(ordered):
        raise ValueError(f"trials={trials} of {len(ordered)} scores")
    ways = math.comb(len(ordered), trials)
    return float(sum(math.comb(i, trials - 1) / ways * x for i, x in enumerate(ordered)))


@dataclass(frozen=True)
class Ranks:
    """Mean ranks (1 is best) over tasks, Friedman's p, and Nemenyi's critical difference."""

    mean: dict[str, float]
    p: float
    critical_difference: float


def ranks(scores: Mapping[str, Sequence[float]], level: float = 0.05) -> Ranks:
    """Rank methods over tasks: one score a task and method, in the same order.

    Demšar 2006, recalled. Needs three methods and two tasks.
    """
    from scipy import stats  # half a second, which a stored result need not wait for

    table = np.asarray(list(scores.values()), dtype=np.float64)
    methods, tasks = table.shape
    if methods < 3 or tasks < 2:
        raise ValueError(f"{methods} methods on {tasks} tasks: ranks need three and two")
    ranked = stats.rankdata(-table, axis=0)
    even = bool(np.all(ranked == ranked[0]))
    p = 1.0 if even else float(stats.friedmanchisquare(*table).pvalue)
    quantile = stats.studentized_range.ppf(1 - level, methods, np.inf) / math.sqrt(2)
    apart = quantile * math.sqrt(methods * (methods + 1) / (6 * tasks))
    means = dict(zip(scores, map(float, ranked.mean(axis=1)), strict=True))
    return Ranks(means, p, float(apart))
