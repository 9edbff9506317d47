"""Runs that learned nothing: a score no better than always answering the majority class."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from results.record import Record
from results.stats.resampling import Floats, positive_label, scored_splits
from results.tables.collect import Cell


def majority_score(record: Record) -> float | None:
    """Return the score of always predicting the report's most frequent label; 0 of a correlation.

    Of several equally frequent labels the best counts. None where a record lacks labels or a metric
    is not one of METRICS, and for sentence vectors.
    """
    splits = scored_splits(record)
    if not splits:
        return None
    positive = positive_label(record)
    each = [constant_scores(names, gold, positive) for _, names, _, gold in splits]
    return float(np.mean([np.mean(list(scores.values())) for scores in each]))


def constant_scores(names: Sequence[str], gold: Floats, positive: int) -> dict[str, float]:
    """Return each metric of always answering the most frequent label; 0 of a correlation.

    Of several equally frequent labels the one that F1 is of counts.
    """
    labels, counts = np.unique(gold, return_counts=True)
    most = int(counts.max())
    f1 = 2 * most / (len(gold) + most)
    known = {
        "accuracy": most / len(gold),
        "f1": f1 if positive in labels[counts == most] else 0.0,
        "macro_f1": f1 / len(labels),
    }
    return {name: known.get(name, 0.0) for name in names}


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
