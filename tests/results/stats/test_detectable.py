"""What n seeds are said to find is claimed so often by the tables' own criterion."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from results.stats.detectable import detectable_difference
from results.stats.paired import bca_interval, sign_flip_p


@pytest.mark.parametrize(("seeds", "comparisons"), [(6, 1), (8, 1), (10, 1), (10, 12), (14, 12)])
def test_difference_is_claimed_as_often_as_said(seeds: int, comparisons: int) -> None:
    shift = detectable_difference(1.0, seeds, comparisons)
    assert shift is not None
    rng, times = np.random.Generator(np.random.PCG64(1000 + seeds)), 600
    claimed = 0
    for values in rng.normal(shift, 1, (times, seeds)):
        interval = bca_interval(values, draws=1999)
        assert interval is not None
        separate = interval[0] > 0 or interval[1] < 0
        claimed += separate and sign_flip_p(values) * comparisons < 0.05
    assert claimed / times == pytest.approx(0.8, abs=0.05)


def test_six_seeds_must_all_agree() -> None:
    """By hand: the probability that six normal values are all above zero is .8."""
    shift = detectable_difference(1.0, 6)
    assert shift == pytest.approx(stats.norm.ppf(0.8 ** (1 / 6)), abs=0.05)
    assert detectable_difference(2.5, 6) == pytest.approx(2.5 * (shift or 0))


@pytest.mark.parametrize(
    ("seeds", "comparisons", "finds"),
    [(2, 1, False), (5, 1, False), (6, 1, True), (6, 2, False), (7, 3, True), (7, 4, False)],
)
def test_none_where_no_difference_could_be_claimed(
    seeds: int, comparisons: int, finds: bool
) -> None:
    """Seven seeds reach p = 1/64: three comparisons of it are below .05, four are not."""
    assert (detectable_difference(1.0, seeds, comparisons) is not None) == finds
