"""Sentences are answered together: few answers of a page are wrong, and each interval says why."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from results.papers.questions import Best, Gap, Ratio, answers
from results.stats.max_t import critical_t
from results.stats.paired import median_interval


def _gap(values: np.ndarray, needed: float = 0.0) -> Gap:
    each = {("table", seed): float(value) for seed, value in enumerate(values)}
    return Gap("a − b", each, len(values), needed)


def test_one_question_is_answered_by_the_limit_of_its_own_flips() -> None:
    """For one question an interval ends where the sign-flip test of a shifted mean is at .05."""
    values = np.random.Generator(np.random.PCG64(1)).normal(0.02, 0.01, 9)
    [(answer, numbers)] = answers([_gap(values, 0.002)])
    assert answer == "supported"
    assert numbers.startswith(f"a − b: +{100 * values.mean():.1f} points, 9 pairs [")
    assert "needed +0.2" in numbers
    assert answers([_gap(values, 0.08)])[0][0] == "contradicted"
    assert answers([_gap(values, float(values.mean()))])[0][0] == "undecided"


def test_the_ends_of_a_best_are_those_of_the_row_that_is_best_by_them() -> None:
    """The data's best of two is the narrow one; the wide one may be better still."""
    narrow, wide = (np.array([-1.0, 0, 1, -1, 0, 1, 0, 0]) * by for by in (0.002, 0.02))
    to_narrow, to_wide = _gap(0.02 + narrow), _gap(0.021 + wide)
    beats = Best(to_narrow, ((to_narrow, to_wide),), ((to_narrow, to_wide),))
    [limit, _] = critical_t([to_narrow.tested, to_wide.tested], 0.05)
    low, high = to_wide.ends(limit)[0], to_narrow.ends(limit)[1]
    assert low < to_narrow.ends(limit)[0] < high < to_wide.ends(limit)[1]
    assert answers([beats]) == [to_narrow.answer_by((low, high))]
    either = Best(to_wide, ((to_narrow,), (to_wide,)), ((to_narrow,), (to_wide,)))
    ends = (to_narrow.ends(limit)[0], to_wide.ends(limit)[1])
    assert answers([either]) == [to_wide.answer_by(ends)]


def test_more_questions_widen_each_interval() -> None:
    rng = np.random.Generator(np.random.PCG64(2))
    questions = [_gap(rng.normal(0.01, 0.01, 8)) for _ in range(12)]

    def width(numbers: str) -> float:
        low, high = numbers.partition("[")[2].partition("]")[0].replace("−", "-").split(", ")
        return float(high) - float(low)

    alone = [width(answers([question])[0][1]) for question in questions]
    together = [width(numbers) for _, numbers in answers(questions)]
    assert all(many > one for many, one in zip(together, alone, strict=True))


def test_twenty_null_sentences_hold_few_false_verdicts() -> None:
    """Each of them alone at level .05 would give one in two thirds of the pages."""
    rng = np.random.Generator(np.random.PCG64(3))
    times = false = alone = 0
    for _ in range(120):
        shared = rng.normal(size=8)
        values = [shared + rng.normal(size=8) for _ in range(20)]
        false += any(answer != "undecided" for answer, _ in answers([_gap(v) for v in values]))
        alone += any(stats.ttest_1samp(v, 0).pvalue < 0.05 for v in values)
        times += 1
    assert false / times <= 0.05 + 3 * (0.05 * 0.95 / times) ** 0.5
    assert alone / times > 0.3


@pytest.mark.parametrize(("seeds", "reason"), [(4, "too few seeds"), (5, "too few pairs")])
def test_few_seeds_decide_nothing_and_say_so(seeds: int, reason: str) -> None:
    answer, numbers = answers([_gap(np.full(seeds, 0.5) + np.arange(seeds) / 100)])[0]
    assert answer == "undecided"
    assert reason in numbers


def test_a_ratio_alone_has_the_sign_tests_interval_of_its_median() -> None:
    values = np.random.Generator(np.random.PCG64(4)).lognormal(0, 0.1, 12)
    ratio = Ratio("training seconds", {("t", i): float(v) for i, v in enumerate(values)}, 0.7)
    expected = median_interval(values)
    assert expected is not None
    [(answer, numbers)] = answers([ratio])
    assert answer == "contradicted"
    assert f"[{expected[0]:.2f}, {expected[1]:.2f}] over 12 pairs" in numbers
    assert answers([Ratio("s", ratio.values, 1.4)])[0][0] == "supported"
    few = {("t", i): 2.0 for i in range(5)}
    assert "too few pairs" in answers([Ratio("s", few, 1.0)])[0][1]


def _ratio(values: np.ndarray, most: float, place: str = "t") -> Ratio:
    return Ratio("seconds", {(place, i): float(v) for i, v in enumerate(values)}, most)


def test_costs_of_few_pairs_take_no_verdict_from_scores() -> None:
    """On six pairs all ratios lie on one side under one pattern of signs in 32."""
    values = np.random.Generator(np.random.PCG64(5)).normal(0.03, 0.02, 24)
    few = [_ratio(np.full(6, 1.5), 1.0, place) for place in "xyz"]
    assert [answer for answer, _ in answers([_gap(values), *few])] == [
        "supported", *["undecided"] * 3
    ]  # fmt: skip
    assert answers([*few, _gap(values)])[-1] == answers([_gap(values)])[0]


def test_as_many_costs_are_decided_as_their_pairs_allow() -> None:
    """Beside one score: two of 7 pairs (p .016) have .05 / 3 each; a third would leave .0125."""
    score = _gap(np.random.Generator(np.random.PCG64(6)).normal(0.03, 0.02, 24))
    costs = [_ratio(np.full(7, 1.5), 1.0, place) for place in "xyz"]
    decided = [[a for a, _ in answers([score, *costs[:n]])[1:]] for n in (1, 2, 3)]
    assert decided == [["contradicted"], ["contradicted"] * 2, ["undecided"] * 3]
    long = _ratio(np.full(12, 1.5), 1.0, "w")
    assert [a for a, _ in answers([score, *costs, long])[1:]] == [
        *["undecided"] * 3, "contradicted"
    ]  # fmt: skip


def test_null_costs_and_scores_together_hold_few_false_verdicts() -> None:
    rng = np.random.Generator(np.random.PCG64(7))
    false, times = 0, 150
    for _ in range(times):
        scores = [_gap(rng.normal(size=8)) for _ in range(6)]
        costs = [_ratio(rng.lognormal(0, 0.3, 14), 1.0, place) for place in "abcdef"]
        false += any(answer != "undecided" for answer, _ in answers([*scores, *costs]))
    assert false / times <= 0.05 + 3 * (0.05 * 0.95 / times) ** 0.5


def test_copies_of_one_run_decide_nothing() -> None:
    [(answer, numbers)] = answers([_gap(np.full(8, 0.1))])
    assert answer == "undecided"
    assert numbers.endswith("needed 0.0; all pairs are as far off, as copies of one run are")
