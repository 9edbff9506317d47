"""Calibration and ensembles against slow loops and scikit-learn."""

from __future__ import annotations

import math

import numpy as np
import pytest
from sklearn.metrics import f1_score, log_loss, matthews_corrcoef

from results.stats.calibration import calibration, ensemble, ensemble_score


def _softmax(row: list[float]) -> list[float]:
    powers = [math.exp(value) for value in row]
    return [power / sum(powers) for power in powers]


def _by_hand(logits: np.ndarray, gold: np.ndarray) -> tuple[float, float, float]:
    """NLL, ECE and Brier score, an example and a bin at a time."""
    rows = [_softmax([float(v) for v in row]) for row in logits]
    nll = -sum(math.log(row[g]) for row, g in zip(rows, gold, strict=True)) / len(rows)
    brier = 0.0
    for row, g in zip(rows, gold, strict=True):
        brier += sum((p - (k == g)) ** 2 for k, p in enumerate(row)) / len(rows)
    error = 0.0
    for number in range(15):
        inside = [i for i, r in enumerate(rows) if number / 15 < max(r) <= (number + 1) / 15]
        if inside:
            right = sum(rows[i].index(max(rows[i])) == gold[i] for i in inside) / len(inside)
            sure = sum(max(rows[i]) for i in inside) / len(inside)
            error += len(inside) / len(rows) * abs(right - sure)
    return nll, error, brier


@pytest.mark.parametrize("classes", [2, 3, 7])
@pytest.mark.parametrize("scale", [0.1, 1.0, 8.0])
def test_calibration_is_that_of_a_slow_loop(classes: int, scale: float) -> None:
    rng = np.random.default_rng(classes)
    logits = (scale * rng.normal(size=(211, classes))).astype(np.float32)
    gold = rng.integers(classes, size=211)
    known = calibration(logits, gold.tolist())
    nll, error, brier = _by_hand(logits, gold)
    assert (known.nll, known.ece, known.brier) == pytest.approx((nll, error, brier), abs=1e-9)


def test_calibration_is_scikit_learns() -> None:
    from sklearn.metrics import brier_score_loss

    rng = np.random.default_rng(2)
    for classes in (2, 4):
        logits = rng.normal(size=(300, classes))
        gold = rng.integers(classes, size=300)
        powers = np.exp(logits)
        shares = powers / powers.sum(axis=1, keepdims=True)
        known = calibration(logits, gold)
        assert known.nll == pytest.approx(log_loss(gold, shares, labels=range(classes)))
        one_against_rest = [
            brier_score_loss((gold == k).astype(int), shares[:, k]) for k in range(classes)
        ]
        assert known.brier == pytest.approx(sum(one_against_rest))


def test_known_cases() -> None:
    """Even odds are half right, certainty is right or wrong: nothing between is needed."""
    even = calibration(np.zeros((4, 2)), [0, 0, 1, 1])
    assert (even.nll, even.ece, even.brier) == pytest.approx((math.log(2), 0.0, 0.5))
    certain = calibration(np.array([[900.0, 0.0]] * 4), [0, 0, 0, 1])
    assert (certain.nll, certain.ece, certain.brier) == pytest.approx((225.0, 0.25, 0.5))


def test_an_ensemble_means_probabilities_not_logits_or_votes() -> None:
    """Two mild voices for class 1; the third is sure of class 0, in one row by far."""
    each = [np.array([[0.0, 0.5], [0.0, 3.0]]), np.array([[0.0, 0.5], [0.0, 3.0]]),
            np.array([[3.0, 0.0], [50.0, 0.0]])]  # fmt: skip
    mean = np.mean([[_softmax(list(row)) for row in one] for one in each], axis=0)
    assert ensemble(each).tolist() == mean.argmax(axis=1).tolist() == [0, 1]
    assert np.sum([one.argmax(axis=1) for one in each], axis=0).tolist() == [2, 2]  # votes: 1, 1
    assert np.mean(each, axis=0).argmax(axis=1).tolist() == [0, 0]  # of logits


def test_an_ensembles_score_is_the_mean_of_the_tasks_metrics() -> None:
    rng = np.random.default_rng(5)
    each = [rng.normal(size=(120, 2)) for _ in range(4)]
    gold = rng.integers(2, size=120)
    predicted = ensemble(each)
    f1 = f1_score(gold, predicted, pos_label=0)
    right = float(np.mean(predicted == gold))
    assert ensemble_score(each, gold, ["f1", "accuracy"], 0) == pytest.approx((f1 + right) / 2)
    known = ensemble_score(each, gold, ["matthews_correlation"], 1)
    assert known == pytest.approx(matthews_corrcoef(gold, predicted))
    assert ensemble_score(each[:1], gold, ["accuracy"], 1) == pytest.approx(
        float(np.mean(each[0].argmax(axis=1) == gold))
    )
