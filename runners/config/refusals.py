"""What is refused where it is typed, though a stored configuration may say it.

Old records verify, score and embed as before, so none of this is in the schema.
"""

from __future__ import annotations

from collections.abc import Iterable

from runners.config.task import Task

RESERVED = ("train", "selection")  # what a run itself calls splits


def task_problems(task: Task) -> list[str]:
    """Return a sentence for each part of a task that would mislead."""
    return _split_problems(task)


def _split_problems(task: Task) -> list[str]:
    """Say where two splits would have one name: the later one would be taken for both."""
    named: dict[str, Iterable[str]] = {"pairs": task.pairs, "diagnostics": task.diagnostics}
    problems = []
    for source, files in (("local", task.local), ("hub", task.hub)):
        if files is None:
            continue
        named |= {f"{source}.report": files.report, f"{source}.where_present": files.where_present}
        problems += [
            f"task.{source}.where_present.{name}: task.{source}.report has a split of that name;"
            " name each split once"
            for name in files.where_present
            if name in files.report
        ]
    return [
        f"task.{key}.{name}: a run calls a split of its own {name}; choose another name, such as"
        " validation"
        for key, names in named.items()
        for name in names
        if name in RESERVED
    ] + problems
