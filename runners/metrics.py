"""Scores predictions with the repository's evaluate module."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from runners.config import Task


def score_split(
    task: Task, split: str, predictions: NDArray[np.float64], references: Sequence[float]
) -> tuple[dict[str, float], list[str]]:
    """Return the split's metrics by official name, and the names of undefined ones (set to 0)."""
    from runners.glue_metrics.glue_metrics import score

    names = task.diagnostics.get(split, list(task.metrics))
    positive = task.labels.index(task.positive_label) if task.positive_label else 1
    return score(names, predictions.tolist(), references, positive)


def headline(task: Task, scores: dict[str, dict[str, float]]) -> float:
    """Return the task's one number: mean of its metrics, then over splits without diagnostics."""
    means = [sum(m.values()) / len(m) for name, m in scores.items() if name not in task.diagnostics]
    return sum(means) / len(means)
