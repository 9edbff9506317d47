"""Scores predictions under the names of the official metrics."""

from __future__ import annotations

from collections.abc import Sequence
from importlib import import_module

import numpy as np
from numpy.typing import NDArray

from runners.config.task import Task

SUBSETS = "spearmanr_subsets"


def load_metrics() -> None:
    """Import what computes metrics, which takes longer than many an evaluation."""
    for name in ("scipy.stats", "sklearn.metrics"):
        import_module(name)


def score_split(
    task: Task,
    split: str,
    predictions: NDArray[np.float64],
    references: Sequence[float],
    subsets: Sequence[str] | None = None,
) -> tuple[dict[str, float], list[str]]:
    """Return the split's metrics by official name, and the names of undefined ones (set to 0).

    `spearmanr_subsets` is the mean of Spearman's correlation over the parts that `subsets` names,
    each of one weight; it is undefined where one of them is.
    """
    from runners.tasks.glue_metrics.values import score

    names = task.diagnostics.get(split, list(task.metrics))
    positive = task.labels.index(task.positive_label) if task.positive_label else 1
    plain = [name for name in names if name != SUBSETS]
    scores, undefined = score(plain, predictions.tolist(), references, positive)
    if SUBSETS in names:
        parts: dict[str, list[int]] = {}
        for i in range(len(references)):
            parts.setdefault(subsets[i] if subsets else "", []).append(i)
        each = [
            score(["spearmanr"], predictions[rows].tolist(), [references[i] for i in rows])
            for rows in parts.values()
        ]
        scores[SUBSETS] = float(np.mean([values["spearmanr"] for values, _ in each]))
        undefined += [SUBSETS] * any(unknown for _, unknown in each)
    return {name: scores[name] for name in names}, undefined


def headline(task: Task, scores: dict[str, dict[str, float]]) -> float:
    """Return the task's one number: mean of its metrics, then over splits of its own.

    Diagnostics and further sets are no part of it. That of a mixture is its tasks' mean.
    """
    if task.mixture is not None:
        each: dict[str, dict[str, dict[str, float]]] = {}
        for name, metrics in scores.items():
            of, _, split = name.partition("/")
            each.setdefault(of, {})[split] = metrics
        parts = [headline(task.mixture.tasks[of], own) for of, own in each.items()]
        return sum(parts) / len(parts)
    apart = {*task.diagnostics, *task.further}
    means = [sum(m.values()) / len(m) for name, m in scores.items() if name not in apart]
    return sum(means) / len(means)
