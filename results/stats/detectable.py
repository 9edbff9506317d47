"""Which difference so many seeds find by the criterion of the tables, in simulation."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from results.stats.paired import FEWEST, Floats, bca_ends, sign_flip_p, smallest_p

COMPARISONS = 1000  # that are simulated


FAR = 4.0  # standard deviations: where 20 seeds must all agree, 2.3 are found


def detectable_difference(
    sd: float, seeds: int, comparisons: int = 1, power: float = 0.8, level: float = 0.05
) -> float | None:
    """Return the difference that so many seeds find with this power; None where they find none.

    Found is what a table claims: the exact sign-flip p, `comparisons` times as large (the first
    step of Holm's correction), is below `level`, and the BCa interval excludes zero. `sd` is that
    of the differences by seed, which are drawn from a normal distribution.
    """
    if seeds < FEWEST or smallest_p(seeds) * comparisons >= level:
        return None
    return sd * _shift(seeds, comparisons, power, level)


@lru_cache
def _shift(seeds: int, comparisons: int, power: float, level: float) -> float:
    """Return the detectable difference in standard deviations, by bisection."""
    noise, beyond = _simulated(seeds)
    open_, sure = np.arange(COMPARISONS), 0  # found at `high` but not at `low`; found at `low`
    low, high = 0.0, FAR
    while high - low > 2e-3:
        middle = (low + high) / 2
        ps = [sign_flip_p(noise[i] + middle) if middle > beyond[i] else 1.0 for i in open_]
        is_claimed: NDArray[np.bool_] = np.array(ps) * comparisons < level
        if sure + is_claimed.sum() >= power * COMPARISONS:
            high, open_ = middle, open_[is_claimed]
        else:
            low, sure, open_ = middle, sure + int(is_claimed.sum()), open_[~is_claimed]
    return high


@lru_cache
def _simulated(seeds: int) -> tuple[Floats, Floats]:
    """Return comparisons without a difference, and the shift beyond which each interval excludes 0.

    An interval moves with its values.
    """
    noise = np.random.Generator(np.random.PCG64(seeds)).normal(size=(COMPARISONS, seeds))
    return noise, -bca_ends(noise, draws=4999)[0]
