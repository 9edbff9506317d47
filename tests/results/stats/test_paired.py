"""Statistics against slow references, libraries, published tables, and in simulation."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from scipy import stats

from results.stats.paired import (
    bca_interval,
    compare,
    expected_best,
    holm,
    median_interval,
    multi_bootstrap,
    ranks,
    sign_flip_p,
    smallest_p,
)


def _rng(seed: int) -> np.random.Generator:
    return np.random.Generator(np.random.PCG64(seed))


def test_sign_flip_is_scipys_permutation_test_and_a_loop() -> None:
    for n, seed in itertools.product((1, 2, 3, 6, 9), range(4)):
        values = _rng(seed).normal(0.4, 1, n).round(2)
        expected = 1.0
        if n > 1:
            expected = stats.permutation_test(
                (values,), np.mean, permutation_type="samples", n_resamples=np.inf
            ).pvalue
        patterns = itertools.product((1, -1), repeat=n)
        observed = abs(sum(values))
        hits = [
            abs(sum(s * v for s, v in zip(signs, values, strict=True))) >= observed - 1e-9
            for signs in patterns
        ]
        assert sign_flip_p(values) == pytest.approx(sum(hits) / 2**n)
        assert sign_flip_p(values) == pytest.approx(min(1.0, expected))


def test_smallest_p_of_few_pairs() -> None:
    """Five clean wins reach .0625, six .03125: five seeds cannot show anything at .05."""
    for n, p in ((3, 0.25), (4, 0.125), (5, 0.0625), (6, 0.03125), (10, 2**-9)):
        assert sign_flip_p(np.arange(1.0, n + 1)) == p
    assert sign_flip_p([0.0, 0.0, 0.0]) == 1.0
    assert [smallest_p(n) for n in (0, 1, 5, 6)] == [1.0, 1.0, 0.0625, 0.03125]
    many = _rng(1).normal(0.3, 1, 40)
    exact = stats.permutation_test(
        (many,), np.mean, permutation_type="samples", n_resamples=200_000, rng=_rng(2)
    ).pvalue
    assert sign_flip_p(many) == pytest.approx(exact, abs=0.004)
    drawn = sign_flip_p(np.concatenate([many, [0.0]]))  # 41 pairs: drawn, and a zero flips nothing
    assert drawn == pytest.approx(sign_flip_p(many), abs=0.004)


def test_bca_is_the_formula_written_out() -> None:
    values = _rng(5).exponential(1, 12)
    n, z = len(values), stats.norm
    draws = np.array([_rng(100 + i).choice(values, n).mean() for i in range(20_000)])
    bias = z.ppf(np.mean(draws < values.mean()) + np.mean(draws == values.mean()) / 2)
    left_out = np.array([np.delete(values, i).mean() for i in range(n)])
    spread = left_out.mean() - left_out
    acceleration = (spread**3).sum() / (6 * (spread**2).sum() ** 1.5)
    wide = math.sqrt(n / (n - 1)) * stats.t.ppf(0.975, n - 1)
    ends = []
    for quantile in (-wide, wide):
        moved = bias + (bias + quantile) / (1 - acceleration * (bias + quantile))
        ends.append(np.quantile(draws, z.cdf(moved)))
    found = bca_interval(values)
    assert found is not None
    assert found == pytest.approx(ends, abs=0.03 * (ends[1] - ends[0]))
    assert bca_interval([1.0, 2.0, 3.0, 4.0]) is None  # the range itself covers 7 of 8
    assert bca_interval([0.5] * 5) == (0.5, 0.5)


def test_intervals_of_ten_pairs_cover_what_they_say() -> None:
    """95 % intervals, 1,500 simulated comparisons: between 93 and 97 %."""
    rng = _rng(11)
    covered = 0
    for _ in range(1500):
        found = bca_interval(rng.normal(0.7, 2.0, 10), draws=1999)
        assert found is not None
        covered += found[0] <= 0.7 <= found[1]
    assert 0.93 <= covered / 1500 <= 0.97


@pytest.mark.parametrize(("n", "nominal"), [(6, 2 / 64), (8, 12 / 256), (10, 50 / 1024)])
def test_false_positives_are_as_many_as_they_should_be(n: int, nominal: float) -> None:
    """Under no difference, p ≤ .05 as often as the sign patterns allow, within Monte-Carlo error.

    `nominal` is the largest multiple of 2^(1-n) below .05.
    """
    rng = _rng(n)
    times = 4000
    hits = sum(sign_flip_p(rng.normal(0, 1, n)) <= 0.05 for _ in range(times))
    assert abs(hits / times - nominal) < 4 * math.sqrt(nominal * (1 - nominal) / times)


def test_interval_of_a_median_is_what_the_sign_test_does_not_reject() -> None:
    """Against scipy's interval of a quantile, and every median that a binomial test accepts."""
    for n in range(1, 30):
        values = _rng(n).normal(size=n)
        interval = median_interval(values)
        if n < 6:
            assert interval is None
            continue
        assert interval is not None
        test = stats.quantile_test(values, p=0.5).confidence_interval(0.95)
        assert interval == (test.low, test.high)
        for median in _rng(100 + n).normal(size=50):
            p = stats.binomtest(int((values < median).sum()), n).pvalue
            assert (interval[0] < median < interval[1]) == (p > 0.05)


def test_interval_of_a_median_covers_it_though_tasks_differ() -> None:
    """Ratios of four tasks, each around its own: the median of all is at 1."""
    rng, covered = _rng(4), 0
    shifts = np.repeat([0.8, 0.95, 1.05, 1.2], 4)
    for _ in range(1000):
        interval = median_interval(shifts + rng.normal(0, 0.1, 16))
        assert interval is not None
        covered += interval[0] <= 1.0 <= interval[1]
    assert covered / 1000 >= 0.95


def test_holm_is_the_step_down_written_out() -> None:
    ps = [0.01, 0.04, 0.03, 0.005, 0.6]
    # sorted .005 .01 .03 .04 .6, times 5 4 3 2 1, running maximum
    assert holm(ps) == pytest.approx([0.04, 0.09, 0.09, 0.025, 0.6])
    assert holm([0.9, 0.8]) == [1.0, 1.0]
    assert holm([]) == []


def test_family_of_true_nulls_is_rarely_rejected() -> None:
    rng = _rng(3)
    false = 0
    for _ in range(1000):
        ps = [sign_flip_p(rng.normal(0, 1, 8)) for _ in range(5)]
        false += min(holm(ps)) <= 0.05
    assert false / 1000 <= 0.05 + 3 * math.sqrt(0.05 * 0.95 / 1000)


def test_a_comparison_of_one_and_of_unequal_many() -> None:
    alone = compare([0.7], [0.6])
    assert (alone.pairs, alone.sd, alone.interval, alone.p) == (1, None, None, None)
    assert alone.mean == pytest.approx(0.1)
    with pytest.raises(ValueError, match="no pairs"):
        compare([0.7], [0.6, 0.5])
    with pytest.raises(ValueError, match="no pairs"):
        compare([], [])


def test_multi_bootstrap_is_a_slow_loop_of_it() -> None:
    first, second = _rng(4).normal(size=(6, 300)), _rng(5).normal(size=(6, 300))
    drawn = _rng(9).integers(6, size=(6, 3000))
    draws = []
    for d in range(3000):
        cells = [first[drawn[i, d], d % 300] - second[drawn[i, d], d % 300] for i in range(6)]
        draws.append(sum(cells) / len(cells))
    tail = stats.norm.sf((6 / 5) ** 0.5 * stats.t.ppf(0.975, 5))  # as few seeds ask for
    expected = np.quantile(draws, [tail, 1 - tail])
    assert multi_bootstrap(first, second, seed=9) == pytest.approx(expected)
    with pytest.raises(ValueError, match="seeds, draws"):
        multi_bootstrap(first, second[:2])


def test_examples_without_noise_leave_the_interval_over_seeds() -> None:
    """And it covers the mean as often as that one does."""
    rng, covered, ratios = _rng(12), [], []
    for _ in range(400):
        values = rng.normal(size=6)
        interval = multi_bootstrap(np.tile(values[:, None], 100), np.zeros((6, 100)))
        assert interval is not None
        covered.append(interval[0] < 0 < interval[1])
        bca = bca_interval(values)
        assert bca is not None
        ratios.append((interval[1] - interval[0]) / (bca[1] - bca[0]))
    assert 0.92 < np.mean(covered) < 0.98
    assert 0.9 < np.mean(ratios) < 1.1


@pytest.mark.parametrize(("seeds", "known"), [(1, False), (4, False), (5, True)])
def test_few_seeds_have_no_interval_however_many_examples(seeds: int, known: bool) -> None:
    scores = _rng(seeds).normal(size=(seeds, 300))
    assert (multi_bootstrap(scores, scores - 0.1) is not None) == known


def test_expected_best_is_the_mean_over_all_subsets() -> None:
    scores = [0.3, 0.9, 0.5, 0.7, 0.1]
    for k in range(1, 6):
        subsets = list(itertools.combinations(scores, k))
        assert expected_best(scores, k) == pytest.approx(sum(map(max, subsets)) / len(subsets))
    with pytest.raises(ValueError, match="trials=6"):
        expected_best(scores, 6)


def test_ranks_are_demsars() -> None:
    """Critical values of Demšar 2006, table 5a: 2.343 for three methods, 2.728 for five."""
    for methods, quantile in ((3, 2.343), (5, 2.728), (10, 3.164)):
        scores = {f"m{i}": list(_rng(i).normal(size=14)) for i in range(methods)}
        found = ranks(scores)
        expected = quantile * math.sqrt(methods * (methods + 1) / (6 * 14))
        assert found.critical_difference == pytest.approx(expected, abs=1e-3)
        assert sum(found.mean.values()) == pytest.approx(methods * (methods + 1) / 2)
        assert found.p == pytest.approx(stats.friedmanchisquare(*scores.values()).pvalue)
    even = ranks({"a": [1.0, 1.0], "b": [1.0, 1.0], "c": [1.0, 1.0]})
    assert (even.p, even.mean["a"]) == (1.0, 2.0)
    with pytest.raises(ValueError, match="three and two"):
        ranks({"a": [1.0], "b": [2.0]})
