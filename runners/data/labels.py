"""Turns a source's raw labels and scores into the task's."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from results.errors import UserError
from runners.config.task import LocalFiles, Task
from runners.data.split import Label

if TYPE_CHECKING:
    pass


def score_of(text: str, task: Task, where: str) -> float:
    """Return a score that a text holds; one outside the task's range is a UserError."""
    try:
        score = float(text)
    except ValueError:
        score = math.nan
    low, high = task.range or (-math.inf, math.inf)
    if not (math.isfinite(score) and low <= score <= high):
        bounds = f" from {low:g} to {high:g}" if task.range else ""
        raise UserError(f"{where}: '{text}' is not a score{bounds}")
    return score


def _label(text: str, task: Task, files: LocalFiles, where: str) -> Label:
    if task.facts.answer == "score":
        return score_of(text, task, where)
    name = files.label_names.get(text, text if not files.label_names else "")
    if name not in task.labels:
        known = list(files.label_names) or task.labels
        raise UserError(f"{where}: '{text}' is not a label of this task; known: {', '.join(known)}")
    return task.labels.index(name)


def _labels(
    raw: list[Any], feature: Any, task: Task, where: str, split: str
) -> tuple[Label, ...] | None:
    if split in task.diagnostics and all(value in (-1, None) for value in raw):
        return None
    labels: list[Label] = []
    names = getattr(feature, "names", None)
    for row, value in enumerate(raw):
        if task.facts.answer == "score":
            low, high = task.range or (float("-inf"), float("inf"))
            if not (isinstance(value, int | float) and low <= value <= high):
                raise UserError(f"{where} row {row}: {value!r} is not a score of this task")
            labels.append(float(value))
            continue
        name = (
            names[value]
            if names and isinstance(value, int) and 0 <= value < len(names)
            else str(value)
        )
        if name not in task.labels:
            raise UserError(
                f"{where} row {row}: {value!r} is not a label of this task; known: {task.labels}"
            )
        labels.append(task.labels.index(name))
    return tuple(labels)
