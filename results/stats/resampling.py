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
    return _correlation(
        np.broadcast_to(one, counts.shape), np.broadcast_to(gold, counts.shape), counts
    )


def _spearman(one: Floats, gold: Floats, counts: Floats, positive: int) -> Floats:
    return _correlation(_ranks(one, counts), _ranks(gold, counts), counts)


def _ranks(values: Floats, counts: Floats) -> Floats:
    """Return each example's middle rank within each draw, [draws, examples]."""
    distinct, place = np.unique(values, return_inverse=True)
    ascending = np.argsort(place, kind="stable")
    first = np.searchsorted(place[ascending], np.arange(len(distinct)))
    mass = np.add.reduceat(counts[:, ascending], first, axis=1)
    return (np.cumsum(mass, axis=1) - (mass - 1) / 2)[:, place]


def _correlation(x: Floats, y: Floats, counts: Floats) -> Floats:
    n = counts.sum(axis=1)
    x = x - ((counts * x).sum(axis=1) / n)[:, None]
    y = y - ((counts * y).sum(axis=1) / n)[:, None]
    weighted = counts * x
    square = (weighted * x).sum(axis=1) * (counts * y * y).sum(axis=1)
    return _ratio((weighted * y).sum(axis=1), np.sqrt(np.maximum(square, 0)))


METRICS: dict[str, Callable[[Floats, Floats, Floats, int], Floats]] = {
    "accuracy": _accuracy,
    "f1": _f1,
    "macro_f1": _macro_f1,
    "matthews_correlation": _matthews,
    "pearson": _pearson,
    "spearmanr": _spearman,
}
