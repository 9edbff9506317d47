"""Turns a source's raw labels and scores into the task's."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from results.errors import UserError
from runners.config.task import LocalFiles, Task
from runners.data.split import Label


def label_of(value: Any, names: Mapping[Any, str], task: Task) -> Label | None:
    """Return the score, or the label by its place among the task's; None for what is neither.

    `names` leads from the source's names of labels to the task's; it is empty where they are equal.
    """
    if task.facts.answer == "score":
        return _number(value, task)
    name = names.get(value) if names else str(value)
    return None if name is None or name not in task.labels else task.labels.index(name)


def score_of(text: str, task: Task, where: str) -> float:
    """Return a score that a text holds; one outside the task's range is a UserError."""
    score = _number(text, task)
    if score is None:
        raise UserError(f"{where}: '{text}' is not a {_score(task)}")
    return score


def local_label(text: str, task: Task, files: LocalFiles, where: str) -> Label:
    """Return the label or score that a field of a text file holds; else a UserError."""
    label = label_of(text, files.label_names, task)
    if label is None:
        known = ", ".join(files.label_names or task.labels)
        wanted = f"label of this task; known: {known}" if task.labels else _score(task)
        raise UserError(f"{where}: '{text}' is not a {wanted}")
    return label


def hub_labels(
    raw: list[Any], feature: Any, task: Task, where: str, split: str
) -> tuple[Label, ...] | None:
    """Return the labels or scores of a table's column; None for a diagnostic split without any."""
    if split in task.diagnostics and all(value in (-1, None) for value in raw):
        return None
    names = dict(enumerate(getattr(feature, "names", None) or ()))
    labels: list[Label] = []
    for row, value in enumerate(raw):
        label = label_of(value, names, task)
        if label is None:
            known = f"; known: {task.labels}" if task.labels else ""
            what = "label" if task.labels else "score"
            raise UserError(f"{where} row {row}: {value!r} is not a {what} of this task{known}")
        labels.append(label)
    return tuple(labels)


def _number(value: Any, task: Task) -> float | None:
    """Return a finite number within the task's range, or None."""
    try:
        score = math.nan if "_" in str(value) else float(value)  # which reads 1_0 as 10
    except (TypeError, ValueError):
        return None
    low, high = task.range or (-math.inf, math.inf)
    return score if math.isfinite(score) and low <= score <= high else None


def _score(task: Task) -> str:
    return "score from {:g} to {:g}".format(*task.range) if task.range else "score"
