"""Answers several questions about rows together, so that few true sentences are called false.

Those about scores have intervals from one limit over all of them (results/stats/max_t.py), those
about costs the sign test's, each at its own part of the level. So no more than one time in twenty
any of the questions lies beyond its interval.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from statistics import fmean, median, stdev
from typing import Literal

import numpy as np

from results.stats.compare import points
from results.stats.max_t import critical_t, varies
from results.stats.paired import FEWEST, LEVEL, median_interval, smallest_p

Answer = Literal["supported", "contradicted", "undecided"]


Ends = tuple[float, float]
NONE = (-math.inf, math.inf)  # the ends of no interval


MORE_DIGITS = 4  # of an end that is close to what is needed


FEW_BESIDE = "too few pairs for an interval beside the others"


@dataclass(frozen=True)
class Gap:
    """Is a mean difference `needed` or more? Differences are fractions, by task and seed."""

    rows: str
    values: dict[Hashable, float]
    seeds: int
    needed: float
    why: str = ""

    @property
    def parts(self) -> tuple[Gap, ...]:
        """What has a limit of its own."""
        return (self,)

    @property
    def tested(self) -> dict[Hashable, float]:
        return {unit: value - self.needed for unit, value in self.values.items()}

    @property
    def is_able(self) -> bool:
        """Whether the seeds can decide it, however large the difference."""
        has_seeds = self.seeds >= FEWEST and smallest_p(len(self.values)) < LEVEL
        return has_seeds and varies(self.tested.values())

    def ends(self, t: float) -> Ends:
        """Return the interval of so many standard errors."""
        each = list(self.values.values())
        if not self.is_able or not np.isfinite(t):
            return NONE
        middle, margin = fmean(each), t * stdev(each) / len(each) ** 0.5
        return middle - margin, middle + margin

    def answer(self, limits: Sequence[float]) -> tuple[Answer, str]:
        """Return the answer and its numbers, by the limit of its one part."""
        return self.answer_by(self.ends(limits[0]))

    def answer_by(self, ends: Ends) -> tuple[Answer, str]:
        """Return the answer and its numbers, by the ends of an interval."""
        is_known = all(map(math.isfinite, ends))
        low, high = ends
        texts = [
            points(e, _digits(100 * e, 100 * self.needed, 1)) if is_known else "" for e in ends
        ]
        shown = f" [{', '.join(texts)}]" if is_known else ""
        numbers = f"{self.rows}: {points(fmean(self.values.values()))} points,"
        exact = max(1, len(f"{round(100 * self.needed, 4):g}".partition(".")[2]))
        numbers += f" {len(self.values)} pairs{shown}; needed {points(self.needed, exact)}"
        numbers += f" ({self.why})" if self.why else ""
        if self.seeds < FEWEST:
            return "undecided", f"{numbers}; too few seeds for an interval ({FEWEST} are needed)"
        if not varies(self.tested.values()):
            return "undecided", f"{numbers}; all pairs are as far off, as copies of one run are"
        if not is_known:
            return "undecided", f"{numbers}; {FEW_BESIDE}"
        # A sentence that says "above", with 0 needed, is not supported by no difference at all.
        reached = low > 0 if self.needed == 0 else low >= self.needed
        return _answer(reached, high < self.needed), numbers


@dataclass(frozen=True)
class Best:
    """Is the best of several rows above the best of others by `needed` or more?

    Which are best is chosen from the data, so `shown`, the gap of these, has no interval of its
    own. Each row has gaps to others: the least of them is what it has above the best of those, and
    the largest of these over all rows is the answer. So are the ends of its interval, from `low`
    and `high`, which hold such gaps by row.
    """

    shown: Gap
    low: tuple[tuple[Gap, ...], ...]
    high: tuple[tuple[Gap, ...], ...]

    @property
    def parts(self) -> tuple[Gap, ...]:
        """What has a limit of its own."""
        return tuple(gap for rows in (self.low, self.high) for gaps in rows for gap in gaps)

    def answer(self, limits: Sequence[float]) -> tuple[Answer, str]:
        """Return the answer and its numbers, by the limits of its parts."""
        left = iter(limits)
        low, high = (
            max(min(gap.ends(next(left))[end] for gap in gaps) for gaps in rows)
            for end, rows in enumerate((self.low, self.high))
        )
        return self.shown.answer_by((low, high))


@dataclass(frozen=True)
class Ratio:
    """Is the median of ratios, by task and seed, at most `most`?"""

    words: str
    values: dict[Hashable, float]
    most: float

    def answer(self, level: float) -> tuple[Answer, str]:
        """Return the answer and its numbers, by the medians that a sign test does not reject."""
        ordered = sorted(self.values.values())
        ends = median_interval(ordered, 1 - level)
        texts = [f"{end:.{_digits(end, self.most, 2)}f}" for end in ends or ()]
        shown = f" [{', '.join(texts)}]" if texts else ""
        numbers = f"median ratio of {self.words} {median(ordered):.2f}{shown} over {len(ordered)}"
        numbers += f" pairs of runs ({ordered[0]:.2f} to {ordered[-1]:.2f})"
        numbers += f"; at most {self.most:g} needed"
        if ends is None:
            return "undecided", f"{numbers}; {FEW_BESIDE}"
        return _answer(ends[1] <= self.most, ends[0] > self.most), numbers


Question = Gap | Best | Ratio


def answers(questions: Sequence[Question]) -> list[tuple[Answer, str]]:
    """Return the answer to each question and its numbers: all true together, 95 times in 100.

    What too few seeds can decide has no part in the limits of the others. A cost's few pairs would
    be the most extreme too often for one limit: each has as large a part of the level as it is of
    the questions, and scores have the rest.
    """
    costs = [q for q in questions if isinstance(q, Ratio)]
    scores = [q for q in questions if not isinstance(q, Ratio)]
    parts = [part for question in scores for part in question.parts]
    able = [part for part in parts if part.is_able]
    of_scores = sum(any(part.is_able for part in question.parts) for question in scores)
    decided = _decidable([len(cost.values) for cost in costs], of_scores)
    of_costs = len(decided)
    each = LEVEL / max(1, of_scores + of_costs)
    limits = iter(critical_t([part.tested for part in able], LEVEL - each * of_costs))
    of_part = iter([next(limits) if part.is_able else math.inf for part in parts])
    return [
        q.answer(each if len(q.values) in decided else 0.0)
        if isinstance(q, Ratio)
        else q.answer([next(of_part) for _ in q.parts])
        for q in questions
    ]


def _decidable(pairs: Sequence[int], others: int) -> list[int]:
    """Return the numbers of pairs of the most costs that an equal part of the level can decide."""
    largest: list[int] = []
    for fewest in pairs:
        these = [n for n in pairs if n >= fewest]
        if len(these) > len(largest) and smallest_p(fewest) <= LEVEL / (others + len(these)):
            largest = these
    return largest


def _answer(reached: bool, missed: bool) -> Answer:
    return "supported" if reached else "contradicted" if missed else "undecided"


def _digits(end: float, needed: float, usual: int) -> int:
    """Return with how many decimals an interval's end lies on the side of what is needed it is on.

    Rounded to the needed value, the end of an interval that decides would seem not to.
    """
    if abs(end - needed) < 1e-9:
        return usual
    more = range(usual, usual + MORE_DIGITS)
    return next((n for n in more if (round(end, n) - needed) * (end - needed) > 1e-12), more.stop)
