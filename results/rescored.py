"""Scores a record's predictions again, so that its scores are known to be theirs.

Apart from the metrics that scored the run (runners/tasks/glue_metrics), which this floor does not
know: a slip in one of the two shows as a difference.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from results.errors import UserError

EXACT = 1e-6


DIGITS = 9  # to which a record keeps predictions that are scores


Numbers = NDArray[np.float64]


class Scored(Protocol):
    """What of a record its scores follow from; a Record has it."""

    config: dict[str, Any]
    score: float | None
    scores: dict[str, dict[str, float]]
    predictions: dict[str, dict[str, list[float]]]
    slices: dict[str, dict[str, Any]]


def check_scores(record: Scored, where: str) -> None:
    """Raise a UserError where a record's scores are not those of its predictions.

    Also where its one number is not the mean of its scores. What cannot be known is passed over:
    splits without predictions, metrics over parts that the record does not name.
    """
    task = record.config.get("task")
    task = task if isinstance(task, dict) else {}
    for split, scores in record.scores.items():
        kept = record.predictions.get(split, {})
        if not kept.get("predictions") or not kept.get("references"):
            continue
        _check_metrics(
            scores, kept, definition(task, split), f"{where} is damaged: it says {split}"
        )
    for split, part, sliced in each_slice(record.slices, where):
        kept = part_of(record, split, part)
        if not kept.get("predictions") or not kept.get("references"):
            raise UserError(f"{where} is damaged: it has no predictions of {split} {part}")
        said = f"{where} is damaged: it says {split} {part}"
        _check_metrics(sliced, kept, definition(task, split), said)
    mean = headline(task, record.scores)
    if record.score is None or mean is None:
        return
    if not abs(record.score - mean) <= EXACT:
        raise UserError(
            f"{where} is damaged: it says score {record.score:.6g}, the mean of its scores is"
            f" {mean:.6g}"
        )


def _check_metrics(
    scores: Mapping[str, float],
    kept: Mapping[str, Sequence[float]],
    task: Mapping[str, Any],
    said: str,
) -> None:
    for metric, stored in scores.items():
        again = _again(metric, kept, task)
        if again is not None and not abs(stored - again[0]) <= again[1]:
            raise UserError(f"{said} {metric} {stored:.6g}, its predictions have {again[0]:.6g}")


def each_slice(
    slices: Mapping[str, Mapping[str, Any]], where: str = "a record"
) -> Iterator[tuple[str, str, Mapping[str, float]]]:
    """Yield split, part (seen or unseen) and scores of a record's slices; else a UserError."""
    for split, content in slices.items():
        rows, scores = content.get("unseen"), content.get("scores")
        whole = isinstance(rows, list) and all(type(row) is int and row >= 0 for row in rows)
        if not whole or not isinstance(scores, dict) or not {*scores} <= {"seen", "unseen"}:
            raise UserError(f"{where} is damaged: its slices of {split} are none")
        for part, metrics in scores.items():
            if not isinstance(metrics, dict) or not all(
                isinstance(value, int | float) for value in metrics.values()
            ):
                raise UserError(f"{where} is damaged: its slices of {split} are none")
            yield split, part, metrics


def part_of(record: Scored, split: str, part: str) -> dict[str, list[float]]:
    """Return predictions and references of a split's rows that are seen, or unseen."""
    unseen = {*record.slices[split]["unseen"]}
    return {
        key: [value for i, value in enumerate(values) if (i in unseen) == (part == "unseen")]
        for key, values in record.predictions.get(split, {}).items()
    }


def headline(task: Mapping[str, Any], scores: Mapping[str, Mapping[str, float]]) -> float | None:
    """Return a task's one number from its splits' metrics; a mixture's is its tasks' mean."""
    if tasks := _mapping(_mapping(task, "mixture"), "tasks"):
        each = [headline(_mapping(tasks, name), _below(scores, f"{name}/")) for name in tasks]
        known = [one for one in each if one is not None]
        return sum(known) / len(known) if known else None
    apart = {*_mapping(task, "diagnostics"), *_mapping(task, "further")}
    counted = [m for n, m in scores.items() if n not in apart and m]
    return sum(sum(m.values()) / len(m) for m in counted) / len(counted) if counted else None


def _below(scores: Mapping[str, Any], prefix: str) -> dict[str, Any]:
    return {n.removeprefix(prefix): m for n, m in scores.items() if n.startswith(prefix)}


def definition(task: Mapping[str, Any], split: str) -> Mapping[str, Any]:
    """Return the definition of the task that a split is of: a further set is of another."""
    tasks = _mapping(_mapping(task, "mixture"), "tasks")
    if split.partition("/")[0] in tasks:
        return _mapping(tasks, split.partition("/")[0])
    further = _mapping(task, "further").get(split)
    return task if not isinstance(further, dict) else _mapping(further, "definition")


def _mapping(task: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    value = task.get(key)
    return value if isinstance(value, dict) else {}


def _again(
    metric: str, kept: Mapping[str, Sequence[float]], task: Mapping[str, Any]
) -> tuple[float, float] | None:
    """Return a metric of kept predictions and how far off it may be; None where it is unknown."""
    predicted, gold = (np.asarray(kept[k], float) for k in ("predictions", "references"))
    if predicted.shape != gold.shape:
        return math.nan, 0.0
    if metric in _CORRELATIONS:
        return _CORRELATIONS[metric](predicted, gold, bool(task.get("pairs")))
    labels = task.get("labels")
    positive = task.get("positive_label")
    index = labels.index(positive) if isinstance(labels, list) and positive in labels else 1
    if metric == "accuracy":
        return float(np.mean(predicted == gold)), EXACT
    if metric == "f1":
        return _f1(predicted == index, gold == index), EXACT
    if metric == "macro_f1":
        both, p, g = _counts(predicted, gold)
        return float(np.mean(2 * both / (p + g))), EXACT
    if metric == "matthews_correlation":
        return _matthews(predicted, gold), EXACT
    return None


def _f1(predicted: NDArray[np.bool_], gold: NDArray[np.bool_]) -> float:
    either = int(predicted.sum() + gold.sum())
    return 2 * int((predicted & gold).sum()) / either if either else 0.0


def _counts(predicted: Numbers, gold: Numbers) -> tuple[Numbers, Numbers, Numbers]:
    """Return for each class how often both say it, how often the one does, and the other."""
    classes, place = np.unique(np.concatenate([predicted, gold]), return_inverse=True)
    said, true = place[: len(gold)], place[len(gold) :]
    sides = (said[said == true], said, true)
    both, p, g = (np.bincount(x, minlength=len(classes)).astype(float) for x in sides)
    return both, p, g


def _matthews(predicted: Numbers, gold: Numbers) -> float:
    """The correlation of two partitions, as Gorodkin 2004 has it for any number of classes."""
    both, p, g = _counts(predicted, gold)
    n, agree = len(gold), float(both.sum())
    spread = (n * n - p @ p) * (n * n - g @ g)
    return float((agree * n - p @ g) / math.sqrt(spread)) if spread > 0 else 0.0


def _pearson(predicted: Numbers, gold: Numbers, rounded: bool) -> tuple[float, float] | None:
    """Pearson's correlation; nine digits of near-constant numbers say little, and so allow much."""
    x, y = predicted - predicted.mean(), gold - gold.mean()
    lengths = float(np.linalg.norm(x)), float(np.linalg.norm(y))
    error = 5 * 10.0**-DIGITS * float(np.abs(predicted).max()) * math.sqrt(len(x))
    if not rounded and len(set(predicted.tolist())) == 1:
        return 0.0, EXACT
    if min(lengths) <= error:
        return None
    return float(x @ y) / (lengths[0] * lengths[1]), EXACT + 2 * error / lengths[0]


def _spearman(predicted: Numbers, gold: Numbers, rounded: bool) -> tuple[float, float] | None:
    """Spearman's correlation; cosines that nine digits tie had ranks that are lost.

    Ranks in ties are their means, a projection: the angle to the lost ranks bounds the difference.
    """
    n, counts = len(predicted), np.unique(predicted, return_counts=True)[1].astype(float)
    if len(set(gold.tolist())) == 1 or (len(counts) == 1 and not rounded):
        return 0.0, EXACT
    if len(counts) == 1:
        return None
    lost = float((counts**3 - counts).sum()) / (float(n) ** 3 - n) if rounded else 0.0
    x, y = _ranks(predicted), _ranks(gold)
    x, y = x - x.mean(), y - y.mean()
    rho = float(x @ y) / float(np.linalg.norm(x) * np.linalg.norm(y))
    return rho, EXACT + 2 * math.sin(math.asin(math.sqrt(min(1.0, lost))) / 2)


def _ranks(values: Numbers) -> Numbers:
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    mean: Numbers = (last - (counts - 1) / 2)[inverse]
    return mean


_CORRELATIONS: dict[str, Callable[[Numbers, Numbers, bool], tuple[float, float] | None]] = {
    "pearson": _pearson,
    "spearmanr": _spearman,
}
