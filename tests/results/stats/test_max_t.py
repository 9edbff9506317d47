"""Step-down max-T beside slow loops over all patterns, and how often it errs."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from scipy import stats

from results.stats.max_t import critical_t, patterns, step_down
from results.stats.paired import sign_flip_p

Family = list[dict]


def _family(seed: int, units: int, comparisons: int, missing: int = 0) -> Family:
    """Return differences that share a baseline; every other comparison lacks some units."""
    rng = np.random.Generator(np.random.PCG64(seed))
    base = rng.normal(size=units)
    return [
        {u: float(x) for u, x in enumerate(rng.normal(0.7 * (k == 0), 1, units) - base)
         if k % 2 == 0 or u >= missing}
        for k in range(comparisons)
    ]  # fmt: skip


def _extremes(family: Family, signs: tuple[int, ...]) -> list[float]:
    """Return how extreme each comparison is under a pattern: 1 - the p value of its t-test."""
    each = []
    for one in family:
        flipped = np.array([signs[unit] * value for unit, value in one.items()])
        each.append(1 - float(stats.ttest_1samp(flipped, 0).pvalue))
    return each


def _slowly(family: Family) -> list[float]:
    """Westfall and Young's step-down by definition: one set of comparisons after another."""
    units = sorted({unit for one in family for unit in one})
    all_patterns = [_extremes(family, s) for s in itertools.product((1, -1), repeat=len(units))]
    observed = all_patterns[0]
    left, adjusted, highest = list(range(len(family))), [0.0] * len(family), 0.0
    while left:
        most = max(left, key=lambda k: observed[k])
        reached = [max(p[k] for k in left) >= observed[most] - 1e-9 for p in all_patterns]
        highest = max(highest, float(np.mean(reached)))
        adjusted[most] = highest
        left.remove(most)
    return adjusted


@pytest.mark.parametrize("missing", [0, 1, 3])
@pytest.mark.parametrize("seed", [0, 1])
def test_step_down_is_a_slow_loop_of_it(missing: int, seed: int) -> None:
    """With unequal numbers of pairs, comparisons are put beside each other by the t-test's p."""
    family = _family(seed, 7, 4, missing)
    assert step_down(family) == pytest.approx(_slowly(family), abs=1e-9)


def test_a_family_of_one_is_the_sign_flip_test() -> None:
    [one] = _family(3, 9, 1)
    assert step_down([one]) == pytest.approx([sign_flip_p(list(one.values()))])


def test_scale_and_order_change_nothing_and_no_difference_is_1() -> None:
    family = _family(4, 8, 5)
    expected = step_down(family)
    scaled = [{u: v * 10.0 ** (k - 2) for u, v in one.items()} for k, one in enumerate(family)]
    assert step_down(scaled) == pytest.approx(expected)
    assert step_down(family[::-1]) == pytest.approx(expected[::-1])
    tiny = [{u: v * 1e-200 for u, v in one.items()} for one in family]
    assert step_down(tiny) == pytest.approx(expected)
    assert step_down([*family, dict.fromkeys(range(8), 0.0)])[-1] == 1
    assert step_down([]) == []


def test_drawn_patterns_are_close_to_all_and_the_same_each_time() -> None:
    family = _family(5, 14, 6)
    exact, drawn = step_down(family), step_down(family, draws=4000)
    assert drawn == pytest.approx(exact, abs=0.03)
    assert drawn == step_down(family, draws=4000)
    assert drawn != exact


def test_patterns_are_all_that_differ_by_more_than_all_signs() -> None:
    few = patterns(4, 0, 100)
    either = {tuple(sign * row) for row in few for sign in (1, -1)}
    assert either == set(itertools.product((1, -1), repeat=4))
    assert len(few) == 8
    many = patterns(30, 0, 500)
    assert many.shape == (501, 30)
    assert (many[0] == 1).all()
    assert set(np.unique(many)) == {-1, 1}


def test_comparisons_that_share_their_rows_cost_less_than_holm_would() -> None:
    """Twenty copies of one comparison are one question."""
    one = {u: 1.0 + 0.1 * u for u in range(7)}
    assert step_down([one] * 20) == pytest.approx([2 / 2**7] * 20)


def test_limit_is_the_largest_statistic_of_all_but_a_twentieth_of_the_patterns() -> None:
    family = _family(6, 8, 3)
    limits = critical_t(family, 0.05)
    largest = []
    for signs in itertools.product((1, -1), repeat=8):
        ts = [stats.ttest_1samp([signs[u] * v for u, v in one.items()], 0).statistic
              for one in family]  # fmt: skip
        largest.append(max(abs(t) for t in ts))
    beyond = np.mean(np.array(largest) > limits[0] * (1 + 1e-6))
    at = np.mean(np.array(largest) > limits[0] * (1 - 1e-6))
    assert beyond <= 0.05 < at
    assert limits == pytest.approx([limits[0]] * 3)


def test_a_difference_at_the_limit_is_within() -> None:
    """A zero among the differences is beside itself under both signs: p is .0625 here."""
    for step in (0.01, 1 / 277, 0.1, 1 / 3):
        values = step * np.array([1.0, 2, 3, 2, 1, 0])
        assert sign_flip_p(values) == 0.0625
        [limit] = critical_t([dict(enumerate(map(float, values)))], 0.05)
        assert float(values.mean() - limit * values.std(ddof=1) / np.sqrt(6)) < 0


def test_a_comparison_of_one_pair_decides_nothing_of_others() -> None:
    [six] = _family(7, 6, 1)
    alone, one = critical_t([six], 0.05), {9: 2.0}
    assert np.isfinite(alone[0])
    assert critical_t([six, one], 0.05) == [*alone, np.inf]
    assert step_down([six, one]) == [*step_down([six]), 1.0]


@pytest.mark.parametrize("signs", [(1,) * 8, (1, -1) * 4])
def test_a_comparison_that_does_not_vary_is_not_tested_and_takes_nothing(
    signs: tuple[int, ...],
) -> None:
    """One run's copies would be the most extreme whenever their signs agree, 1 in 128 patterns."""
    family = _family(8, 8, 4)
    copies = [{u: 0.1 * (k + 3) * sign for u, sign in enumerate(signs)} for k in range(7)]
    assert step_down([*family, *copies]) == [*step_down(family), *[1.0] * 7]
    assert critical_t([*family, *copies], 0.05) == [*critical_t(family, 0.05), *[np.inf] * 7]


def test_too_few_pairs_have_no_limit() -> None:
    assert critical_t([{0: 1.0, 1: 1.0, 2: 1.0}], 0.05) == [np.inf]
    assert critical_t([], 0.05) == []


@pytest.mark.parametrize("shifted", [0, 4])
def test_one_family_in_twenty_holds_a_false_rejection(shifted: int) -> None:
    """Also where some comparisons are truly there, which a step-down test takes out."""
    rng = np.random.Generator(np.random.PCG64(shifted))
    times, false = 400, 0
    for _ in range(times):
        scores = rng.normal(size=(9, 10)) * rng.uniform(0.3, 3, size=(9, 1))
        scores[1 : 1 + shifted] += 6
        family = [dict(enumerate(row - scores[0])) for row in scores[1:]]
        false += min(step_down(family, draws=300)[shifted:]) <= 0.05
    assert false / times <= 0.05 + 3 * (0.05 * 0.95 / times) ** 0.5


def test_intervals_hold_together() -> None:
    rng = np.random.Generator(np.random.PCG64(9))
    times, missed = 300, 0
    for _ in range(times):
        family = [dict(enumerate(row)) for row in rng.normal(size=(6, 9))]
        limits = critical_t(family, 0.05)
        ts = [stats.ttest_1samp(list(one.values()), 0).statistic for one in family]
        missed += any(abs(t) > limit for t, limit in zip(ts, limits, strict=True))
    assert missed / times <= 0.05 + 3 * (0.05 * 0.95 / times) ** 0.5
