"""Mines labelled rows from text without labels, by a task's patterns and verbalizers.

van de Kar, Xia, Chen and Artetxe 2022 (MINE, arXiv 2210.14803): a prompt such as `X. It was V.`
becomes a pattern such as `(is|was) V*. X`, whose match's next sentence X is an example of the label
that V stands for. Their corpus and their number of rows are not taken over: both are options.
Their filter drops rows that zero-shot prompting answers otherwise. It needs the run's model, which
is not there yet when rows are mined: it answers them before the first step, and what stays is drawn
from then.
"""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Any

from results.errors import UserError
from runners.config.settings import Data
from runners.config.task import Task
from runners.data.corpus import clean, read_training_text
from runners.data.evaluated import Evaluated, normal
from runners.data.split import Label, Split
from runners.seeds import derive

_Row = tuple[tuple[str, ...], Label]  # texts, and the number of a label


def mine(
    task: Task, data: Data, train: Split, evaluated: Evaluated
) -> tuple[Split, dict[str, Any]]:
    """Return all mined rows as a train split, and what the record says of them.

    Each line of a file, or each text of `train`, is searched by itself. A row that two labels have,
    a second copy, and one with a text that is scored are left out. A class without a row is a
    UserError.
    """
    assert task.mine is not None
    documents, origin = _documents(data, train)
    matched = _matched(task, documents)
    counts = {"matched": _by_label(task, matched)}
    unlike, counts["left_out_as_of_two_labels"] = _left(task, matched, _one_label(matched))
    single, counts["left_out_as_duplicates"] = _left(task, unlike, _first(unlike))
    scored = [not evaluated.has_text(texts, data.mine.contained) for texts, _ in single]
    unseen, counts["left_out_as_evaluated"] = _left(task, single, scored)
    for number, label in enumerate(task.labels):
        if all(own != number for _, own in unseen):
            words = ", ".join(task.mine.verbalizers[label])
            raise UserError(
                f"data.mine: of {label} ({words}) {counts['matched'][label]:,} rows match in"
                f" {origin}, and none is left; give it more text, or other task.mine.verbalizers"
            )
    rows = _split(unseen)
    facts = {
        "source": data.mine.source,
        "from": origin,
        "sha256": rows.sha256,  # before draws, which other seeds make otherwise
        "documents": len(documents),
        **counts,
    }
    return rows, facts


def draw_mined(
    task: Task, data: Data, mined: Split, seed: int, stays: Sequence[bool] | None = None
) -> tuple[Split, dict[str, Any]]:
    """Return those of the mined rows that a run learns from, and how many of each class those are.

    `stays` says which rows the filter keeps, all where it is None. A class of which it keeps none
    is a UserError.
    """
    rows, counts = list(zip(mined.texts, mined.labels or (), strict=True)), dict[str, Any]()
    if stays is not None:
        before = _by_label(task, rows)
        rows, counts["left_out_by_filter"] = _left(task, rows, stays)
        for label, number in _by_label(task, rows).items():
            if not number:
                raise UserError(
                    f"data.mine.filter={data.mine.filter}: the model answers none of the"
                    f" {before[label]:,} rows mined for {label} so; give it more text or other"
                    " words, or leave the filter out"
                )
    capped, counts["left_out_by_per_class"] = _cut(task, rows, data.mine.per_class, seed)
    fewest = min(_by_label(task, capped).values()) if data.mine.balance else None
    kept, counts["left_out_by_balance"] = _cut(task, capped, fewest, seed)
    return _split(kept), {**counts, "rows": _by_label(task, kept)}


def _split(rows: Sequence[_Row]) -> Split:
    return Split("train", tuple(texts for texts, _ in rows), tuple(label for _, label in rows))


def _documents(data: Data, train: Split) -> tuple[list[str], str]:
    if data.mine.source == "train":
        texts = dict.fromkeys(clean(str(text) for row in train.texts for text in row))
        return list(texts), f"the texts of train ({len(texts):,})"
    split, facts = read_training_text(data, "local", "sentences", set())
    return [line for (line,) in split.texts], str(facts["from"])


def _matched(task: Task, documents: Iterable[str]) -> list[_Row]:
    """Return every match in its order; those of one pattern do not overlap."""
    assert task.mine is not None
    searched = [
        (number, task.mine.words(label), pattern)
        for number, label in enumerate(task.labels)
        for pattern in task.mine.compiled(label)
    ]
    return [
        (tuple(match[column].strip() for column in task.columns), number)
        for document in documents
        for number, words, pattern in searched
        if words.search(document)  # most texts hold none, which is found fast
        for match in pattern.finditer(document)
    ]


def _key(row: _Row) -> tuple[str, ...]:
    return tuple(map(normal, row[0]))


def _one_label(rows: Sequence[_Row]) -> list[bool]:
    labels = defaultdict(set)
    for row in rows:
        labels[_key(row)].add(row[1])
    return [len(labels[_key(row)]) == 1 for row in rows]


def _first(rows: Sequence[_Row]) -> list[bool]:
    first: dict[tuple[str, ...], int] = {}
    return [first.setdefault(_key(row), n) == n for n, row in enumerate(rows)]


def _left(
    task: Task, rows: Sequence[_Row], keep: Sequence[bool]
) -> tuple[list[_Row], dict[str, int]]:
    """Return the rows that are kept, and how many of each class are not."""
    kept = [row for row, stays in zip(rows, keep, strict=True) if stays]
    return kept, _by_label(task, [row for row, stays in zip(rows, keep, strict=True) if not stays])


def _cut(
    task: Task, rows: Sequence[_Row], most: int | None, seed: int
) -> tuple[list[_Row], dict[str, int]]:
    """Draw at most so many rows of each class, and keep them in their order."""
    keep = [True] * len(rows)
    for number, label in enumerate(task.labels):
        own = [n for n, row in enumerate(rows) if row[1] == number]
        random.Random(derive(seed, f"mine {label}")).shuffle(own)
        for n in own[most:] if most is not None else ():
            keep[n] = False
    return _left(task, rows, keep)


def _by_label(task: Task, rows: Sequence[_Row]) -> dict[str, int]:
    return {
        label: sum(own == number for _, own in rows) for number, label in enumerate(task.labels)
    }
