"""Metrics equal scikit-learn's and scipy's, and are never nan."""

from __future__ import annotations

import math

import evaluate
import numpy as np
import pytest
import scipy.stats
import sklearn.metrics

from runners.tasks.glue_metrics.glue_metrics import GlueMetrics
from runners.tasks.glue_metrics.values import score
from runners.tasks.metrics import headline, score_split
from tests.conftest import ROOT, configure

OFFICIAL = {
    "cola": {"matthews_correlation"},
    "sst2": {"accuracy"},
    "mrpc": {"accuracy", "f1"},
    "qqp": {"accuracy", "f1"},
    "stsb": {"pearson", "spearmanr"},
    "mnli": {"accuracy"},
    "qnli": {"accuracy"},
    "rte": {"accuracy"},
    "wnli": {"accuracy"},
}


@pytest.mark.parametrize("seed", range(5))
def test_metrics_equal_the_libraries_on_random_input(seed: int) -> None:
    rng = np.random.default_rng(seed)
    gold, predicted = rng.integers(0, 2, 200), rng.integers(0, 2, 200)
    x, y = rng.normal(size=200), rng.normal(size=200).round(1)  # rounding makes ties
    expected = {
        "accuracy": (gold == predicted).mean(),
        "f1": sklearn.metrics.f1_score(gold, predicted),
        "matthews_correlation": np.corrcoef(gold, predicted)[0, 1],
    }
    found, undefined = score(list(expected), predicted, gold)
    assert found == pytest.approx(expected)
    found, _ = score(["pearson", "spearmanr"], x, y)
    ranks = [scipy.stats.rankdata(v) for v in (x, y)]
    assert found == pytest.approx(
        {"pearson": np.corrcoef(x, y)[0, 1], "spearmanr": np.corrcoef(*ranks)[0, 1]}
    )
    assert undefined == []


def test_f1_is_that_of_the_named_class() -> None:
    gold, predicted = [0, 0, 0, 1], [0, 0, 1, 1]
    assert score(["f1"], predicted, gold, positive=1)[0]["f1"] == pytest.approx(2 / 3)
    assert score(["f1"], predicted, gold, positive=0)[0]["f1"] == pytest.approx(0.8)


@pytest.mark.parametrize("name", ["matthews_correlation", "pearson", "spearmanr", "f1", "macro_f1"])
def test_constant_predictions_give_a_number(name: str) -> None:
    found, undefined = score([name], [0.0] * 6, [0, 1, 0, 1, 1, 0])
    assert math.isfinite(found[name])
    if "f1" not in name:
        assert found[name] == 0.0
        assert undefined == [name]


def test_f1_of_a_class_that_nobody_names_is_undefined() -> None:
    """It was a plain 0, as of a model that misses every row of the class."""
    assert score(["f1", "accuracy"], [0, 0, 0], [0, 0, 0]) == ({"f1": 0.0, "accuracy": 1.0}, ["f1"])
    assert score(["f1"], [0, 0, 0], [0, 0, 0], positive=0) == ({"f1": 1.0}, [])
    for predicted, gold in (([0, 0], [0, 1]), ([0, 1], [0, 0])):
        assert score(["f1"], predicted, gold) == ({"f1": 0.0}, [])


def test_unequal_lengths_are_an_error() -> None:
    with pytest.raises(ValueError, match="as many predictions as references"):
        score(["accuracy"], [0, 1], [0])


@pytest.mark.parametrize("task", OFFICIAL)
def test_module_has_the_official_names_through_evaluate(task: str) -> None:
    metric = GlueMetrics(config_name=task, keep_in_memory=True)
    values = [0.5, 1.5, 2.5, 1.0] if task == "stsb" else [0, 1, 1, 0]
    found = metric.compute(predictions=values, references=values)
    assert set(found) == OFFICIAL[task]
    assert found == pytest.approx(dict.fromkeys(OFFICIAL[task], 1.0))
    assert set(configure(f"task={task}").settings.task.metrics) == OFFICIAL[task]


def test_evaluate_loads_the_module_from_the_repository(tmp_path, monkeypatch) -> None:
    metric = evaluate.load(
        str(ROOT / "runners" / "tasks" / "glue_metrics"), "mrpc", cache_dir=str(tmp_path)
    )
    found = metric.compute(predictions=[1, 0, 1], references=[1, 1, 1])
    assert found == pytest.approx({"accuracy": 2 / 3, "f1": 0.8})


def test_headline_leaves_diagnostics_out() -> None:
    task = configure("task=mnli").settings.task
    scores = {
        "validation_matched": {"accuracy": 0.8},
        "validation_mismatched": {"accuracy": 0.6},
        "ax": {"matthews_correlation": 0.1},
    }
    assert headline(task, scores) == pytest.approx(0.7)
    found, _ = score_split(task, "ax", np.array([0.0, 1.0, 2.0]), [0, 1, 2])
    assert found == {"matthews_correlation": 1.0}
