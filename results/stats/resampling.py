"""Scores of a record's predictions on resampled examples, all draws at once."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from zlib import crc32

import numpy as np
from numpy.typing import NDArray

from results.record import Record

Floats = NDArray[np.float64]


BLOCK = 4_000_000  # counts held at a time


@lru_cache(maxsize=8)
def example_draws(examples: int, draws: int, seed: int, block: int) -> Floats:
    """Return how often each example is in each draw with replacement, [draws, examples]."""
    rng = np.random.Generator(np.random.PCG64([seed, block]))
    chosen = rng.integers(examples, size=(draws, examples))
    return np.array([np.bincount(c, minlength=examples) for c in chosen], dtype=np.float64)


def resampled_scores(record: Record, draws: int = 1000) -> Floats | None:
    """Return a run's score on each draw of its report examples, [draws].

    Draws depend on the task's name and the split's size alone, so that runs on one split are
    paired. None where a record lacks predictions or a metric is not one of METRICS.
    """
    splits = scored_splits(record)
    by_split = []
    for split, names, predictions, gold in splits or ():
        seed, at_once = crc32(f"{record.task} {split}".encode()), max(1, BLOCK // len(gold))
        parts = []
        for block, begin in enumerate(range(0, draws, at_once)):
            counts = example_draws(len(gold), min(at_once, draws - begin), seed, block)
            each = [METRICS[n](predictions, gold, counts, positive_label(record)) for n in names]
            parts.append(np.mean(each, axis=0))
        by_split.append(np.concatenate(parts))
    return np.asarray(np.mean(by_split, axis=0), np.float64) if by_split else None


def scored_splits(record: Record) -> list[tuple[str, list[str], Floats, Floats]] | None:
    """Return the splits that a record's score is of: name, metrics, predictions, gold labels.

    None where a record lacks predictions or a metric is not one of METRICS.
    """
    task = record.config.get("task")
    task = task if isinstance(task, dict) else {}
    splits = []
    for split, scores in record.scores.items():
        if split in task.get("diagnostics", {}) or split in task.get("further", {}):
            continue
        kept = record.predictions.get(split, {})
        predictions, gold = kept.get("predictions", []), kept.get("references", [])
        whole = bool(gold) and len(predictions) == len(gold) and bool(scores)
        if not whole or any(name not in METRICS for name in scores):
            return None
        one, other = np.asarray(predictions, np.float64), np.asarray(gold, np.float64)
        splits.append((split, list(scores), one, other))
    return splits


def positive_label(record: Record) -> int:
    """Return the place of the label that F1 is of."""
    task = record.config.get("task")
    task = task if isinstance(task, dict) else {}
    labels, positive = task.get("labels") or [], task.get("positive_label")
    return labels.index(positive) if positive in labels else 1


def _ratio(top: Floats, bottom: Floats) -> Floats:
    """Return the ratio, 0 where it is undefined, as the metrics of a run are."""
    ratio: Floats = np.divide(top, bottom, out=np.zeros_like(top), where=bottom > 0)
    return ratio


def _accuracy(one: Floats, gold: Floats, counts: Floats, positive: int) -> Floats:
    return np.asarray(counts @ (one == gold) / len(gold), np.float64)


def _f1(one: Floats, gold: Floats, counts: Floats, positive: int) -> Floats:
    said, true = (one == positive).astype(float), (gold == positive).astype(float)
    return _ratio(2 * (counts @ (said * true)), counts @ said + counts @ true)


def _macro_f1(one: Floats, gold: Floats, counts: Floats, positive: int) -> Floats:
    """The mean of F1 over the classes that a draw's predictions or labels hold."""
    of_class = [_f1(one, gold, counts, int(kind)) for kind in np.union1d(one, gold)]
    held = [counts @ ((one == kind) | (gold == kind)) > 0 for kind in np.union1d(one, gold)]
    return _ratio(np.sum(of_class, axis=0), np.sum(held, axis=0, dtype=np.float64))


def _matthews(one: Floats, gold: Floats, counts: Floats, positive: int) -> Floats:
    """Gorodkin's R_K, which is Matthews' correlation for two classes."""
    classes = np.union1d(one, gold)
    said, true = (_by_class(labels, classes, counts) for labels in (one, gold))
    n, right = len(gold), counts @ (one == gold)
    top = right * n - (said * true).sum(axis=1)
    square = (n**2 - (said**2).sum(axis=1)) * (n**2 - (true**2).sum(axis=1))
    return _ratio(top, np.sqrt(np.maximum(square, 0)))


def _by_class(labels: Floats, classes: Floats, counts: Floats) -> Floats:
    """Return how many examples of each class are in each draw, [draws, classes]."""
    if len(labels) * len(classes) <= counts.size:
        return np.asarray(counts @ (labels[:, None] == classes).astype(float), np.float64)
    sums = np.zeros((len(counts), len(classes)))
    np.add.at(sums.T, np.searchsorted(classes, labels), counts.T)
    return sums


def _pearson(one: Floats, gold: Floats, counts: Floats, positive: int) -> Floats:
    x, y = _centred(one), _centred(gold)
    sums = counts @ np.stack([x, y, x * x, y * y, x * y], axis=1)
    x_mean, y_mean, x_square, y_square, product = sums.T / counts.sum(axis=1)
    square = _variance(x_square, x_mean) * _variance(y_square, y_mean)
    return _ratio(product - x_mean * y_mean, np.sqrt(square))


def _centred(values: Floats) -> Floats:
    """Return values about their mean; equal ones are exactly 0."""
    apart = values - values[0]
    centred: Floats = apart - apart.mean()
    return centred


def _variance(square: Floats, mean: Floats) -> Floats:
    """Return each draw's variance, 0 where it is rounding alone."""
    variance = square - mean**2
    return np.where(variance > 1e-12 * square, variance, 0.0)


def _spearman(one: Floats, gold: Floats, counts: Floats, positive: int) -> Floats:
    (x, x_mass, x_place), (y, y_mass, y_place) = _ranks(one, counts), _ranks(gold, counts)
    each = np.take(x, x_place, axis=1), np.take(y, y_place, axis=1)
    square = _sum(x_mass, x, x) * _sum(y_mass, y, y)
    return _ratio(_sum(counts, *each), np.sqrt(square))


def _ranks(values: Floats, counts: Floats) -> tuple[Floats, Floats, NDArray[np.intp]]:
    """Return each distinct value's middle rank in each draw, less the mean rank, and its count.

    Both are [draws, distinct values]; the third says which of these an example has, [examples].
    """
    distinct, place = np.unique(values, return_inverse=True)
    ascending = np.argsort(place, kind="stable")
    first = np.searchsorted(place[ascending], np.arange(len(distinct)))
    mass = np.add.reduceat(np.take(counts, ascending, axis=1), first, axis=1)
    rank = np.cumsum(mass, axis=1) - (mass - 1) / 2
    return rank - (mass.sum(axis=1, keepdims=True) + 1) / 2, mass, place


def _sum(one: Floats, other: Floats, third: Floats) -> Floats:
    """Return the sum of products of three in each row."""
    return np.asarray(np.einsum("de,de,de->d", one, other, third), np.float64)


METRICS: dict[str, Callable[[Floats, Floats, Floats, int], Floats]] = {
    "accuracy": _accuracy,
    "f1": _f1,
    "macro_f1": _macro_f1,
    "matthews_correlation": _matthews,
    "pearson": _pearson,
    "spearmanr": _spearman,
}
