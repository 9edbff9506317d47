"""Reads the tasks of a mixture, each as a run of its own would."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from results.errors import UserError
from runners.config.settings import Data, Protocol
from runners.config.task import Task
from runners.data.split import Split, TaskData, count_overlap

Load = Callable[[Task, Data, Protocol], TaskData]


def load_mixture(task: Task, data: Data, protocol: Protocol, load: Load) -> TaskData:
    """Return all tasks' training rows as one split, whose subsets name the tasks.

    A report split is TASK/SPLIT. Tasks that do not all come from one source are a UserError.
    """
    assert task.mixture is not None
    each = {name: load(one, data, protocol) for name, one in task.mixture.tasks.items()}
    sources = {name: one.source for name, one in each.items()}
    if len(set(sources.values())) > 1:
        places = ", ".join(f"{name} {source}" for name, source in sources.items())
        raise UserError(
            f"task={task.name}: its tasks come from unlike sources ({places}); choose one by data="
        )
    train = Split(
        "train",
        tuple(texts for one in each.values() for texts in one.train.texts),
        tuple(label for one in each.values() for label in one.train.labels or ()),
        sum(one.train.skipped_rows for one in each.values()),
        tuple(name for name, one in each.items() for _ in one.train.texts),
    )
    report = {
        f"{name}/{split}": count_overlap(replace(rows, name=f"{name}/{split}"), [train])
        for name, one in each.items()
        for split, rows in one.report.items()
    }
    complete = {
        f"{name}/{split}": whole
        for name, one in each.items()
        for split, whole in (one.complete or {}).items()
        if split != "train"
    }
    complete["train"] = all((one.complete or {}).get("train", True) for one in each.values())
    first = next(iter(each.values()))
    commits = [f"{name} {one.revision}" for name, one in each.items() if one.revision]
    return TaskData(
        first.source, first.reason, ", ".join(commits) or None, train, report, None, complete,
        parts={name: (one.train, (one.complete or {}).get("train")) for name, one in each.items()},
        drawn_from=" ".join(one.drawn_from for one in each.values() if one.drawn_from) or None,
        whole_labels={
            f"{name}/{split}": labels
            for name, one in each.items()
            for split, labels in one.whole_labels.items()
        },
    )  # fmt: skip
