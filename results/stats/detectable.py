"""Which difference so many seeds find by the criterion of the tables, in simulation."""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from results.stats.max_t import patterns
from results.stats.paired import FEWEST, LEVEL, Floats, bca_ends, smallest_p

BOARDS = 400  # that are simulated


PATTERNS = 1000  # of signs; all where they are no more


FAR = 8.0  # standard deviations: where six seeds must nearly agree, 4 are found


def detectable_difference(
    sd: float, seeds: int, rows: int = 1, tasks: int = 1, power: float = 0.8
) -> float | None:
    """Return the difference on one task that so many seeds find with this power, or None.

    Found is what a table of `rows` beside the baseline and so many tasks claims: p by max-T over
    its differences on all tasks is below .05, and the BCa interval excludes zero. `sd` is that of
    the differences by seed, drawn from a normal distribution; the other rows differ in nothing.
    """
    if seeds < FEWEST or smallest_p(seeds) >= LEVEL:
        return None
    shift = _shift(seeds, rows, tasks, power)
    return None if shift is None else sd * shift


@lru_cache
def _shift(seeds: int, rows: int, tasks: int, power: float) -> float | None:
    """Return the detectable difference in standard deviations, by bisection."""
    rng = np.random.Generator(np.random.PCG64([seeds, rows, tasks]))
    flips = patterns(tasks * seeds, seeds, PATTERNS).astype(float).reshape(-1, tasks, seeds)
    boards = [_board(rng, flips, rows) for _ in range(BOARDS)]
    noise = np.array([own for own, _ in boards])  # [boards, seeds]
    others = np.array([largest for _, largest in boards])  # [boards, patterns]
    beyond = -bca_ends(noise, draws=4999)[0]  # shifts from which on each interval excludes zero

    def claimed(shift: float) -> float:
        values = noise + shift
        own = np.abs(values @ flips[:, 0].T) / np.sqrt(seeds * (values**2).sum(axis=1))[:, None]
        reached = np.maximum(own, others) >= own[:, :1] * (1 - 1e-9)
        return float(np.mean((reached.mean(axis=1) < LEVEL) & (shift > beyond)))

    low, high = 0.0, FAR
    if claimed(high) < power:
        return None
    while high - low > 2e-3:
        middle = (low + high) / 2
        low, high = (low, middle) if claimed(middle) >= power else (middle, high)
    return high


def _board(rng: np.random.Generator, flips: Floats, rows: int) -> tuple[Floats, Floats]:
    """Return the differences of one row on the first task, and the largest of all other statistics.

    The rows share the baseline's scores. The largest is over each pattern of signs; statistics of
    averages, which have more pairs, are left out: they would need a common scale, and add little.
    """
    _, tasks, seeds = flips.shape
    scores = rng.normal(0, 0.5**0.5, size=(rows + 1, tasks, seeds))
    apart = scores[1:] - scores[0]
    largest = np.zeros(len(flips))
    for task in range(tasks):
        others = apart[1:, task] if task == 0 else apart[:, task]
        if len(others):
            root = np.sqrt(seeds * (others**2).sum(axis=1))
            largest = np.maximum(largest, (np.abs(flips[:, task] @ others.T) / root).max(axis=1))
    return apart[0, 0], largest


def shown_by(sd: float, seeds: int, power: float = 0.8) -> float:
    """Return the difference that a single t-test of so many pairs finds with this power.

    For many seeds, where the tests of flipped signs and of t agree; from two seeds on.
    """
    from scipy import optimize, stats  # half a second, which a stored result need not wait for

    limit = stats.t.isf(LEVEL / 2, seeds - 1)

    def missing(effect: float) -> float:
        return float(stats.nct.sf(limit, seeds - 1, effect * seeds**0.5) - power)

    return sd * float(optimize.brentq(missing, 0.0, 100.0))


def seeds_to_detect(sd: float, difference: float, most: int) -> int | None:
    """Return how many seeds find a difference with power .8 as a single question.

    No fewer than the six whose signs can be significant; None where more than `most` are needed.
    """
    fewest = next(n for n in range(FEWEST, 99) if smallest_p(n) < LEVEL)
    if shown_by(sd, most) > difference:
        return None
    return next(n for n in range(fewest, most + 1) if shown_by(sd, n) <= difference)
