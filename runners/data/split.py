"""A split of a task: texts and labels, its content hash, and seeded subsets of it."""

from __future__ import annotations

import hashlib
import json
import random
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

from results.errors import UserError
from runners.config.task import CUT, Task
from runners.data.evaluated import Evaluated

Label = int | float
Values = tuple[tuple[str, ...], ...]  # of an example: those of each attribute


@dataclass(frozen=True)
class Split:
    """Examples in their order: a tuple of texts each, and a label each or none at all.

    A label is the index of its name in task.labels, or a score. `skipped_rows` counts malformed
    rows that were left out on request. `subsets` names the part of the set that each example is of.
    `also_in_train` counts examples whose texts the run also trains on, with the same `attributes`
    where the task has some.
    """

    name: str
    texts: tuple[tuple[str, ...], ...]
    labels: tuple[Label, ...] | None
    skipped_rows: int = 0
    subsets: tuple[str, ...] | None = None
    also_in_train: int = 0
    attributes: tuple[Values, ...] | None = None

    def __len__(self) -> int:
        return len(self.texts)

    @cached_property
    def sha256(self) -> str:
        """The hash of texts and labels, in order, and of attributes where the task has some."""
        digest = hashlib.sha256()
        for i, texts in enumerate(self.texts):
            row: list[Any] = [list(texts), None if self.labels is None else self.labels[i]]
            if self.subsets is not None:
                row.append(self.subsets[i])
            if self.attributes is not None:
                row.append({"attributes": self.attributes[i]})
            digest.update(json.dumps(row, ensure_ascii=False).encode())
            digest.update(b"\n")
        return digest.hexdigest()

    def take(self, indices: Sequence[int]) -> Split:
        """Return the examples at these indices, in this order."""
        labels = None if self.labels is None else tuple(self.labels[i] for i in indices)
        subsets = None if self.subsets is None else tuple(self.subsets[i] for i in indices)
        texts = tuple(self.texts[i] for i in indices)
        values = None if self.attributes is None else tuple(self.attributes[i] for i in indices)
        return replace(self, texts=texts, labels=labels, subsets=subsets, attributes=values)

    @property
    def read(self) -> Iterator[tuple[Any, ...]]:
        """What a model may read of each example, with runs of white space made single blanks."""
        for i, texts in enumerate(self.texts):
            words = tuple(" ".join(str(text).split()) for text in texts)
            yield words if self.attributes is None else (words, self.attributes[i])


@dataclass(frozen=True)
class Offered:
    """Rows beyond those that a run trains on, and how many more were left out as they are scored.

    Their labels are hidden: who labels the rows is given `texts_alone`.
    """

    rows: Split
    left_out: int

    @property
    def texts_alone(self) -> Split:
        """The rows without their labels."""
        return Split(self.rows.name, self.rows.texts, None)


@dataclass(frozen=True)
class TaskData:
    """All splits of one run; `reason` says why this source, `revision` is the hub's commit.

    `complete` tells for each split whether it has the rows of the published one; where none is
    published, whether all rows there are were taken. `text` says what a task that has no training
    set of its own trains on; its `train` is empty where nothing is trained. `parts` are the
    training sets of a mixture's tasks, and whether each is the published one. `drawn_from` is the
    hash of the rows that each seed draws its own training set from, where it does. `whole_labels`
    are, for each split of which a part was drawn, the labels of all rows that it was drawn from; a
    mixture's are named TASK/SPLIT. `offered` are the rows that another run is to label. `mined`
    says what a record keeps of mined ones, and `all_mined` are those before a filter and draws.
    Rows that are yet to be made have no text of `evaluated`.
    """

    source: str
    reason: str
    revision: str | None
    train: Split
    report: dict[str, Split]
    selection: Split | None = None
    complete: dict[str, bool] | None = None
    text: dict[str, Any] | None = None
    parts: dict[str, tuple[Split, bool | None]] | None = None
    drawn_from: str | None = None
    whole_labels: dict[str, tuple[Label, ...]] = field(default_factory=dict)
    offered: Offered | None = None
    evaluated: Evaluated | None = None
    mined: dict[str, Any] | None = None
    all_mined: Split | None = None

    def splits(self) -> dict[str, Split]:
        """Return every split by name: train, selection where cut, and the report splits."""
        cut = {} if self.selection is None else {"selection": self.selection}
        train = {"train": self.train} if len(self.train) else {}
        return {**train, **cut, **self.report}


def draw(split: Split, size: int, seed: int, task: Task, key: str, balanced: bool = True) -> Split:
    """Draw `size` examples, classes balanced or by chance alone, in the split's own order.

    A class with too few examples gives all it has and the others fill the place. A larger split
    drawn with the same seed holds the smaller one's examples. Raises UserError when `size` is too
    large.
    """
    if size > len(split):
        raise UserError(
            f"{key}={size}: {task.name}'s {split.name} has {len(split)} examples; ask for fewer"
        )
    rng = random.Random(f"{seed}:{split.name}")
    return split.take(sorted(shuffled(split, rng, task, balanced)[:size]))


def further_rows(
    split: Split, size: int, seed: int, task: Task, balanced: bool, rows: int
) -> Split:
    """Draw rows to select weights by from those that `draw` of that size leaves, by chance."""
    left = _left_of(split, size, seed, task, balanced)
    if rows > len(left):
        raise UserError(
            f"protocol.rows={rows}: of {task.name}'s {len(split)} training examples {size} are"
            f" trained on and {len(left)} are left; ask for fewer, or for a smaller data.train_size"
        )
    order = _order(left, seed)
    return replace(split.take(sorted(order[:rows])), name="selection", skipped_rows=0)


def rows_beyond(
    split: Split, size: int, seed: int, task: Task, balanced: bool, selected: int
) -> Split:
    """Return the rows that `draw` of that size leaves, but those that `further_rows` takes."""
    order = _order(_left_of(split, size, seed, task, balanced), seed)
    return replace(split.take(sorted(order[selected:])), name="offered", skipped_rows=0)


def _left_of(split: Split, size: int, seed: int, task: Task, balanced: bool) -> list[int]:
    rng = random.Random(f"{seed}:{split.name}")
    return sorted(shuffled(split, rng, task, balanced)[size:])


def _order(left: list[int], seed: int) -> list[int]:
    order = list(left)
    random.Random(f"{seed}:selection").shuffle(order)
    return order


def shuffled(split: Split, rng: random.Random, task: Task, balanced: bool) -> list[int]:
    """Return all indices, shuffled; with `balanced`, each class in turn while it lasts."""
    indices = list(range(len(split)))
    rng.shuffle(indices)
    if not balanced or split.labels is None or task.facts.answer != "class":
        return indices
    by_class: dict[Label, list[int]] = defaultdict(list)
    for i in indices:
        by_class[split.labels[i]].append(i)
    rank = {i: r for members in by_class.values() for r, i in enumerate(members)}
    return sorted(indices, key=lambda i: rank[i])  # stable: within a round the shuffle decides


def cut_selection(train: Split, fraction: float, seed: int, task: Task) -> tuple[Split, Split]:
    """Cut a seeded part of train, each class by its share; return the rest and the part."""
    groups = _by_class(train, task)
    part = _part_of(groups, fraction, f"{seed}:selection")
    lost = [label for label, members in groups.items() if part.issuperset(members)]
    if lost:
        rarest = min(lost, key=lambda label: len(groups[label]))
        few, is_class = len(groups[rarest]), task.facts.answer == "class"
        rare = f" ({few} of {task.labels[int(rarest)]})" if is_class else ""
        instead = "a smaller fraction" if few > 1 else "more rows"
        raise UserError(
            f"protocol.fraction={fraction} leaves too little of {task.name}'s {len(train)} training"
            f" examples{rare}; use {instead} or protocol=final"
        )
    return _apart(train, part, "selection")


def cut_report(train: Split, fraction: float, seed: int, task: Task) -> tuple[Split, Split]:
    """Cut a seeded part of a file's rows to report on, each class by its share, at least a row.

    Return the rest, to train on, and the part. Too few rows of a class, or in all, are a UserError.
    """
    where = f"task.local.split={fraction}: of {task.name}'s {len(train):,} rows"
    groups = _by_class(train, task)
    part = _part_of(groups, fraction, f"{seed}:report")
    lost = {label: len(rows) for label, rows in groups.items() if part.issuperset(rows)}
    if lost and task.facts.answer == "class":
        listed = ", ".join(f"{rows} {task.labels[int(label)]}" for label, rows in lost.items())
        raise UserError(
            f"{where} only {listed}: each class needs a row to train on and one to report on; add"
            " rows, or use a smaller share"
        )
    if min(len(part), len(train) - len(part)) < 2:
        raise UserError(
            f"{where} {len(part)} would be reported on and {len(train) - len(part)} trained on;"
            " each needs two or more: add rows, or use another share"
        )
    return _apart(train, part, CUT)


def _by_class(split: Split, task: Task) -> dict[Label, list[int]]:
    """Return the rows of each class, all together where answers are no classes."""
    classes = split.labels if task.facts.answer == "class" else None
    groups: dict[Label, list[int]] = defaultdict(list)
    for i in range(len(split)):
        groups[0 if classes is None else classes[i]].append(i)
    return groups


def _part_of(groups: dict[Label, list[int]], fraction: float, stream: str) -> set[int]:
    """Draw a share of each group's rows, at least one."""
    rng, part = random.Random(stream), set[int]()
    for label in sorted(groups):
        members = groups[label]
        part.update(rng.sample(members, max(1, round(fraction * len(members)))))
    return part


def _apart(split: Split, part: set[int], name: str) -> tuple[Split, Split]:
    """Return a split without a part of its rows, and the part, which bears a name."""
    rest = [i for i in range(len(split)) if i not in part]
    return split.take(rest), replace(split.take(sorted(part)), name=name, skipped_rows=0)


def count_overlap(split: Split, learned: Sequence[Split]) -> Split:
    """Return a split with the number of its examples that the `learned` ones hold too.

    Texts are equal where they are so after runs of white space are made single blanks; an example
    with attributes is another where these are others. Attributes of another task's set that those
    trained on lack are nothing to the run.
    """
    seen = {example for part in learned for example in part.read}
    plain = any(part.attributes is None for part in learned)
    own = replace(split, attributes=None) if plain else split
    return replace(split, also_in_train=sum(example in seen for example in own.read))


def count_copies(split: Split) -> int:
    """Return how many examples equal one before them, as `count_overlap` compares."""
    return len(split) - len({*split.read})


def check_split(split: Split, task: Task, origin: str) -> None:
    """Refuse an empty split, and a train split that lacks a class."""
    if not len(split):
        raise UserError(f"task={task.name}: {origin} has no examples")
    if split.name != "train" or split.labels is None:
        return
    if task.facts.answer == "class":
        present = set(split.labels)
        absent = [name for i, name in enumerate(task.labels) if i not in present]
        if absent:
            raise UserError(
                f"task={task.name}: {origin} has no example labelled {', '.join(absent)};"
                " every class in task.labels must occur in train"
            )
