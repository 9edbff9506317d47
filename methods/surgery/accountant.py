"""How private a run is: ε of the subsampled Gaussian mechanism, by the accountants of Opacus.

Opacus (arXiv 2109.12298) has them of Gopi et al. 2021 (arXiv 2106.02848, "prv", an upper bound) and
of Mironov 2017 with its conversion ("rdp").
"""

from __future__ import annotations

import functools
import math
import warnings
from collections.abc import Callable
from importlib.util import find_spec
from typing import Literal

Accountant = Literal["prv", "rdp"]
ACCOUNTANTS: tuple[Accountant, ...] = ("prv", "rdp")
TOLERANCE = 1e-3  # by which ε may stay below what was asked for
_MOST_NOISE = 2.0**10


def is_installed() -> bool:
    """Say whether the library is there, without loading it."""
    return find_spec("opacus") is not None


@functools.cache
def epsilon_of(
    accountant: Accountant, noise: float, rate: float, steps: int, delta: float
) -> float:
    """Return ε of `steps` steps at a sampling rate, whose noise has std `noise` · clipping norm."""
    if noise == 0:
        return math.inf if steps else 0.0
    if steps == 0:
        return 0.0
    from opacus.accountants import create_accountant

    counting = create_accountant(mechanism=accountant)
    counting.history = [(noise, rate, steps)]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # where the bound is loose at the edge of RDP's orders
        return float(counting.get_epsilon(delta=delta))


@functools.cache
def noise_for(
    accountant: Accountant, epsilon: float, rate: float, steps: int, delta: float
) -> float | None:
    """Return the least noise multiplier at which ε is not above `epsilon`, and hardly below it.

    None where not even the most noise reaches it. RDP says where to look.
    """

    def spent(by: Accountant) -> Callable[[float], float]:
        return lambda noise: epsilon_of(by, noise, rate, steps, delta)

    high = _enough(spent("rdp"), epsilon)  # which is quick, and never below what is exact
    if accountant == "rdp":
        return high and _least(spent("rdp"), epsilon, high / 2, high, TOLERANCE)
    if high is not None:
        high = _least(spent("rdp"), epsilon, high / 2, high, 0.05 * epsilon)
    if high is None or spent(accountant)(high) > epsilon:
        high = _enough(spent(accountant), epsilon)
    return high and _least(spent(accountant), epsilon, 0.9 * high, high, TOLERANCE)


def _enough(spent: Callable[[float], float], epsilon: float) -> float | None:
    """Return a noise, a power of two, at which ε is not above the one given; None if none is."""
    noise = 1.0
    while spent(noise) > epsilon:
        noise *= 2
        if noise > _MOST_NOISE:
            return None
    return noise


def _least(
    spent: Callable[[float], float], epsilon: float, low: float, high: float, tolerance: float
) -> float:
    """Return a noise between two at which a falling ε is at most `tolerance` below the one given.

    It is about a power of the noise, so where it is crossed is sought along a chord of logarithms.
    """
    tolerance = min(tolerance, 0.05 * epsilon)
    above, below = spent(low), spent(high)
    while above <= epsilon:
        low, high, below = 0.9 * low, low, above
        above = spent(low)
    for turn in range(60):
        if epsilon - below <= tolerance or high - low < 1e-7 * high or below == 0:
            break
        share = math.log(above / (epsilon - tolerance / 2)) / math.log(above / below)
        middle = (low * high) ** 0.5 if turn % 4 == 3 else low * (high / low) ** share
        value = spent(middle)
        if value > epsilon:
            low, above = middle, value
        else:
            high, below = middle, value
    return high
