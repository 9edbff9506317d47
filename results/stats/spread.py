"""Whether two sets of scores in pairs spread alike: over seeds within rows, and by a swap test.

Functions of numbers; nothing reads a record.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence

import numpy as np
from numpy.typing import NDArray

from results.stats.paired import Floats

EXACT = 12  # pairs of which all swaps are tried


SWAPS = 9_999


def sd_within(scores: Sequence[float] | Floats, rows: Sequence[Hashable]) -> float | None:
    """Return the standard deviation within rows, pooled; None where no row has two scores."""
    places = _places(rows)
    freedom = len(places) - len(set(places.tolist()))
    if not freedom:
        return None
    squares = _squares(np.asarray(scores, dtype=np.float64)[None, :], places)
    return float(np.sqrt(squares[0] / freedom))


def swap_p(
    first: Sequence[float], second: Sequence[float], rows: Sequence[Hashable], seed: int = 0
) -> float | None:
    """Return the two-sided p of equal spread within rows, under swaps within pairs.

    Where both sides have one distribution, each pair could as well be the other way round. The
    statistic is the logarithm of the ratio of the squares about the rows' means. All swaps of up to
    12 pairs are tried, else 9,999 drawn ones. None where no row has two scores; 1 where no
    pair differs.
    """
    one, two = (np.asarray(side, dtype=np.float64) for side in (first, second))
    places = _places(rows)
    if len(set(places.tolist())) == len(places):
        return None
    if not np.any(one != two):
        return 1.0
    swapped = _swaps(len(one), seed)
    observed = _log_ratio(one[None, :], two[None, :], places)[0]
    each = _log_ratio(np.where(swapped, two, one), np.where(swapped, one, two), places)
    hits = int(np.sum(each >= observed - 1e-9))
    return hits / len(swapped) if len(one) <= EXACT else (hits + 1) / (len(swapped) + 1)


def _places(rows: Sequence[Hashable]) -> NDArray[np.int64]:
    numbers = {row: number for number, row in enumerate(dict.fromkeys(rows))}
    return np.array([numbers[row] for row in rows], dtype=np.int64)


def _swaps(pairs: int, seed: int) -> NDArray[np.bool_]:
    if pairs <= EXACT:
        patterns = np.arange(2**pairs)[:, None] >> np.arange(pairs)
        return (patterns & 1).astype(bool)
    return np.random.Generator(np.random.PCG64(seed)).random((SWAPS, pairs)) < 0.5


def _log_ratio(one: Floats, two: Floats, places: NDArray[np.int64]) -> Floats:
    """Return how far apart both sides' squares are, for each line of [swaps, pairs]."""
    least = np.finfo(np.float64).tiny
    ratio = np.log(_squares(one, places) + least) - np.log(_squares(two, places) + least)
    distance: Floats = np.abs(ratio)
    return distance


def _squares(scores: Floats, places: NDArray[np.int64]) -> Floats:
    """Return each line's sum of squares about the means of the rows."""
    member = (places[:, None] == np.arange(places.max() + 1)).astype(np.float64)
    means = scores @ member / member.sum(axis=0)
    squares: Floats = ((scores - means[:, places]) ** 2).sum(axis=1)
    return squares
