"""The committed records are what docs/tables.md says: clean, real, and of enough quality."""

from __future__ import annotations

import re

import numpy as np
import pytest

from results.record import Record
from results.run_list import read_list
from results.tables.collect import tables
from runners.config.task import Task
from runners.tasks.metrics import headline
from tests.conftest import ROOT, SOAK, committed_folders, committed_records, configure

RECORDS = committed_records()
EMBEDDED = {"results/cft", "results/embedded"}  # whose rows come with the project
FOLDERS = [name for name in committed_folders() if name not in EMBEDDED]
# The task's one number that full fine-tuning at seed 42 must reach on real data.
REACHED = {"mrpc": 0.79, "stsb": 0.80, "cola": 0.24, "rte": 0.54}


def _find(method: str, task: str) -> Record:
    [found] = [r for r in RECORDS if (r.methods, r.task, r.seed) == ([method], task, 42)]
    return found


@pytest.mark.parametrize("folder", FOLDERS)
def test_records_are_of_committed_code_and_name_no_machines_path(folder: str) -> None:
    records = committed_records(folder)
    assert len(records) > (390 if folder in ("results/runs", "results/h200") else 10)
    wrong = [
        record.run
        for record in records
        if record.status != "finished"
        or record.environment["dirty"] is not False
        or not re.fullmatch(r"[0-9a-f]{40}", record.environment["commit"])
        or record.data["source"] != "local"
        or re.search(r'"/|"[A-Z]:\\', record.to_json())
    ]
    assert wrong == []


@pytest.mark.parametrize("folder", FOLDERS)
def test_scores_follow_from_the_predictions_in_the_records(folder: str) -> None:
    """All of them in `make soak`, an eighth else: `admit` held it when it took them."""
    tasks = {}
    for record in committed_records(folder)[:: 1 if SOAK else 8]:
        key = (record.task, tuple(record.methods))
        if key not in tasks:
            overrides = [f"task={record.task}", f"method=[{','.join(record.methods)}]"]
            overrides += ["mlm.on=[rte]"] if record.task == "mlm" else []
            tasks[key] = configure(*overrides).settings.task
        _check_scores(record, tasks[key])


def _check_scores(record: Record, task: Task) -> None:
    from runners.tasks.glue_metrics.values import score

    assert record.scores
    for split, scores in record.scores.items():
        kept = record.predictions[split]
        # Cosines are kept to nine digits, which makes a few ties that their ranks did not have.
        within = 5e-5 if task.kind == "similarity" else 1e-6
        # Nine digits name one float32: near-constant predictions need it back exactly.
        predictions = kept["predictions"]
        if task.kind == "regression":
            predictions = np.float32(predictions).astype(float).tolist()
        again = score(list(scores), predictions, kept["references"])[0]
        assert again == pytest.approx(scores, abs=within), f"{record.run} {split}"
    assert record.score == pytest.approx(headline(task, record.scores)), record.run


def test_all_of_low1k_is_there_from_one_gpu_of_one_commit() -> None:
    records = committed_records("results/h200")
    board = read_list(ROOT / "results" / "boards" / "low1k" / "runs.json")
    assert board.records == "results/h200"
    assert {r.run for r in records} == set(board.by_run)
    assert len(records) == len(board.runs) == 18 * 4 * 6
    places = {(r.environment["device_name"], r.environment["commit"][:7]) for r in records}
    assert places == {("NVIDIA H200", "7886e7d")}
    [table] = tables(records, board)
    assert "fp32 · cuda · protocol final" in table.conditions.heading()
    assert all(len(c.scores) == 6 for row in table.rows for c in row.cells.values())


@pytest.mark.parametrize("task", REACHED)
def test_full_fine_tuning_reaches_what_a_stock_run_reaches(task: str) -> None:
    assert (_find("full", task).score or 0) >= REACHED[task]


@pytest.mark.parametrize("task", ["mrpc", "stsb", "cola"])
def test_bitfit_beats_the_linear_probe(task: str) -> None:
    assert (_find("bitfit", task).score or 0) > (_find("linear", task).score or 0)


def test_untrained_vectors_have_the_published_scores() -> None:
    """all-MiniLM-L6-v2's on each set, to .05."""
    published = {"STS12": 72.37, "STS13": 80.60, "STS14": 75.59, "STS15": 85.39}
    published |= {"STS16": 78.99, "STS-B": 82.03, "SICK-R": 77.15}
    [scores] = [
        r.scores
        for r in RECORDS
        if (r.task, r.config["precision"], r.methods) == ("sts", "fp32", ["embedding"])
    ]
    assert {k: 100 * v["spearmanr"] for k, v in scores.items()} == pytest.approx(
        published, abs=0.05
    )
