"""What a record holds of one report split: predictions, references, and what they are called."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from results.pages.report.parts import cut
from results.record import Record
from results.rescored import definition
from results.stats.resampling import Floats

KINDS = ("classification", "regression", "multiple_choice", "similarity", "masked_lm")


@dataclass(frozen=True)
class Answers:
    """A report split's answers; `references` is None where no gold answers are known.

    `task` is the definition of the task that the split is of, `kind` one of KINDS. The split is of
    a task of a mixture where it is `mixed`, else of another task than the run's where it is
    `further`.
    """

    split: str
    task: Mapping[str, Any]
    kind: str
    predictions: Floats
    references: Floats | None
    mixed: bool = False
    further: bool = False

    @property
    def scored(self) -> bool:
        """Whether each prediction has its reference."""
        return self.references is not None and len(self.predictions) > 0

    @property
    def gold(self) -> Floats:
        """The references; none where they are not known."""
        return np.empty(0) if self.references is None else self.references

    @property
    def of_labels(self) -> bool:
        """Whether each answer is one of the task's labels."""
        return self.kind == "classification"

    @property
    def of_options(self) -> bool:
        """Whether each answer is a place among the options of its row."""
        return self.kind == "multiple_choice"

    @property
    def of_classes(self) -> bool:
        return self.of_labels or self.of_options

    @property
    def of_vectors(self) -> bool:
        """Whether each prediction is a cosine of two vectors."""
        return self.kind == "similarity"

    @property
    def of_tokens(self) -> bool:
        """Whether each answer is a token that was masked."""
        return self.kind == "masked_lm"

    @property
    def may_keep_logits(self) -> bool:
        """Whether save=logits keeps those of such a split."""
        return self.of_labels and not self.mixed and not self.further

    @property
    def positive(self) -> int:
        """The place of the label that F1 is of."""
        labels, positive = self.task.get("labels"), self.task.get("positive_label")
        return labels.index(positive) if isinstance(labels, list) and positive in labels else 1

    def label(self, value: float) -> str:
        """Return what a class is called; one without a name is its number."""
        labels = self.task.get("labels")
        place = int(value)
        if isinstance(labels, list) and place == value and 0 <= place < len(labels):
            return cut(labels[place])
        return f"{value:g}"


def section(content: Mapping[str, Any], *keys: str) -> Mapping[str, Any]:
    """Return a mapping inside mappings; an empty one where there is none."""
    node: Any = content
    for key in keys:
        node = node.get(key) if isinstance(node, Mapping) else None
    return node if isinstance(node, Mapping) else {}


def splits_of(record: Record) -> list[str]:
    """Return the report splits, those with scores first."""
    return list(dict.fromkeys([*record.scores, *record.predictions]))


def answers_of(record: Record, split: str) -> Answers:
    """Return what a record holds of a split."""
    whole = section(record.config, "task")
    task, mixed = definition(whole, split), bool(section(whole, "mixture", "tasks"))
    kept = record.predictions.get(split, {})
    predictions = np.asarray(kept.get("predictions", []), np.float64)
    gold = np.asarray(kept.get("references", []), np.float64)
    known = len(gold) == len(predictions) and len(gold) > 0
    further = split in section(whole, "further")
    references = gold if known else None
    return Answers(split, task, _kind(task), predictions, references, mixed, further)


def _kind(task: Mapping[str, Any]) -> str:
    kind = task.get("kind")
    if kind in KINDS:
        return str(kind)
    return "classification" if task.get("labels") else "regression"
