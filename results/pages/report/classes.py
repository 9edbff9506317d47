"""Tables of a classifier's answers: which class is taken for which, and each class's F1."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from results.pages.html import escape
from results.pages.report.answers import Answers
from results.pages.report.parts import Cell, Markup, heading, soft, table
from results.stats.resampling import Floats

SQUARE = 12  # classes of a matrix that a page has room for
ROWS = 50  # classes of a table
PAIRS = 20  # of classes that are taken for each other


@dataclass(frozen=True)
class Confusion:
    """How often each class is answered with each: `pairs` are places in `classes`, gold first.

    Only pairs that occur are kept: as many classes as rows must not square.
    """

    classes: Floats
    pairs: NDArray[np.int64]  # [pairs, 2]
    counts: NDArray[np.int64]

    @property
    def right(self) -> NDArray[np.int64]:
        """How often each class is answered with itself."""
        return self._summed(self.pairs[:, 0], self.pairs[:, 0] == self.pairs[:, 1])

    @property
    def support(self) -> NDArray[np.int64]:
        """The rows of each class."""
        return self._summed(self.pairs[:, 0])

    @property
    def answered(self) -> NDArray[np.int64]:
        """How often each class is the answer."""
        return self._summed(self.pairs[:, 1])

    def _summed(
        self, places: NDArray[np.int64], chosen: NDArray[np.bool_] | None = None
    ) -> NDArray[np.int64]:
        counts = self.counts if chosen is None else self.counts * chosen
        return np.bincount(places, counts, minlength=len(self.classes)).astype(np.int64)


def confusion(predictions: Floats, gold: Floats, named: int = 0) -> Confusion:
    """Count the pairs of gold class and answer; the first `named` classes are there in any case."""
    values = np.concatenate([gold, predictions, np.arange(named, dtype=np.float64)])
    classes, place = np.unique(values, return_inverse=True)
    n, codes = len(gold), len(classes)
    pairs, counts = np.unique(place[:n] * codes + place[n : 2 * n], return_counts=True)
    both = np.stack([pairs // codes, pairs % codes], axis=1)
    return Confusion(classes, both.astype(np.int64), counts.astype(np.int64))


def confusion_section(answers: Answers) -> str:
    """Return the matrix of a split's answers, or the commonest confusions of many classes."""
    counted = _counted(answers)
    if len(counted.classes) > SQUARE:
        return _commonest(answers, counted)
    names = [answers.label(value) for value in counted.classes]
    grid = np.zeros((len(names), len(names)), np.int64)
    grid[counted.pairs[:, 0], counted.pairs[:, 1]] = counted.counts
    body: list[list[Cell]] = []
    for i, name in enumerate(names):
        total = int(grid[i].sum())
        body.append([name, *(_square(int(n), total, i == j) for j, n in enumerate(grid[i]))])
    said = (
        "A row holds the rows of one reference; a column, one answer; the percentage is of the row."
    )
    heads = ["reference ↓ answer →", *names]
    return heading("Confusion matrix", 3) + table(heads, body, "matrix") + soft(said)


def _counted(answers: Answers) -> Confusion:
    labels = answers.task.get("labels")
    named = len(labels) if isinstance(labels, list) and len(labels) <= SQUARE else 0
    return confusion(answers.predictions, answers.gold, named)


def _square(count: int, total: int, right: bool) -> Markup:
    share = f"{100 * count / total:.0f} %" if total else "–"
    depth = count / total if total else 0.0
    kind = "hit" if right else "miss"
    return Markup(
        f'<span class="{kind}" style="--part:{depth:.3f}"><b>{count:,}</b>'
        f"<small>{escape(share)}</small></span>"
    )


def _commonest(answers: Answers, counted: Confusion) -> str:
    wrong = np.flatnonzero(counted.pairs[:, 0] != counted.pairs[:, 1])
    order = wrong[np.argsort(-counted.counts[wrong], kind="stable")][:PAIRS]
    support = counted.support
    body = []
    for i in order:
        gold, said = counted.pairs[i]
        share = 100 * counted.counts[i] / support[gold]
        names = [answers.label(counted.classes[place]) for place in (gold, said)]
        body.append([names[0], names[1], f"{counted.counts[i]:,}", f"{share:.0f} %"])
    if not body:
        return soft("No row is answered wrongly.")
    said = f"{len(counted.classes):,} classes have no room in a matrix: these are the commonest."
    heads = ["reference", "answer", "rows", "of the reference"]
    return heading("Confusions", 3) + table(heads, body) + soft(said)


@dataclass(frozen=True)
class OfClass:
    """A class's precision, recall and F1, fractions; None where one is a division by zero."""

    precision: float | None
    recall: float | None
    f1: float | None
    support: int
    answered: int


def by_class(counted: Confusion) -> list[OfClass]:
    """Return each class's scores."""
    rows = []
    columns = (counted.right, counted.support, counted.answered)
    for right, support, answered in zip(*(c.tolist() for c in columns), strict=True):
        rows.append(
            OfClass(
                right / answered if answered else None,
                right / support if support else None,
                2 * right / (support + answered) if support + answered else None,
                support,
                answered,
            )
        )
    return rows


def class_section(answers: Answers) -> str:
    """Return the table of a split's classes, those with most rows first where there are many."""
    counted = _counted(answers)
    scores = by_class(counted)
    order: Sequence[int] = range(len(scores))
    notes = []
    if len(scores) > ROWS:
        order = np.argsort(-counted.support, kind="stable")[:ROWS].tolist()
        notes.append(f"The {ROWS} most frequent of {len(scores):,} classes.")
    body = [_row(answers.label(counted.classes[i]), scores[i]) for i in order]
    lacking = {
        "precision": any(one.precision is None for one in scores),
        "recall": any(one.recall is None for one in scores),
    }
    if lacking["precision"]:
        notes.append("No precision (0/0): the class is never the answer.")
    if lacking["recall"]:
        notes.append("No recall (0/0): no row has the class.")
    notes.append("Percent; F1 is 2 · right / (rows + answers).")
    heads = ["class", "precision", "recall", "F1", "rows", "answers"]
    return heading("By class", 3) + table(heads, body) + soft(" ".join(notes))


def _row(name: str, one: OfClass) -> list[str]:
    shares = [
        "0/0" if value is None else f"{100 * value:.1f}"
        for value in (one.precision, one.recall, one.f1)
    ]
    return [name, *shares, f"{one.support:,}", f"{one.answered:,}"]
