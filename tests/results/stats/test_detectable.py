"""What n seeds are said to find is claimed so often by the tables' own criterion."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from results.stats.detectable import detectable_difference, seeds_to_detect, shown_by
from results.stats.max_t import step_down
from results.stats.paired import bca_intervals


def _is_claimed(rng: np.random.Generator, shift: float, seeds: int, rows: int, tasks: int) -> bool:
    """Draw a table of which the first row differs on the first task; judge it as tables do."""
    scores = rng.normal(0, 0.5**0.5, size=(rows + 1, tasks, seeds))
    apart = scores[1:] - scores[0]
    apart[0, 0] += shift
    family = [
        {(t, s): apart[row, t, s] for t in range(tasks) for s in range(seeds) if column in (t, -1)}
        for row in range(rows)
        for column in (range(-1, tasks) if tasks > 1 else range(1))
    ]
    place = 1 if tasks > 1 else 0
    [interval] = bca_intervals([apart[0, 0]])
    assert interval is not None
    is_apart = interval[0] > 0 or interval[1] < 0
    return is_apart and step_down(family, draws=300)[place] < 0.05


@pytest.mark.parametrize(
    ("seeds", "rows", "tasks"), [(6, 1, 1), (8, 1, 1), (10, 1, 1), (6, 3, 1), (8, 4, 3), (10, 9, 4)]
)
def test_difference_is_claimed_as_often_as_said(seeds: int, rows: int, tasks: int) -> None:
    shift = detectable_difference(1.0, seeds, rows, tasks)
    assert shift is not None
    rng, times = np.random.Generator(np.random.PCG64(1000 + seeds)), 300
    claimed = sum(_is_claimed(rng, shift, seeds, rows, tasks) for _ in range(times))
    assert claimed / times == pytest.approx(0.8, abs=0.08)


def test_six_seeds_must_all_agree() -> None:
    """By hand: the probability that six normal values are all above zero is .8."""
    shift = detectable_difference(1.0, 6)
    assert shift == pytest.approx(stats.norm.ppf(0.8 ** (1 / 6)), abs=0.07)
    assert detectable_difference(2.5, 6) == pytest.approx(2.5 * (shift or 0))


@pytest.mark.parametrize(("seeds", "finds"), [(2, False), (3, False), (5, False), (6, True)])
def test_none_where_no_difference_could_be_claimed(seeds: int, finds: bool) -> None:
    """Of five pairs no p is below 2/32, however large the difference."""
    assert (detectable_difference(1.0, seeds) is not None) == finds
    assert (detectable_difference(1.0, seeds, 2, 2) is not None) == finds


def test_more_comparisons_need_a_larger_difference() -> None:
    each = [detectable_difference(1.0, 8, rows, tasks) for rows, tasks in ((1, 1), (3, 2), (17, 4))]
    assert each == sorted(each)
    assert len(set(each)) == 3


def test_seeds_that_are_asked_for_are_those_of_the_t_test_and_close_to_what_tables_find() -> None:
    for seeds in (8, 10, 20):
        assert shown_by(1.0, seeds) == pytest.approx(detectable_difference(1.0, seeds), rel=0.12)
    assert shown_by(2.0, 30) == pytest.approx(2 * shown_by(1.0, 30))
    # By the power of the t-test, drawn: so many pairs find it four times in five.
    rng = np.random.Generator(np.random.PCG64(3))
    ps = stats.ttest_1samp(rng.normal(shown_by(1.0, 25), 1, (4000, 25)), 0, axis=1).pvalue
    assert np.mean(ps < 0.05) == pytest.approx(0.8, abs=0.03)
    needed = seeds_to_detect(1.0, 0.5, 100)
    assert needed is not None
    assert shown_by(1.0, needed) <= 0.5 < shown_by(1.0, needed - 1)
    assert seeds_to_detect(1.0, 50.0, 100) == 6
    assert seeds_to_detect(1.0, 0.01, 100) is None
