"""Scores on resampled examples are those of sklearn and scipy on each resample."""

from __future__ import annotations

import dataclasses
from typing import get_args
from zlib import crc32

import numpy as np
import pytest

from results.errors import UserError
from results.rescored import check_scores
from results.stats.resampling import METRICS, example_draws, resampled_scores
from runners.config.task import Metric
from runners.tasks.glue_metrics.values import score
from tests.results.simulated import simulated

DRAWS = 40


@pytest.mark.parametrize(
    ("names", "classes"),
    [
        (["accuracy"], 3),
        (["accuracy", "f1"], 2),
        (["macro_f1"], 2),
        (["macro_f1", "accuracy"], 7),  # of which a draw lacks some
        (["matthews_correlation"], 2),
        (["matthews_correlation"], 4),
        (["pearson", "spearmanr"], 0),
        (["spearmanr"], 3),  # many ties
    ],
)
def test_each_draw_scores_as_the_metric_does(names: list[str], classes: int) -> None:
    rng = np.random.Generator(np.random.PCG64(7))
    gold = rng.integers(classes, size=23) if classes else rng.normal(size=23).round(1)
    said = np.where(rng.random(23) < 0.6, gold, gold[::-1])
    record = simulated(score=0.5)
    record.scores = {"validation": dict.fromkeys(names, 0.5)}
    record.config["task"] |= {"labels": ["no", "yes"], "positive_label": "no"}
    record.predictions = {
        "validation": {"predictions": list(map(float, said)), "references": list(map(float, gold))}
    }
    found = resampled_scores(record, DRAWS)
    assert found is not None
    counts = example_draws(23, DRAWS, crc32(b"mrpc validation"), 0)
    assert counts.sum(axis=1).tolist() == [23.0] * DRAWS
    for draw, value in zip(counts.astype(int), found, strict=True):
        rows = np.repeat(np.arange(23), draw)
        each = score(names, said[rows].tolist(), gold[rows].tolist(), positive=0)[0]
        assert value == pytest.approx(np.mean(list(each.values())), abs=1e-12)


def test_every_metric_of_a_task_is_scored_again_and_resampled() -> None:
    """All but the one that needs the subsets, which a record does not name."""
    known = {*get_args(Metric)} - {"spearmanr_subsets"}
    assert set(METRICS) == known
    assert len(known) > 5
    record = simulated()
    for name in known:
        said, gold = [0.0, 1.0, 1.0, 0.0, 1.0], [0.0, 1.0, 0.0, 0.0, 1.0]
        record.predictions = {"validation": {"predictions": said, "references": gold}}
        value = score([name], said, gold)[0][name]
        record.scores, record.score = {"validation": {name: value}}, value
        check_scores(record, "here")
        record.scores, record.score = {"validation": {name: value - 0.1}}, value - 0.1
        with pytest.raises(UserError, match=f"it says validation {name}"):
            check_scores(record, "here")


def test_undefined_correlation_is_nought_as_in_a_run() -> None:
    counts = np.ones((1, 4))
    constant, gold = np.ones(4), np.arange(4.0)
    for name in ("pearson", "spearmanr", "matthews_correlation"):
        assert METRICS[name](constant, gold, counts, 1).tolist() == [0.0]


def test_a_draw_of_one_example_has_no_correlation() -> None:
    """Its variance is that of rounding: of numbers far from nought and close to each other."""
    counts = np.array([[0, 0, 4, 0, 0], [0, 2, 0, 2, 0], [4, 0, 0, 0, 0]], dtype=float)
    one, gold = 1e3 + 1e-3 * np.array([0.1, 0.3, 0.2, 0.7, 0.9]), np.array([1.1, 0.3, 0.7, 2, 5])
    for name in ("pearson", "spearmanr"):
        assert METRICS[name](one, gold, counts, 1) == pytest.approx([0, 1, 0], abs=1e-9)


def test_records_without_predictions_or_of_another_metric_have_none() -> None:
    record = simulated()
    assert resampled_scores(record, 3) is None
    kept = {"validation": {"predictions": [1.0, 0.0], "references": [1.0, 1.0]}}
    other = dataclasses.replace(record, predictions=kept, scores={"validation": {"bleu": 0.5}})
    assert resampled_scores(other, 3) is None
    half = {"validation": {"predictions": [1.0], "references": [1.0, 1.0]}}
    assert resampled_scores(dataclasses.replace(record, predictions=half), 3) is None


def test_mean_over_blocks_of_draws_is_that_of_all(monkeypatch: pytest.MonkeyPatch) -> None:
    kept = {"validation": {"predictions": [1.0, 0.0] * 30, "references": [1.0, 1.0] * 30}}
    record = dataclasses.replace(simulated(), predictions=kept)
    monkeypatch.setattr("results.stats.resampling.BLOCK", 600)  # ten draws at a time
    found = resampled_scores(record, 995)
    assert found is not None
    assert len(found) == 995
    assert found.mean() == pytest.approx(0.5, abs=0.01)
    assert found.std() == pytest.approx((0.25 / 60) ** 0.5, rel=0.1)
