"""The committed records are what docs/tables.md says: clean, real, and of enough quality."""

from __future__ import annotations

import re

import numpy as np
import pytest

from results.record import Record
from runners.tasks.metrics import headline
from tests.conftest import committed_records, configure

RECORDS = committed_records()
# The task's one number that full fine-tuning at seed 42 must reach on real data.
REACHED = {"mrpc": 0.79, "stsb": 0.80, "cola": 0.24, "rte": 0.54}


def _find(method: str, task: str) -> Record:
    [found] = [r for r in RECORDS if (r.methods, r.task, r.seed) == ([method], task, 42)]
    return found


@pytest.mark.parametrize("record", RECORDS, ids=lambda r: r.run)
def test_record_is_of_committed_code_and_names_no_machines_path(record: Record) -> None:
    assert record.status == "finished"
    assert record.environment["dirty"] is False
    assert re.fullmatch(r"[0-9a-f]{40}", record.environment["commit"])
    assert record.data["source"] == "local"
    assert not re.search(r'"/|"[A-Z]:\\', record.to_json())


@pytest.mark.parametrize("record", RECORDS, ids=lambda r: r.run)
def test_scores_follow_from_the_predictions_in_the_record(record: Record) -> None:
    from runners.tasks.glue_metrics.glue_metrics import score

    task = configure(f"task={record.task}", f"method=[{','.join(record.methods)}]").settings.task
    for split, found in record.scores.items():
        kept = record.predictions[split]
        # Cosines are kept to nine digits, which makes a few ties that their ranks did not have.
        within = 5e-5 if task.kind == "similarity" else 1e-6
        # Nine digits name one float32: near-constant predictions need it back exactly.
        predictions = kept["predictions"]
        if task.kind == "regression":
            predictions = np.float32(predictions).astype(float).tolist()
        again = score(list(found), predictions, kept["references"])[0]
        assert again == pytest.approx(found, abs=within)
    assert record.score == pytest.approx(headline(task, record.scores))


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
