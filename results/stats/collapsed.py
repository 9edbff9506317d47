"""Runs that learned nothing: a score no better than always answering the majority class."""

from __future__ import annotations

import numpy as np

from results.record import Record
from results.stats.resampling import METRICS, positive_label, scored_splits
from results.tables.collect import Cell

CORRELATIONS = {"matthews_correlation", "pearson", "spearmanr"}


def majority_score(record: Record) -> float | None:
    """Return the score of always predicting the report's most frequent label; 0 of a correlation.

    Of several equally frequent labels the best counts. None where a record lacks labels or a metric
    is not one of METRICS, and for sentence vectors.
    """
    splits = scored_splits(record)
    if not splits:
        return None
    positive = positive_label(record)
    by_split = []
    for _, names, _, gold in splits:
        if CORRELATIONS.issuperset(names):  # of one answer to all
            by_split.append(0.0)
            continue
        labels, counts = np.unique(gold, return_counts=True)
        once = np.ones((1, len(gold)))
        means = [
            np.mean([METRICS[n](np.full_like(gold, label), gold, once, positive) for n in names])
            for label in labels[counts == counts.max()]
        ]
        by_split.append(float(max(means)))
    return float(np.mean(by_split))


def collapsed_seeds(cell: Cell) -> list[int]:
    """Return the finished seeds of a cell whose score is at or below the majority class's."""
    collapsed = []
    for point in cell.points:
        if point.score is None or point.record is None:
            continue
        floor = majority_score(point.record)
        if floor is not None and point.score <= floor + 1e-9:
            collapsed.append(point.seed)
    return collapsed
