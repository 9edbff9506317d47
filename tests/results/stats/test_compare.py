"""Differences pair by seed, ties say what seeds can separate, and nothing is averaged away."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from results.errors import UserError
from results.pages.sheet import difference_sheet
from results.record import Record
from results.stats.compare import AVERAGE, judge
from results.stats.max_t import step_down
from results.stats.paired import bca_interval, sign_flip_p
from results.stats.power import power
from results.tables.collect import tables
from tests.results.family import rates
from tests.results.simulated import grid, of_one_training, simulated

TASKS = ("cola", "mrpc", "rte", "stsb")


def _scores(records: list, method: str, task: str) -> np.ndarray:
    found = [r for r in records if (r.methods, r.task) == ([method], task)]
    return np.array([r.score for r in sorted(found, key=lambda r: r.seed)])


def test_differences_are_by_seed_with_interval_and_p_alone_and_among_all() -> None:
    records = grid({"full": 0, "bitfit": -0.02, "adapter": 0.001}, TASKS, 6)
    found = judge(tables(records)[0])
    assert found.baseline == "full"
    expected = _scores(records, "bitfit", "rte") - _scores(records, "full", "rte")
    difference = found.differences["bitfit", "rte"]
    assert difference.mean == pytest.approx(expected.mean())
    assert difference.interval == bca_interval(expected)
    assert difference.p == sign_flip_p(expected)
    keys = list(found.differences)
    assert len(keys) == 10  # two rows, four tasks and their average
    family = []
    for method, column in keys:
        tasks = TASKS if column == AVERAGE else (column,)
        apart = {t: _scores(records, method, t) - _scores(records, "full", t) for t in tasks}
        family.append({(t, i): x for t, each in apart.items() for i, x in enumerate(each)})
    assert [found.adjusted[key] for key in keys] == pytest.approx(step_down(family))
    assert all(found.adjusted[key] >= (found.differences[key].p or 1) - 0.01 for key in keys)


def test_average_is_tested_by_task_and_seed_and_its_interval_is_by_seed() -> None:
    records = grid({"full": 0, "bitfit": -0.02}, TASKS, 6)
    found = judge(tables(records)[0]).differences["bitfit", AVERAGE]
    each = np.array([_scores(records, "bitfit", t) - _scores(records, "full", t) for t in TASKS])
    assert found.pairs == 24
    assert found.p == pytest.approx(sign_flip_p(each.ravel()))
    assert found.interval == pytest.approx(bca_interval(each.mean(axis=0)))


@pytest.mark.parametrize("missing", [0, 2])
def test_average_over_fewer_seeds_than_a_task_has_says_so(missing: int) -> None:
    records = grid({"full": 0, "bitfit": -0.02}, TASKS, 6)
    kept = [r for r in records if r.task != TASKS[0] or r.seed > missing]
    [table] = tables(kept)
    sheet = difference_sheet(table, judge(table))
    assert sheet is not None
    assert any("have different seeds" in note for note in sheet.notes) == bool(missing)


def test_columns_of_one_training_are_no_pairs_of_their_own() -> None:
    """Sets of vectors, further sets, slices, and the tasks of a mixture are such columns."""
    records = of_one_training(grid({"full": 0, "bitfit": -0.02}, TASKS, 6))
    [table] = tables(records)
    judged = judge(table)
    found = judged.differences["bitfit", AVERAGE]
    assert (found.pairs, found.p) == (6, 2 / 64)
    gaps = [_scores(records, "bitfit", t) - _scores(records, "full", t) for t in TASKS]
    family = [dict(enumerate(each)) for each in (*gaps, np.mean(gaps, axis=0))]  # signs by seed
    expected = step_down([{k: float(v) for k, v in one.items()} for one in family])
    assert [judged.adjusted["bitfit", c] for c in (*TASKS, AVERAGE)] == pytest.approx(expected)
    sheet = difference_sheet(table, judged)
    assert sheet is not None
    assert "a pair for each seed: one training has several columns." in str(sheet.notes)


def test_columns_of_which_some_share_a_training_are_tested_by_seed() -> None:
    records = grid({"full": 0, "bitfit": -0.02}, TASKS, 6)
    shared = of_one_training(r for r in records if r.task in ("rte", "stsb"))
    [table] = tables([r for r in records if r.task not in ("rte", "stsb")] + shared)
    assert table.trainings == {"cola": "cola", "mrpc": "mrpc", "stsb": "stsb", "rte": "stsb"}
    assert judge(table).differences["bitfit", AVERAGE].pairs == 6


def test_null_columns_of_one_training_are_rarely_set_apart() -> None:
    """What one training has in common shows in all of its columns at once."""
    rng, false, times = np.random.Generator(np.random.PCG64(8)), 0, 150
    for _ in range(times):
        records = []
        for method, seed in itertools.product(("full", "hype"), range(6)):
            common = rng.normal(0, 0.02)
            for task in TASKS[:3]:
                score = float(0.6 + common + rng.normal(0, 0.01))
                records.append(simulated(method, task, seed, score))
        judged = judge(tables(of_one_training(records))[0])
        false += judged.claimed(("hype", AVERAGE))
    assert false / times <= 0.05 + 3 * (0.05 * 0.95 / times) ** 0.5


def test_a_row_of_few_seeds_takes_nothing_from_the_others() -> None:
    """Three equal differences are as extreme as can be in a quarter of the patterns of signs."""
    records = grid({"full": 0, "bitfit": -0.02, "adapter": -0.02}, ["rte"], 8, spread=0.004)
    few = [simulated("lora", "rte", s, _scores(records, "full", "rte")[s - 1] + sign * 0.011)
           for s, sign in ((1, 1), (2, -1), (3, 1))]  # fmt: skip
    alone, beside = judge(tables(records)[0]), judge(tables([*records, *few])[0])
    assert alone.claimed(("bitfit", "rte"))
    assert beside.adjusted == alone.adjusted
    assert beside.tied == alone.tied == {"rte": {"full"}}
    assert (alone.untested, beside.untested) == ({"rte": frozenset()}, {"rte": {"lora"}})
    assert not beside.separable(("lora", "rte"))


def test_ties_are_what_the_seeds_do_not_separate() -> None:
    gains = {"full": 0.0, "bitfit": -0.2, "adapter": 0.0005}
    found = judge(tables(grid(gains, TASKS, 10))[0])
    assert set(found.tied) == {*TASKS, AVERAGE}
    assert all(found.tied[c] == {"full", "adapter"} for c in found.tied)
    assert found.reasons == ()


def test_five_seeds_separate_nothing_and_the_reason_is_given() -> None:
    found = judge(tables(grid({"full": 0.0, "bitfit": -0.2}, ["rte"], 5))[0])
    assert found.tied == {}
    [reason] = found.reasons
    assert "with 5 pairs" in reason
    assert "0.062" in reason
    assert "6 pairs could reach .05" in reason
    six = judge(tables(grid({"full": 0.0, "bitfit": -0.2}, ["rte"], 6))[0])
    assert six.tied == {"rte": {"full"}}


@pytest.mark.parametrize(("seeds", "set_apart"), [(3, False), (4, False), (5, True)])
def test_average_of_many_tasks_but_few_seeds_has_no_interval_and_no_bold(
    seeds: int, set_apart: bool
) -> None:
    """Three seeds on four tasks are twelve pairs for p, but three values for an interval."""
    rows = {"full": 0.0, "linear": -0.3}
    found = judge(tables(grid(rows, ["cola", "mrpc", "rte", "sst2"], seeds))[0])
    if set_apart:
        assert found.tied["average"] == {"full"}
        return
    assert "average" not in found.tied
    [reason] = [r for r in found.reasons if "in average" in r]
    assert reason == (
        "Nothing is set apart in average: no two rows share the 5 seeds that an interval needs."
    )


def test_equal_scores_everywhere_tie_and_claim_nothing() -> None:
    records = [simulated(m, t, s, 0.5) for m in ("full", "a", "b") for t in TASKS for s in range(9)]
    found = judge(tables(records)[0])
    assert all(group == {"full", "a", "b"} for group in found.tied.values())
    assert {d.p for d in found.differences.values()} == {1.0}
    assert not any(found.claimed(key) for key in found.differences)
    assert found.ranks is not None
    assert found.ranks.p == 1.0


def test_failed_seed_leaves_its_pair_and_a_lone_row_compares_with_nothing() -> None:
    records = grid({"full": 0.0, "bitfit": -0.1}, ["rte"], 7)
    records = [r for r in records if (r.methods, r.seed) != (["bitfit"], 7)]
    records.append(simulated("bitfit", "rte", 7, None))
    found = judge(tables(records)[0])
    assert found.differences["bitfit", "rte"].pairs == 6
    alone = judge(tables([simulated()])[0])
    assert (alone.differences, alone.tied, alone.reasons, alone.ranks) == ({}, {}, (), None)


def _predicted(seeds: int) -> list[Record]:
    rng = np.random.Generator(np.random.PCG64(1))
    gold = [1.0] * 60
    records = []
    for method, right in (("full", 0.8), ("bitfit", 0.6)):
        for seed in range(1, seeds + 1):
            said = [float(x) for x in rng.random(60) < right]
            kept = {"validation": {"predictions": said, "references": gold}}
            records.append(simulated(method, "rte", seed, float(np.mean(said)), predictions=kept))
    return records


@pytest.mark.parametrize("seeds", [3, 4, 5])
def test_interval_over_examples_needs_as_many_seeds_as_one_over_seeds(seeds: int) -> None:
    [table] = tables(_predicted(seeds))
    judged = judge(table, examples=True)
    key = ("bitfit", "rte")
    assert (key in judged.over_examples) == (judged.differences[key].interval is not None)
    sheet = difference_sheet(table, judged)
    assert sheet is not None
    assert ("over seeds and examples" in sheet.body[0][1].title) == (seeds == 5)


def test_interval_over_examples_is_wider_than_over_seeds_on_few_examples() -> None:
    records = _predicted(8)
    found = judge(tables(records)[0], examples=True)
    low, high = found.over_examples["bitfit", "rte"]
    assert low < found.differences["bitfit", "rte"].mean < high
    interval = found.differences["bitfit", "rte"].interval
    assert interval is not None
    assert high - low > interval[1] - interval[0]
    assert judge(tables(records)[0]).over_examples == {}


def _two_rates() -> list[Record]:
    """Full fine-tuning at two learning rates, and a method beside it."""
    first = grid({"full": 0.0, "bitfit": -0.1}, ["rte"], 6, config={"lr": 1e-4})
    second = [simulated("full", "rte", s, 0.4 + s / 100, config={"lr": 2e-5}) for s in range(1, 7)]
    for record in second:
        record.run += ".slow"
    return first + second


def test_one_of_several_rows_of_full_fine_tuning_is_named_as_the_baseline() -> None:
    [table] = tables(_two_rates())
    judged = judge(table)
    assert judged.baseline == "full (lr=0.0001)"
    said = (
        "2 rows are full fine-tuning: differences are to full (lr=0.0001), not to full (lr=2e-05)."
    )
    sheet = difference_sheet(table, judged)
    assert sheet is not None
    assert said in sheet.notes
    expected = _scores(_two_rates()[:12], "bitfit", "rte") - _scores(
        _two_rates()[:12], "full", "rte"
    )
    assert judged.differences["bitfit", "rte"].mean == pytest.approx(expected.mean())
    shown = power(_two_rates())  # by the same baseline, and not left out
    assert said in shown
    assert f"rte: sd of a seed's difference {100 * _pooled(_two_rates()):.2f} points" in shown


def _pooled(records: list[Record]) -> float:
    first, slow = records[:12], records[12:]
    full = _scores(first, "full", "rte")
    each = (_scores(first, "bitfit", "rte"), np.array([r.score for r in slow]))
    return float(np.mean([np.var(scores - full, ddof=1) for scores in each]) ** 0.5)


def test_a_row_of_another_optimizer_leaves_the_baseline_as_it_is() -> None:
    records = grid({"full": 0.0, "bitfit": -0.1}, ["rte"], 6)
    other = [
        simulated("full", "rte", s, 0.5, config={"optimizer": {"name": "adamw_nobc"}})
        for s in range(1, 7)
    ]
    for record in other:
        record.run += ".nobc"
    judged = judge(tables(records + other)[0])
    assert (judged.baseline, judged.choice) == ("full", "")


def test_a_row_can_be_claimed_where_its_pairs_reach_the_level() -> None:
    records = grid({"full": 0, "bitfit": -0.3, "adapter": -0.3}, ["mrpc", "rte"], 9)
    most = {"bitfit": 5, "adapter": 6, "full": 9}
    judged = judge(tables([r for r in records if r.seed <= most[r.methods[0]]])[0])
    assert not judged.separable(("bitfit", "rte"))  # of five pairs no p is below 2/32
    assert judged.separable(("bitfit", AVERAGE))  # ten pairs
    assert judged.separable(("adapter", "rte"))
    assert not judged.separable(("full", "rte"))


def test_any_row_can_be_the_baseline() -> None:
    records = grid({"full": 0, "bitfit": -0.3, "adapter": 0.001}, ["mrpc", "rte"], 7)
    [table] = tables(records)
    to_full, to_bitfit = judge(table), judge(table, beside="bitfit")
    assert to_bitfit.baseline == "bitfit"
    assert {row for row, _ in to_bitfit.differences} == {"full", "adapter"}
    forth, back = to_full.differences["bitfit", "rte"], to_bitfit.differences["full", "rte"]
    assert back.mean == pytest.approx(-forth.mean)
    assert back.p == forth.p
    assert to_bitfit.tied == to_full.tied
    with pytest.raises(UserError, match=r"no row is called bitfi; did you mean bitfit"):
        judge(table, beside="bitfi")


def test_a_row_that_is_below_a_middle_one_is_out_though_not_below_the_best() -> None:
    """The best has a wide spread; a family of all pairs holds the one with a narrow spread too."""
    rng = np.random.Generator(np.random.PCG64(2))
    records = []
    for seed in range(1, 9):
        for method, gain, spread in (("best", 0.1, 0.2), ("sure", 0.05, 0.001), ("low", 0, 0.001)):
            records.append(simulated(method, "rte", seed, 0.6 + gain + rng.normal(0, spread)))
    [table] = tables(records)
    assert judge(table).tied["rte"] == {"best", "sure"}


@pytest.mark.parametrize("shifted", [0, 6])
def test_one_board_in_twenty_claims_what_is_not_there(shifted: int) -> None:
    """The whole table of kinds and seeds is printed by python -m tests.results.family."""
    boards = 25
    difference, place, power, holms = rates("collapsed", 6, shifted, boards)
    bound = 0.05 + 3 * (0.05 * 0.95 / boards) ** 0.5
    assert difference <= bound
    assert place <= bound
    assert not shifted or power > holms
