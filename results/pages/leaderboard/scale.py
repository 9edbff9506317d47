"""Chooses the ends and ticks of an axis; scale.js does the same in a browser."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

REACH = 2.0  # interquartile ranges beyond the quartiles that an axis goes


@dataclass(frozen=True)
class Scale:
    """An axis from `low` to `high`; values beyond are to be marked at its end."""

    low: float
    high: float
    ticks: tuple[float, ...]

    def place(self, value: float) -> float:
        """Return where a value lies, from 0 to 1; beyond the axis, at its end."""
        return min(1.0, max(0.0, (value - self.low) / (self.high - self.low)))

    def beyond(self, value: float) -> int:
        """Return -1 or 1 where a value lies beyond the low or the high end, else 0."""
        return int(value > self.high) - int(value < self.low)


def scale(values: Sequence[float], wanted: int = 5, whole: bool = False) -> Scale:
    """Return an axis over values; unless it is to be `whole`, a few far out do not rule it."""
    ordered = sorted(values) or [0.0]
    low, high = ordered[0], ordered[-1]
    first, third = _quantile(ordered, 0.25), _quantile(ordered, 0.75)
    if third > first and not whole:
        low = max(low, first - REACH * (third - first))
        high = min(high, third + REACH * (third - first))
    if high - low < 1e-9 * max(1.0, abs(low), abs(high)):
        low, high = low - 1, high + 1
    step = _step((high - low) / wanted)
    begin, end = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return Scale(begin * step, end * step, tuple(i * step for i in range(begin, end + 1)))


def _quantile(ordered: Sequence[float], share: float) -> float:
    place = share * (len(ordered) - 1)
    below = int(place)
    above = min(below + 1, len(ordered) - 1)
    return ordered[below] + (place - below) * (ordered[above] - ordered[below])


def _step(about: float) -> float:
    """Return 1, 2 or 5 times a power of ten, at least `about`."""
    power = 10.0 ** math.floor(math.log10(about))
    return next(times * power for times in (1, 2, 5, 10) if times * power >= about * (1 - 1e-9))


def tick_text(value: float) -> str:
    """Return a tick's number, as short as it can be."""
    text = f"{value:.6g}".replace("-", "−")
    return "0" if text in ("−0", "0") else text
