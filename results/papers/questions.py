"""Answers several questions about rows together, so that few true sentences are called false.

Each has an interval from one limit over all (results/stats/max_t.py): under flipped signs no
more than one time in twenty any of the questions lies beyond it.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from statistics import fmean, median, stdev
from typing import Literal

import numpy as np

from results.stats.compare import points
from results.stats.max_t import critical_t
from results.stats.paired import FEWEST, LEVEL

Answer = Literal["supported", "contradicted", "undecided"]


@dataclass(frozen=True)
class Gap:
    """Is a mean difference `needed` or more? Differences are fractions, by task and seed."""

    rows: str
    values: dict[Hashable, float]
    seeds: int
    needed: float
    why: str = ""

    @property
    def tested(self) -> dict[Hashable, float]:
        return {unit: value - self.needed for unit, value in self.values.items()}

    def answer(self, t: float) -> tuple[Answer, str]:
        """Return the answer and its numbers, by an interval of so many standard errors."""
        each = list(self.values.values())
        middle, n = fmean(each), len(each)
        margin = t * stdev(each) / n**0.5 if n > 1 and np.isfinite(t) else None
        is_known = margin is not None and self.seeds >= FEWEST
        shown = f" [{points(middle - margin)}, {points(middle + margin)}]" if is_known else ""  # type: ignore[operator]
        numbers = f"{self.rows}: {points(middle)} points, {n} pairs{shown}; needed"
        numbers += f" {points(self.needed)}" + (f" ({self.why})" if self.why else "")
        if self.seeds < FEWEST:
            return "undecided", f"{numbers}; too few seeds for an interval ({FEWEST} are needed)"
        if margin is None:
            return "undecided", f"{numbers}; too few pairs for an interval beside the others"
        low, high = middle - margin, middle + margin
        # A sentence that says "above", with 0 needed, is not supported by no difference at all.
        reached = low > 0 if self.needed == 0 else low >= self.needed
        return _answer(reached, high < self.needed), numbers


@dataclass(frozen=True)
class Ratio:
    """Is the median of ratios, by task and seed, at most `most`?"""

    words: str
    values: dict[Hashable, float]
    most: float

    @property
    def tested(self) -> dict[Hashable, float]:
        """Only the side on which a ratio lies: flips then are the sign test's."""
        return {unit: float(np.sign(value - self.most)) for unit, value in self.values.items()}

    def answer(self, t: float) -> tuple[Answer, str]:
        """Return the answer and its numbers, by the medians that a sign test does not reject."""
        ordered = sorted(self.values.values())
        n = len(ordered)
        limit = 1.0 if np.isinf(t) else t / np.sqrt(n - 1 + t**2)
        outside = int(np.ceil(n * (1 - limit) / 2 - 1e-9))  # ratios beyond either end
        ends = (ordered[outside - 1], ordered[n - outside]) if outside else None
        shown = "" if ends is None else f" [{ends[0]:.2f}, {ends[1]:.2f}]"
        numbers = f"median ratio of {self.words} {median(ordered):.2f}{shown} over {n} pairs of"
        numbers += f" runs ({ordered[0]:.2f} to {ordered[-1]:.2f}); at most {self.most:g} needed"
        if ends is None:
            return "undecided", f"{numbers}; too few pairs for an interval beside the others"
        return _answer(ends[1] <= self.most, ends[0] > self.most), numbers


def answers(questions: Sequence[Gap | Ratio]) -> list[tuple[Answer, str]]:
    """Return the answer to each question and its numbers: all true together, 95 times in 100."""
    limits = critical_t([question.tested for question in questions], LEVEL)
    return [q.answer(limit) for q, limit in zip(questions, limits, strict=True)]


def _answer(reached: bool, missed: bool) -> Answer:
    return "supported" if reached else "contradicted" if missed else "undecided"
