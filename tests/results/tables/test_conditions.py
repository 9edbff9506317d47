"""Runs of unlike conditions stand apart, and what keeps them apart is named."""

from __future__ import annotations

import copy
import dataclasses
from pathlib import Path
from typing import Any

import pytest

from results.__main__ import main
from results.errors import UserError
from results.pages.search import search_sheets
from results.pages.text import render
from results.papers.claims import Claim, claims
from results.record import Record, write
from results.stats.compare import judge
from results.tables.collect import tables
from results.tables.conditions import conditions, refuse_mixed
from tests.results.simulated import BASE, simulated

SEEDS = range(1, 7)


def _runs(method: str, gain: float = 0.0, prefix: str = "", **more: Any) -> list[Record]:
    noise = {s: s * len(method) % 7 / 1000 for s in SEEDS}
    records = [simulated(method, seed=s, score=0.5 + gain + noise[s], **more) for s in SEEDS]
    for record in records:
        record.run = f"{prefix}{record.run}"
    return records


def _budget(**changes: Any) -> dict[str, Any]:
    return {"budget": {**BASE.config["budget"], **changes}}


def _on(device: str) -> dict[str, Any]:
    return {"environment": {**BASE.environment, "device": device}}


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"config": _budget(length_bucket=7)}, "budget.length_bucket=7"),
        ({"config": _budget(warmup=0.25 + 1e-9)}, "budget.warmup=0.250000001"),
        (
            {"config": {"model": {**BASE.config["model"], "untrained": ["pooler"]}}},
            "model.untrained=[pooler]",
        ),
        ({"weights": {**BASE.weights, "files_sha256": "e" * 64}}, "weights.files_sha256=eeeeee"),
        ({"weights": {**BASE.weights, "sha256": "e" * 64}}, "weights.sha256=eeeeee"),
        ({"weights": {**BASE.weights, "unused_head": ["head"]}}, "weights.unused_head=drawn"),
        ({"weights": {**BASE.weights, "turned": ["padding"]}}, "weights.turned=padding"),
    ],
    ids=str,
)
def test_what_the_heading_passed_over_splits_a_table_and_is_named(
    changes: dict[str, Any], named: str
) -> None:
    both = tables([simulated(), simulated("bitfit", **changes)])
    assert [[row.method for row in table.rows] for table in both] in (
        [["full"], ["bitfit"]], [["bitfit"], ["full"]],
    )  # fmt: skip
    headings = [table.conditions.heading() for table in both]
    key = named.partition("=")[0]
    assert sum(named in heading for heading in headings) == 1
    assert all(f" · {key}=" in heading for heading in headings)
    with pytest.raises(UserError) as refused:
        refuse_mixed([simulated(), simulated("bitfit", **changes)])
    assert key.removesuffix(".sha256").partition(".")[2 * key.startswith("budget.")] in str(
        refused.value
    )


def test_when_it_is_evaluated_counts_only_where_an_evaluation_is_chosen() -> None:
    def of(protocol: str, evaluate: str) -> Record:
        settings = {"name": protocol, "fraction": 0.1 if protocol == "select" else None}
        config = {**_budget(evaluate=evaluate), "protocol": settings}
        return simulated(evaluate, config=config, protocol=protocol)

    assert len(tables([of("final", "end"), of("final", "epoch")])) == 1
    two = tables([of("select", "end"), of("select", "epoch")])
    assert sorted(t.conditions.heading().rpartition(" · ")[2] for t in two) == [
        "budget.evaluate=end",
        "budget.evaluate=epoch",
    ]


def test_records_from_before_a_key_was_there_stand_with_those_that_say_as_it_was() -> None:
    later = _budget(buckets=16, truncate="head")
    later |= {"optimizer": {"name": "adamw", "betas": [0.9, 0.999], "eps": 1e-8}}
    later |= {"model": {**BASE.config["model"], "untrained": [], "pooling": "mean"}}
    task = {"name": "mrpc", "kind": "classification", "labels": ["no", "yes"], "version": 1}
    later |= {"task": {**task, "options": [], "diagnostics": {}, "selection": None, "pairs": {}}}
    old, new = simulated(seed=1), simulated(seed=2, config=later)
    old.run = "old"
    [table] = tables([old, new])
    assert [(row.method, list(row.cells)) for row in table.rows] == [("full", ["mrpc"])]
    assert len(table.points) == 2
    assert not table.conditions.beside


def test_another_metric_is_another_column_that_says_so() -> None:
    task = {"name": "mrpc", "kind": "classification", "labels": ["no", "yes"]}
    first = simulated(config={"task": {**task, "metrics": ["accuracy"]}})
    second = simulated(seed=2, config={"task": {**task, "metrics": ["accuracy", "f1"]}})
    [table] = tables([first, second])
    assert table.tasks == ("mrpc", "mrpc#2")
    assert table.marks == {
        "mrpc": "task.metrics=[accuracy,f1]",
        "mrpc#2": "task.metrics=[accuracy]",
    }
    assert "mrpc#2: task.metrics=[accuracy]." in render([table], "text")


def test_other_rows_are_another_column_that_says_how_they_were_drawn() -> None:
    records = [simulated(seed=seed) for seed in (1, 2)]
    for draw, record in enumerate(records):
        record.config["data"] = {**BASE.config["data"], "seed": draw}
        splits = record.data["splits"]
        record.data["splits"] = {
            **splits, "train": {**splits["train"], "sha256": f"{draw}" * 64, "complete": False},
        }  # fmt: skip
    [table] = tables(records)
    assert table.marks["mrpc"].endswith("; data.seed=0, train.sha256=000000000000")
    assert table.marks["mrpc#2"].endswith("; data.seed=1, train.sha256=111111111111")


@pytest.mark.parametrize("chosen", [{"data": {"shots": 16}}, {"rows": 40}])
def test_a_fraction_that_is_not_used_parts_no_table(chosen: dict[str, Any]) -> None:
    def of(method: str, fraction: float) -> Record:
        protocol = {"name": "select", "fraction": fraction, "rows": chosen.get("rows")}
        config = {"protocol": protocol, "data": chosen.get("data", {})}
        return simulated(method, config=config, protocol="select", selected={"score": 0.5})

    assert len(tables([of("full", 0.1), of("bitfit", 0.2)])) == 1


def test_a_range_tells_columns_apart_where_it_is_the_answer() -> None:
    prompt = {"template": "{sentence1} [MASK] {sentence2}", "words": {"low": "no", "high": "yes"}}

    def of(method: str, seed: int, high: int, **read: Any) -> Record:
        task = {"name": "stsb", "kind": "regression", "range": [0, high], **read}
        record = simulated(method, "stsb", seed, 0.5, config={"task": task})
        return dataclasses.replace(record, run=f"{record.run}.{high}")

    plain = [of("full", 1, 5), of("full", 2, 4)]
    [table] = tables(plain)
    assert table.tasks == ("stsb",)
    [table] = tables([of("mlm_prompt", 1, 5, prompt=prompt), of("mlm_prompt", 2, 4, prompt=prompt)])
    assert table.tasks == ("stsb", "stsb#2")
    [table] = tables([*plain[:1], of("mlm_prompt", 1, 5, prompt=prompt)])
    assert table.tasks == ("stsb",)


def test_a_trial_of_another_metric_is_no_trial_of_the_same_column() -> None:
    chosen = {"protocol": "select", "selected": {"score": 0.5, "step": 1}}
    task = {"name": "mrpc", "kind": "classification", "labels": ["no", "yes"]}
    records = []
    for seed, metric in ((1, "accuracy"), (2, "f1")):
        config = {"protocol": {"name": "select", "fraction": 0.1}}
        config |= {"task": {**task, "metrics": [metric]}, "lr": seed / 1000}
        records.append(simulated(seed=seed, config=config, **chosen))
    [sheet] = search_sheets(records)
    assert [entry[1].text for entry in sheet.body] == ["mrpc", "mrpc#2"]


def test_no_difference_tie_or_claim_pairs_two_devices() -> None:
    records = _runs("full", **_on("cpu")) + _runs("bitfit", 0.2, **_on("cuda"))
    there = tables(records)
    assert [t.conditions.heading().split(" · ")[-2:] for t in there] == [
        ["cuda", "protocol final"],
        ["fp32", "protocol final"],
    ]
    assert all(not judge(table).differences for table in there)
    claim = Claim(claim="", source="", method="bitfit", above=["full"], points=1.0)
    assert [c.verdict for c in claims(records, [claim])] == ["not testable here"]
    both = records + _runs("full", prefix="g", **_on("cuda"))
    gpu, cpu = (judge(table).differences for table in tables(both))
    assert not cpu
    assert gpu["bitfit", "mrpc"].mean == pytest.approx(0.2, abs=0.01)
    assert [c.verdict for c in claims(both, [claim])] == ["supported"]


def test_only_chooses_a_device_and_keeps_runs_that_failed_before_they_had_one(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lost = simulated("bitfit", seed=9, score=None, status="failed", environment={"harness": 2})
    lost.run = "lost"
    for record in (*_runs("full", **_on("mps")), *_runs("bitfit", **_on("mps")), lost):
        write(record, tmp_path)
    assert main([str(tmp_path), "--only", "device=mps"]) == 0
    assert "(6/7)" in capsys.readouterr().out
    for record in _runs("hype", **_on("cpu")):
        write(record, tmp_path)
    assert main([str(tmp_path)]) == 2
    assert "device: cpu: 7; mps: 12" in capsys.readouterr().err
    assert main([str(tmp_path), "--only", "device=cuda"]) == 2
    assert "there is cpu, mps" in capsys.readouterr().err


def test_a_run_that_was_sent_to_a_device_and_failed_is_of_that_device() -> None:
    lost = simulated(score=None, status="failed", environment={}, config={"device": "cuda:1"})
    assert [one.device for one in conditions([lost])] == ["cuda"]
    assert [one.device for one in conditions([simulated(environment={})])] == ["cpu"]


def test_a_switch_that_tells_two_rows_apart_still_does_beside_a_record_without_it() -> None:
    records = [simulated(seed=1, config={"speed": {"fast_dropout": on}}) for on in (True, False)]
    records.append(simulated(seed=2))
    for number, record in enumerate(records):
        record.run = f"run{number}"
    records[2].config.pop("speed", None)
    [table] = tables(records)
    by_row = {row.method: [p.run for p in row.cells["mrpc"].points] for row in table.rows}
    assert by_row == {
        "full (speed.fast_dropout=True)": ["run0"],
        "full (speed.fast_dropout=False)": ["run1", "run2"],
    }


def test_rates_that_differ_in_the_ninth_digit_are_two_rows() -> None:
    records = [simulated(config={"lr": lr}) for lr in (1e-4, 1.00000001e-4)]
    records[1].run = "other"
    [table] = tables(records)
    assert [row.method for row in table.rows] == ["full (lr=0.0001)", "full (lr=0.000100000001)"]


def test_text_of_as_many_rows_but_other_contents_is_another_row() -> None:
    task = {"name": "sts", "kind": "similarity", "pairs": {"STS-B": {"file": "x"}}}
    records = [simulated("simcse", "sts", seed, config={"task": task}) for seed in (1, 2)]
    for record in records:
        record.scores = {"STS-B": {"spearmanr": 0.5}}
        train = {"rows": 9, "sha256": f"{record.seed}" * 64}
        record.data = {
            "source": "local",
            "splits": {"train": train, "STS-B": {"rows": 9, "sha256": "a" * 64}},
            "text": {"kind": "sentences", "rows": 9},
        }
    assert [row.method for row in tables(records)[0].rows] == [
        "simcse (text.sha256=111111111111)",
        "simcse (text.sha256=222222222222)",
    ]
    same = copy.deepcopy(records)
    same[1].data = same[0].data
    assert [row.method for row in tables(same)[0].rows] == ["simcse"]


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ({"start": {"head": "drawn"}}, {"start": {"head": "keep"}}),
        ({"start": {"head": "keep"}}, {"start": {"head": "keep", "freeze": True}}),
        (
            {"control": {"equal": "updates", "stages": ["mnli"], "steps": None}},
            {"control": {"equal": "updates", "stages": ["mnli"], "steps": 7}},
        ),
        (
            {"control": {"equal": "updates", "stages": ["mnli"], "steps": 4}},
            {"control": {"equal": "updates", "stages": ["qnli"], "steps": 4}},
        ),
        (
            {"control": {"equal": "data", "stages": ["mnli"], "train": "1" * 64}},
            {"control": {"equal": "data", "stages": ["mnli"], "train": "2" * 64}},
        ),
        ({}, {"control": {"equal": "data", "stages": ["mnli"], "train": "1" * 64}}),
    ],
    ids=str,
)
def test_what_a_run_starts_from_or_stands_for_tells_it_apart(
    first: dict[str, Any], second: dict[str, Any]
) -> None:
    one, other = simulated(seed=1, config=first), simulated(seed=2, config=second)
    other.run = "other"
    cells = [cell for table in tables([one, other]) for row in table.rows
             for cell in row.cells.values()]  # fmt: skip
    assert sorted(len(cell.points) for cell in cells) == [1, 1]


def test_text_drawn_anew_with_each_seed_is_of_one_row_where_it_is_drawn_alike() -> None:
    def of(seed: int, balanced: str) -> Record:
        task = {"name": "sts", "kind": "similarity", "pairs": {"STS-B": {"file": "x"}}}
        data = {**BASE.config["data"], "seed": "seed", "balanced": balanced}
        record = simulated("simcse", "sts", seed, config={"task": task, "data": data})
        train = {"rows": 9, "sha256": f"{seed}" * 64}
        record.scores = {"STS-B": {"spearmanr": 0.5}}
        record.data = {
            "source": "local",
            "splits": {"train": train, "STS-B": {"rows": 9, "sha256": "a" * 64}},
            "text": {"kind": "sentences", "rows": 99},
        }
        return record

    assert len(tables([of(1, "train"), of(2, "train")])[0].rows) == 1
    assert len(tables([of(1, "train"), of(2, "none")])[0].rows) == 2


def test_rows_drawn_anew_with_each_seed_are_of_one_column_where_they_are_drawn_alike() -> None:
    def of(seed: int, balanced: str, name: str = "mrpc", **more: Any) -> Record:
        data = {**BASE.config["data"], "seed": "seed", "balanced": balanced}
        train = {"rows": 9, "sha256": f"{seed}" * 64, "complete": False}
        record = simulated(
            "full", name, seed, config={"data": data, **more}, splits={"train": train}
        )
        record.run = f"{balanced}{seed}"
        return record

    [alike] = tables([of(1, "train"), of(2, "train")])
    assert alike.tasks == ("mrpc",)
    [table] = tables([of(1, "train"), of(2, "none")])
    assert table.tasks == ("mrpc", "mrpc#2")
    assert "data.balanced=none" in " ".join(table.marks.values())
    task = {"name": "mrpc", "kind": "classification", "labels": ["no", "yes"]}
    mixed = {"name": "mix", "mixture": {"tasks": {"mrpc": task, "rte": {**task, "name": "rte"}}}}
    both = [of(seed, "train", "mix", task=mixed) for seed in (1, 2)]
    for record in both:
        parts = dict.fromkeys(("mrpc", "rte"), record.data["splits"]["train"])
        splits = record.data["splits"]
        record.data |= {"parts": parts, "draw": "even"}
        record.data["splits"] = {
            "train": splits["train"],
            **{f"{name}/validation": splits["validation"] for name in parts},
        }
        record.scores = {f"{name}/validation": {"accuracy": 0.5} for name in parts}
    [mixture] = tables(both)
    assert [row.method for row in mixture.rows] == ["full mixing mrpc, rte evenly"]
    assert [len(cell.points) for row in mixture.rows for cell in row.cells.values()] == [2, 2]


def test_so_many_of_each_class_by_seed_are_another_column_than_as_many_rows() -> None:
    def of(seed: int, **chosen: int) -> Record:
        data = {**BASE.config["data"], "seed": "seed", "balanced": "train", **chosen}
        train = {"rows": 16, "sha256": f"{seed}" * 64, "complete": False}
        record = simulated("full", "mrpc", seed, config={"data": data}, splits={"train": train})
        record.run = f"{chosen}{seed}"
        return record

    [table] = tables([of(seed, **{key: 8}) for key in ("shots", "train_size") for seed in (1, 2)])
    assert table.tasks == ("mrpc", "mrpc#2")
    [row] = table.rows
    assert [len(cell.points) for cell in row.cells.values()] == [2, 2]
    assert "data.shots=8" in " ".join(table.marks.values())


def _epochs(number: int, method: str = "full", **changes: Any) -> list[Record]:
    return _runs(method, config=_budget(epochs=number, **{"steps": None, **changes}))


def test_a_run_that_trained_nothing_stands_beside_those_that_trained_and_says_so() -> None:
    [table] = tables([*_epochs(10, batch_size=8), *_epochs(0, "description_cosine")])
    assert [row.method for row in table.rows] == ["full", "description_cosine, not trained"]
    assert "10 epochs, batch 8" in table.conditions.budget


@pytest.mark.parametrize(
    "others",
    [
        _epochs(10) + _epochs(20, "bitfit"),
        _epochs(10, max_length=64),
        _epochs(10, truncate="tail"),
        _runs("full", **_on("cuda"), config=_budget(epochs=10, steps=None)),
    ],
    ids=["two budgets", "shorter texts", "other parts of texts", "another device"],
)
def test_it_stands_alone_beside_two_budgets_or_where_texts_are_read_otherwise(
    others: list[Record],
) -> None:
    every = tables([*others, *_epochs(0, "description_cosine")])
    [alone] = [t for t in every if t.rows[0].names == ("description_cosine",)]
    assert len(alone.rows) == 1
    assert "0 epochs" in alone.conditions.budget
