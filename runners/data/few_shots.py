"""The few-shot splits of LM-BFF: so many rows of each class, and as many again to select by.

Gao, Fisch and Chen 2021 (arXiv 2012.15723), by their tools/generate_k_shot_data.py: the rows of the
published training set are shuffled by numpy's legacy generator, seeded anew for each task; the
first K of each class are trained on, the next K are dev, and the published dev set is reported.
Their seeds are 13, 21, 42, 87 and 100. Scores are of two classes, below the middle of the range and
the rest. From files with the published rows in their order these are their rows, with one
exception: of CoLA their script shuffles what the seed before has left, in the order 100, 13, 21,
42, 87, so that there only seed 100 is theirs.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import replace

from results.errors import UserError
from runners.config.task import Task
from runners.data.split import Label, Split


def few_shots(
    train: Split, shots: int, seed: int, task: Task, selects: bool
) -> tuple[Split, Split | None]:
    """Return so many rows of each class, and as many others where a run `selects`; in their order.

    A class with fewer is a UserError that counts them.
    """
    import numpy as np

    order = list(range(len(train)))
    np.random.RandomState(seed).shuffle(order)
    by_class: dict[Label, list[int]] = defaultdict(list)
    for i in order:
        by_class[_class_of(train, i, task)].append(i)
    needed = 2 * shots if selects else shots
    names = task.labels if task.facts.answer == "class" else ["the lower half", "the upper half"]
    short = [
        f"{name} {len(by_class[label])}"
        for label, name in enumerate(names)
        if len(by_class[label]) < needed
    ]
    if short:
        again = ", and as many again to select by" if selects else ""
        most = min(len(by_class[label]) for label in range(len(names))) // (2 if selects else 1)
        raise UserError(
            f"data.shots={shots} takes {shots} rows of each class{again}; of {task.name}'s"
            f" {len(train):,} training rows there are {', '.join(short)}: ask for {most} or fewer"
        )
    taken = {name: [i for rows in by_class.values() for i in rows[first : first + shots]]
             for name, first in (("train", 0), ("selection", shots))}  # fmt: skip
    part = replace(train.take(sorted(taken["selection"])), name="selection", skipped_rows=0)
    return train.take(sorted(taken["train"])), part if selects else None


def _class_of(train: Split, row: int, task: Task) -> Label:
    assert train.labels is not None
    label = train.labels[row]
    if task.facts.answer == "class":
        return label
    assert task.range is not None
    return int(label >= sum(task.range) / 2)
