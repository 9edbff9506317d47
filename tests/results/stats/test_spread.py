"""Spread within rows is pooled, and its swap test is exact where it can be."""

from __future__ import annotations

import itertools
import math
from statistics import variance

import numpy as np
import pytest

from results.stats.spread import sd_within, swap_p


def test_sd_within_rows_pools_by_degrees_of_freedom() -> None:
    scores = [1.0, 2.0, 4.0, 10.0, 13.0, 7.0]
    rows = ["a", "a", "a", "b", "b", "alone"]
    pooled = (2 * variance(scores[:3]) + variance(scores[3:5])) / 3
    assert sd_within(scores, rows) == pytest.approx(math.sqrt(pooled))
    assert sd_within([1.0, 2.0], ["a", "b"]) is None


def _squares(scores: list[float], rows: list[str]) -> float:
    total = 0.0
    for row in set(rows):
        own = [s for s, r in zip(scores, rows, strict=True) if r == row]
        total += sum((s - sum(own) / len(own)) ** 2 for s in own)
    return total


def _by_hand(one: list[float], two: list[float], rows: list[str]) -> float:
    """Every swap, one after the other."""
    observed = abs(math.log(_squares(one, rows) / _squares(two, rows)))
    hits = 0
    for swap in itertools.product((False, True), repeat=len(one)):
        mine = [b if s else a for a, b, s in zip(one, two, swap, strict=True)]
        other = [a if s else b for a, b, s in zip(one, two, swap, strict=True)]
        ratio = abs(math.log(_squares(mine, rows) / _squares(other, rows)))
        hits += ratio >= observed - 1e-9
    return hits / 2 ** len(one)


@pytest.mark.parametrize("wide", [1.0, 6.0])
def test_few_pairs_are_swapped_in_all_ways(wide: float) -> None:
    rng = np.random.default_rng(3)
    one, two = rng.normal(size=7).tolist(), (wide * rng.normal(size=7)).tolist()
    rows = list("aaaabbb")
    assert swap_p(one, two, rows) == pytest.approx(_by_hand(one, two, rows))


def test_drawn_swaps_find_a_wider_side_and_keep_the_level_without_one() -> None:
    rng = np.random.default_rng(4)
    rows = [row for row in range(10) for _ in range(4)]
    means = np.repeat(rng.normal(size=10) * 5, 4)
    assert (swap_p(means + rng.normal(size=40), means + 3 * rng.normal(size=40), rows) or 1) < 0.01
    ps = [swap_p(means + rng.normal(size=40), means + rng.normal(size=40), rows) for _ in range(60)]
    assert sum(p is not None and p < 0.05 for p in ps) <= 8  # of 60, 3 expected


def test_pairs_that_do_not_differ_and_rows_of_one_score_have_nothing_to_test() -> None:
    assert swap_p([1.0, 2.0], [1.0, 2.0], ["a", "a"]) == 1.0
    assert swap_p([1.0, 2.0], [1.0, 3.0], ["a", "b"]) is None
    assert swap_p([1.0, 1.0], [1.0, 3.0], ["a", "a"]) == 1.0  # swapped, the other is as wide
