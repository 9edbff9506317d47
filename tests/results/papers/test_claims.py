"""Each sentence is decided by an interval over seeds, and by nothing where records do not fit."""

from __future__ import annotations

import itertools
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from results.__main__ import main
from results.errors import UserError
from results.pages.verdicts import claim_sheet, to_text
from results.papers.claims import Claim, Judged, claims, known_claims
from results.record import Record
from results.run_list import ListedRun, RunList
from tests.results.simulated import grid, of_model, simulated

TASKS = ("cola", "mrpc", "rte", "stsb")


def _claim(**more: object) -> Claim:
    given = {"claim": "C.", "source": "S", "method": "hype", "above": ["full"], "points": 1.0}
    return Claim(**(given | more))  # type: ignore[arg-type]


def _one(claim: Claim, records: list[Record]) -> Judged:
    [found] = claims(records, [claim])
    return found


@pytest.mark.parametrize(
    ("gain", "verdict"), [(0.03, "supported"), (-0.01, "contradicted"), (0.01, "undecided")]
)
def test_verdict_is_where_the_interval_lies(gain: float, verdict: str) -> None:
    found = _one(_claim(), grid({"full": 0, "hype": gain}, TASKS, 10))
    assert found.verdict == verdict
    assert "needed +1.0" in found.numbers
    assert "cola, mrpc, stsb, rte" in found.heading


def test_no_difference_does_not_support_above() -> None:
    equal = [
        simulated(m, "rte", s, 0.5 + (m == "hype") * (-1) ** s / 1000)
        for m in ("full", "hype")
        for s in range(8)
    ]
    assert _one(_claim(points=0), equal).verdict == "undecided"
    assert _one(_claim(points=-0.4), equal).verdict == "supported"  # within, not above


def test_few_seeds_are_undecided_and_absent_rows_are_not_testable() -> None:
    few = _one(_claim(), grid({"full": 0, "hype": 0.3}, TASKS, 4))
    assert few.verdict == "undecided"
    assert "too few seeds" in few.numbers
    none = _one(_claim(train=100, options=["hype.sigma=1"]), grid({"full": 0}, TASKS, 6))
    assert none.verdict == "not testable here"
    assert none.numbers == ("needs records of hype and full with hype.sigma=1 on 100 training rows")
    assert claims([], [_claim()])[0].verdict == "not testable here"


def test_training_set_must_be_complete_or_of_the_size_that_the_sentence_says() -> None:
    complete = grid({"full": 0, "hype": 0.1}, ["rte"], 6)  # 1,000 rows, and complete
    part = {"train": {"rows": 1000, "sha256": "9" * 64, "complete": False}}
    subset = grid({"full": 0, "hype": 0.1}, ["rte"], 6, splits=part)
    assert _one(_claim(train="all"), complete).verdict == "supported"
    assert _one(_claim(train="all"), subset).verdict == "not testable here"
    assert _one(_claim(train=1000), subset).verdict == "supported"
    assert _one(_claim(train=999), subset).verdict == "not testable here"
    assert _one(_claim(train=1001), subset).verdict == "not testable here"  # nor a smaller one


def test_best_of_several_is_what_must_be_beaten_and_all_of_them_are_needed() -> None:
    records = grid({"unipelt": 0.03, "adapter": 0.0, "lora": 0.02}, TASKS, 8)
    claim = _claim(method="unipelt", above=["adapter", "lora"])
    assert "unipelt − lora (best of 2): " in _one(claim, records).numbers
    lacking = [r for r in records if r.methods != ["adapter"]]
    assert _one(claim, lacking).verdict == "not testable here"


@pytest.mark.parametrize(
    ("mine", "above", "each"),
    [
        (["unipelt"], ["adapter", "lora", "prefix"], True),
        (["unipelt"], ["adapter", "lora", "prefix"], False),
        (["unipelt", "hype"], ["full"], False),
    ],
)
def test_the_choice_of_the_best_decides_nothing_that_is_not_there(
    mine: list[str], above: list[str], each: bool
) -> None:
    """As if it had been named before, one of three on each of four tasks errs 17 times in 100."""
    rng, false, times = np.random.Generator(np.random.PCG64(4)), 0, 150
    tasks = TASKS if each else TASKS[:3]
    claim = _claim(method=mine, above=above, points=0.0, for_each_task=each)
    for _ in range(times):
        shared = {(t, s): rng.normal(0, 0.01) for t in tasks for s in range(5)}
        records = [
            simulated(m, t, s, float(0.6 + base + rng.normal(0, 0.02)))
            for (t, s), base in shared.items()
            for m in (*mine, *above)
        ]
        false += _one(claim, records).verdict != "undecided"
    assert false / times <= 0.05 + 3 * (0.05 * 0.95 / times) ** 0.5


def test_better_of_two_variants_is_what_a_sentence_of_both_is_about() -> None:
    records = grid({"full": 0.0, "child_tuning_f": 0.03, "child_tuning_d": 0.01}, TASKS, 8)
    claim = _claim(method=["child_tuning_d", "child_tuning_f"])
    assert "child_tuning_f (best of 2) − full: " in _one(claim, records).numbers
    lacking = [r for r in records if r.methods != ["child_tuning_d"]]
    judged = _one(claim, lacking)
    assert judged.numbers == "needs records of child_tuning_d and child_tuning_f and full"


def test_best_on_each_task_is_harder_to_beat_than_the_best_on_average() -> None:
    """Adapter wins by 2 points on two tasks and LoRA on the others; UniPELT has 1 point on all."""
    gains = {"unipelt": (1, 1, 1, 1), "adapter": (2, 2, 0, 0), "lora": (0, 0, 2, 2)}
    records = [
        simulated(method, task, seed, 0.5 + (gain + (seed * len(method)) % 4 / 20 - 0.075) / 100)
        for method, by_task in gains.items()
        for place, (task, gain) in enumerate(zip(TASKS, by_task, strict=True))
        for seed in range(1, 9)
    ]
    claim = _claim(method="unipelt", above=["adapter", "lora"], points=-0.5)
    assert _one(claim, records).verdict == "supported"  # level with the best on average
    judged = _one(replace(claim, for_each_task=True), records)
    assert judged.verdict == "contradicted"
    assert judged.numbers.startswith(
        "unipelt − the best of adapter, lora on each task: −1.0 points"
    )


def _apart(records: list[Record]) -> list[Record]:
    """Name each run by itself, where their names are alike."""
    for number, record in enumerate(records):
        record.run += f".{number}"
    return records


def test_option_is_asked_of_the_rows_that_have_its_method() -> None:
    """HyPe's two distributions are two rows of a table; full has neither."""
    rows = {("full", ""): 0.5, ("hype", "normal"): 0.51, ("hype", "uniform"): 0.55}
    records = _apart([
        simulated(method, "rte", s, score + s / 100, options={"distribution": name} if name else {})
        for (method, name), score in rows.items()
        for s in range(1, 9)
    ])  # fmt: skip
    for name, gap in (("normal", "+1.0"), ("uniform", "+5.0")):
        judged = _one(_claim(options=[f"hype.distribution={name}"]), records)
        assert f"(distribution={name}) − full: {gap} points" in judged.numbers
    other = _claim(options=["hype.distribution=uniform_positive"])
    assert _one(other, records).verdict == "not testable here"


def test_row_of_another_optimizer_is_no_plain_row() -> None:
    adam = grid({"full": 0.0}, ["rte"], 8)
    other = grid({"full": 0.05}, ["rte"], 8, 0.02, config={"optimizer": {"name": "super_adam"}})
    hype = grid({"hype": 0.05}, ["rte"], 8, 0.02)
    _apart([*adam, *other, *hype])
    assert _one(_claim(method="full, super_adam"), adam + other).verdict == "supported"
    assert _one(_claim(), adam + hype).verdict == "supported"
    assert _one(_claim(), other + hype).numbers == "needs records of hype and full"


def test_of_among_what_a_table_has_counts() -> None:
    records = grid({"full": 0, "hype": 0.3}, ["rte", "mrpc"], 6)
    records += grid({"full": 0, "hype": -0.9}, ["qqp"], 6)
    judged = _one(_claim(among=["rte", "mrpc", "stsb"]), records)
    assert (judged.verdict, judged.heading[-9:]) == ("supported", "mrpc, rte")
    judged = _one(_claim(among=["stsb", "cola"]), records)
    assert judged.numbers == "needs records of hype and full, of any of stsb, cola"


def test_gain_on_some_tasks_is_compared_with_the_gain_on_others() -> None:
    small = grid({"full": 0, "hype": 0.05}, ["rte", "mrpc"], 8)
    large = grid({"full": 0, "hype": 0.0}, ["qnli"], 8)
    claim = _claim(points=0, more_on=["rte", "mrpc"], than_on=["qnli", "sst2"])
    found = _one(claim, small + large)
    assert found.verdict == "supported"
    assert _one(claim, small).verdict == "not testable here"


def test_time_is_a_ratio_on_one_device_only() -> None:
    claim = _claim(points=None, seconds_at_most=1.05)
    fast = grid({"full": 0}, ["rte"], 6) + grid({"hype": 0}, ["rte"], 6, train_seconds=104.0)
    assert _one(claim, fast).verdict == "supported"
    slow = grid({"full": 0}, ["rte"], 6) + grid({"hype": 0}, ["rte"], 6, train_seconds=130.0)
    assert _one(claim, slow).verdict == "contradicted"
    assert "1.30" in _one(claim, slow).numbers
    slow[0].environment = {**slow[0].environment, "device_name": "another"}
    assert _one(claim, slow).verdict == "not testable here"


def test_provisional_methods_share_too_large_and_embedded_data_decide_nothing() -> None:
    records = grid({"full": 0, "adapter": 0.3}, ["rte"], 8)
    claim = _claim(method="adapter", provisional="only a design")
    found = _one(claim, records)
    assert (found.verdict, found.numbers[:13]) == ("not testable here", "only a design")
    share = _one(_claim(method="adapter", share_at_most=1.0), records)
    assert share.verdict == "not testable here"
    assert "trains 2.6 %" in share.numbers
    for record in records:
        record.data["source"] = "embedded"
    assert _one(_claim(method="adapter"), records).heading == ""


def test_shipped_claims_print_and_draw(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert len(known_claims()) >= 10
    assert main(["claims", str(tmp_path)]) == 0
    printed = capsys.readouterr().out
    assert printed.count("NOT TESTABLE HERE") == len(known_claims())
    found = claims(grid({"full": 0, "hype": 0.05}, TASKS, 8))
    assert "SUPPORTED: HyPe is above full fine-tuning." in to_text(found)
    sheet = claim_sheet(found)
    assert len(sheet.body) == len(found)
    assert any(line[1].text == "supported" and line[1].bold for line in sheet.body)


def test_note_on_a_papers_own_numbers_stands_beside_the_verdict() -> None:
    judged = _one(_claim(note="its table gives −0.2"), grid({"full": 0, "hype": 0.3}, TASKS, 6))
    assert "  the paper's own numbers: its table gives −0.2\n" in to_text([judged])
    [line] = claim_sheet([judged]).body
    assert line[2].text.endswith("; the paper's own numbers: its table gives −0.2")
    plain = _one(_claim(), grid({"full": 0, "hype": 0.3}, TASKS, 6))
    assert "own numbers" not in to_text([plain]) + claim_sheet([plain]).body[0][2].text


def test_wrong_file_of_claims_is_refused_by_name(tmp_path: Path) -> None:
    for number, text in enumerate(("- {claim: C.}\n", "- C.\n", "- {printed: [a]}\n")):
        path = tmp_path / f"claims{number}.yaml"
        path.write_text(text)
        with pytest.raises(UserError, match=rf"claims{number}\.yaml"):
            known_claims(path)


@pytest.mark.parametrize(
    ("model", "verdict"),
    [
        ("bert-large-cased", "supported"),
        ("bert-large-uncased", "supported"),
        ("bert-large", "supported"),
        ("bert-larger", "not testable here"),
        ("bert-large-uncased-squad", "not testable here"),
        ("minilm", "not testable here"),
    ],
)
def test_sentence_of_a_model_is_decided_on_that_model_only(model: str, verdict: str) -> None:
    records = [of_model(r, model) for r in grid({"full": 0, "hype": 0.3}, TASKS, 6)]
    found = _one(_claim(model="bert-large"), records)
    assert found.verdict == verdict
    if verdict != "supported":
        assert found.numbers == "needs records of hype and full on bert-large"


def test_sentence_on_tasks_needs_all_of_them_and_no_other() -> None:
    gains = grid({"full": 0, "hype": 0.3}, ["rte", "mrpc"], 6)
    other = grid({"full": 0, "hype": -0.9}, ["cola"], 6)
    found = _one(_claim(tasks=["rte", "mrpc"]), gains + other)
    assert (found.verdict, found.heading[-9:]) == ("supported", "mrpc, rte")
    lacking = _one(_claim(tasks=["rte", "mrpc", "stsb"]), gains + other)
    assert lacking.verdict == "not testable here"
    assert lacking.numbers == "needs records of hype and full, of rte, mrpc, stsb"


def test_sides_of_a_sentence_may_have_options_of_their_own() -> None:
    """And a row that does not say an option is told from one that does."""
    scores = {"": 0.6, "lowest": 0.5, "random": 0.9}
    records = _apart([
        simulated("hype", "rte", s, score + (s * len(name)) % 5 / 5000,
                  options={"select": name} if name else {})
        for name, score in scores.items()
        for s in range(8)
    ])  # fmt: skip
    given = {"above": ["hype"], "options": ["hype.select=lowest"]}
    below = _claim(points=-9, options_above=["hype.select="], **given)
    assert _one(below, records).verdict == "contradicted"
    assert "−10.0 points" in _one(below, records).numbers
    other = _claim(points=-9, options_above=["hype.select=random"], **given)
    assert "−40.0 points" in _one(other, records).numbers
    alone = [r for r in records if "select" in str(r.config["method"])]
    absent = _one(_claim(options_above=["hype.select="], **given), alone)
    assert absent.verdict == "not testable here"
    assert absent.numbers == "needs records of hype with hype.select=lowest and hype"


def test_what_no_method_here_can_test_says_so_whatever_the_records() -> None:
    found = _one(_claim(lacks="nothing here prunes"), grid({"full": 0, "hype": 0.3}, TASKS, 6))
    assert (found.verdict, found.numbers) == ("not testable here", "nothing here prunes")


def test_cost_of_a_run_that_did_not_finish_is_no_cost() -> None:
    """One that diverged stops early, and would look cheap."""
    claim = _claim(points=None, seconds_at_most=1.05)
    full = grid({"full": 0}, ["rte"], 13)
    slow = grid({"hype": 0}, ["rte"], 6, train_seconds=130.0)
    lost = [simulated("hype", "rte", s, None, train_seconds=5.0) for s in range(7, 14)]
    judged = _one(claim, full + slow + lost)
    assert judged.verdict == "contradicted"
    assert "over 6 pairs of runs (1.30 to 1.30)" in judged.numbers
    assert _one(claim, full + lost).numbers == "no pair of runs with training seconds"


def test_cost_whose_interval_holds_what_is_needed_is_undecided() -> None:
    """Seven of twelve pairs are under the ratio: a median alone would have decided it."""
    claim = _claim(points=None, seconds_at_most=1.05)
    records = grid({"full": 0}, ["rte"], 12)
    for seed in range(1, 13):
        seconds = 90.0 + seed if seed < 8 else 100.0 + seed
        records.append(simulated("hype", "rte", seed, 0.6, train_seconds=seconds))
    judged = _one(claim, records)
    assert judged.verdict == "undecided"
    assert "0.96 [0.93, 1.10] over 12 pairs of runs (0.91 to 1.12)" in judged.numbers
    few = [r for r in records if r.seed < 6]
    assert _one(claim, few).verdict == "undecided"
    assert "too few pairs for an interval" in _one(claim, few).numbers
    assert _one(claim, [r for r in records if r.seed < 7]).verdict == "supported"


def test_rows_are_those_of_a_boards_list() -> None:
    """Its search gave each task a rate of its own: one row, that names of its own would part."""
    rates = {("full", "rte"): 1e-4, ("full", "cola"): 2e-5, ("hype", "rte"): 1e-4}
    records = _apart([
        simulated(m, t, s, 0.6 + 0.001 * s + (m == "hype") * (0.06 if t == "rte" else -0.12),
                  config={"lr": rates.get((m, t), 3e-5)})
        for m in ("full", "hype") for t in ("rte", "cola") for s in range(8)
    ])  # fmt: skip
    places = {"full": 0, "hype": 1}
    runs = [ListedRun(places[r.methods[0]], r.task, r.seed, r.run) for r in records]
    listed = RunList("own", ("full", "hype"), tuple(runs), None)
    [judged] = claims(records, [_claim(points=0.0)], listed)
    assert "hype − full: −3.0 points, 16 pairs" in judged.numbers
    assert judged.heading.endswith("; cola, rte")


def test_sets_of_vectors_of_one_training_are_one_cost() -> None:
    claim = _claim(method="simcse", above=["full"], points=None, seconds_at_most=1.05)
    records = []
    for method, seed in itertools.product(("full", "simcse"), range(1, 6)):
        sets = ("STS12", "STS13")
        task = {"name": "sts", "kind": "similarity", "pairs": {name: {} for name in sets}}
        record = simulated(method, "sts", seed, 0.5, config={"task": task})
        record.data["splits"] = {name: {"rows": 9, "sha256": name} for name in sets}
        record.scores = {name: {"spearmanr": 0.5} for name in sets}
        records.append(record)
    judged = _one(claim, records)
    assert judged.heading.endswith("STS12, STS13")
    assert (judged.verdict, "over 5 pairs of runs" in judged.numbers) == ("undecided", True)


def _versions(gains: dict[int, float]) -> list[Record]:
    """HyPe of several versions, as a collector finds them after a method was mended."""
    rows = [grid({"hype": gain}, ["rte"], 8, 0.02, options={"version": version})
            for version, gain in gains.items()]  # fmt: skip
    return _apart([*grid({"full": 0}, ["rte"], 8), *(record for row in rows for record in row)])


def test_the_latest_version_of_a_method_is_what_a_sentence_is_about() -> None:
    for versions in ((1, 2), (9, 10)):
        judged = _one(_claim(), _versions(dict(zip(versions, (-0.3, 0.3), strict=True))))
        assert judged.verdict == "supported"
        assert f"hype (version={versions[1]}) − full" in judged.numbers
        assert "such rows" not in judged.numbers


def test_of_several_rows_that_a_sentence_may_mean_the_first_is_named() -> None:
    rates = [grid({"hype": gain}, ["rte"], 8, config={"lr": lr}) for lr, gain in
             ((1e-3, 0.1), (1e-2, 0.2))]  # fmt: skip
    records = _apart([*grid({"full": 0}, ["rte"], 8), *rates[0], *rates[1]])
    judged = _one(_claim(), records)
    assert judged.numbers.endswith("hype (lr=0.001) is the first of 2 such rows")


def test_which_training_set_a_sentence_is_about_depends_on_no_hash() -> None:
    """Of a task's two columns it is the complete one, or else that of more rows."""
    for few, whole in ("13", "31"):
        sets = {few: (1000, False, 0.3), whole: (3668, True, -0.3)}
        records = _apart([
            record
            for sha256, (rows, complete, gain) in sets.items()
            for record in grid({"full": 0, "hype": gain}, ["mrpc"], 8, splits={
                "train": {"rows": rows, "sha256": sha256 * 64, "complete": complete}})
        ])  # fmt: skip
        for train, verdict in (
            ("all", "contradicted"),
            (None, "contradicted"),
            (1000, "supported"),
        ):
            judged = _one(_claim(train=train, tasks=["mrpc"]), records)
            assert (judged.verdict, judged.numbers.count("8 pairs")) == (verdict, 1)
        assert _one(_claim(), records).numbers.count("8 pairs") == 1
