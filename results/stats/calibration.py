"""What a run's logits say beyond its predictions: NLL, ECE, Brier score; ensembles of seeds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from results.stats.resampling import METRICS

Floats = NDArray[np.float64]

BINS = 15  # equally wide, as Guo et al. 2017, section 5, have them


@dataclass(frozen=True)
class Calibration:
    """NLL in nats, expected calibration error as a fraction, Brier score from 0 to 2."""

    nll: float
    ece: float
    brier: float


def log_softmax(logits: NDArray[np.floating]) -> Floats:
    """Return log probabilities of each row, in float64."""
    shifted = np.asarray(logits, np.float64)
    shifted = shifted - shifted.max(axis=1, keepdims=True)
    return np.asarray(shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True)), np.float64)


def calibration(logits: NDArray[np.floating], references: Sequence[float] | Floats) -> Calibration:
    """Return the calibration of logits, [examples, classes], by gold classes, [examples]."""
    logs, gold = log_softmax(logits), np.asarray(references, np.int64)
    probabilities = np.exp(logs)
    rows = np.arange(len(gold))
    target = np.zeros_like(probabilities)
    target[rows, gold] = 1.0
    return Calibration(
        float(-logs[rows, gold].mean()),
        ece(probabilities, gold),
        float(((probabilities - target) ** 2).sum(axis=1).mean()),
    )


@dataclass(frozen=True)
class Bin:
    """Rows whose confidence lies in (low, high]: their mean confidence and accuracy, fractions."""

    low: float
    high: float
    rows: int
    confidence: float
    accuracy: float


def ece(probabilities: Floats, gold: NDArray[np.int64]) -> float:
    """Return the expected calibration error of the top class (Guo et al. 2017, equation 3).

    Bin m of M holds the confidences in ((m - 1)/M, m/M].
    """
    confidence, right, places = _binned(probabilities, gold)
    gaps = np.bincount(places, weights=right - confidence, minlength=BINS)
    return float(np.abs(gaps).sum() / len(gold))


def bins(probabilities: Floats, gold: NDArray[np.int64]) -> list[Bin]:
    """Return the bins of `ece` that hold rows."""
    confidence, right, places = _binned(probabilities, gold)
    rows = np.bincount(places, minlength=BINS)
    sums = [np.bincount(places, weights=w, minlength=BINS) for w in (confidence, right)]
    return [
        Bin(m / BINS, (m + 1) / BINS, int(n), float(sums[0][m] / n), float(sums[1][m] / n))
        for m, n in enumerate(rows)
        if n
    ]


def _binned(
    probabilities: Floats, gold: NDArray[np.int64]
) -> tuple[Floats, Floats, NDArray[np.int64]]:
    """Return each row's confidence, whether its answer is right, and its bin, [rows] each."""
    confidence = probabilities.max(axis=1)
    right = (probabilities.argmax(axis=1) == gold).astype(np.float64)
    places = np.clip(np.ceil(confidence * BINS).astype(np.int64) - 1, 0, BINS - 1)
    return confidence, right, places


def ensemble(each: Sequence[NDArray[np.floating]]) -> NDArray[np.int64]:
    """Return the classes that the mean of several runs' probabilities predicts, [examples]."""
    mean = np.mean([np.exp(log_softmax(logits)) for logits in each], axis=0)
    return np.asarray(mean.argmax(axis=1), np.int64)


def ensemble_score(
    each: Sequence[NDArray[np.floating]],
    references: Sequence[float] | Floats,
    metrics: Sequence[str],
    positive: int,
) -> float:
    """Return the mean of a task's metrics (of METRICS) of the ensemble on one split, a fraction."""
    gold = np.asarray(references, np.float64)
    predictions, once = ensemble(each).astype(np.float64), np.ones((1, len(gold)))
    return float(np.mean([METRICS[name](predictions, gold, once, positive) for name in metrics]))
