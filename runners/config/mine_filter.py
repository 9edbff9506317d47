"""The method by which a run's own model says, before it is trained, which mined rows stay."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

from methods.method import Method
from methods.registry import method_class
from runners.config.settings import Settings


def filter_of(settings: Settings, methods: Sequence[Method]) -> Method | None:
    """Return a method of data.mine.filter's name; None where rows are not mined, or all stay.

    It has the options of the run's own method of that name, where there is one. Else it has its
    defaults, and pools as the encoder does.
    """
    mine = settings.data.mine
    if mine.source is None or mine.filter is None:
        return None
    own = next((method for method in methods if method.name == mine.filter), None)
    if own is not None:
        return dataclasses.replace(own, lr=None)
    cls = method_class(mine.filter)
    options: dict[str, Any] = {"pooling": settings.model.pooling}
    known = {field.name for field in dataclasses.fields(cls)}
    return cls(**{name: value for name, value in options.items() if name in known})


def filter_problems(settings: Settings, answers: Method, known: Sequence[str]) -> list[str]:
    """Return a sentence for what a filter lacks; `known` is what its method says of the task."""
    task, key = settings.task, f"data.mine.filter={answers.name}"
    if task.facts.answer != "class" or task.mine is None:
        return []  # no row of it is mined
    problems = [f"{key}: {problem}" for problem in known]
    for section in sorted(answers.reads) if known else ():
        if not getattr(task, section):
            problems = [
                f"{key} reads a section {section} of a task's file, and task={task.name} has none;"
                " write one, as configs/task/sst2.yaml has"
            ]
    if getattr(answers, "pooling", "mean") not in ("cls", "mean"):
        problems.append(f"{key} pools by cls or mean; type one of them as model.pooling=")
    if settings.task.class_weights == "balanced":
        problems.append(
            f"task.class_weights=balanced with {key}: how rare a class is follows from what stays;"
            " give a number for each label"
        )
    if not settings.budget.trains:
        problems.append(f"budget.epochs=0 trains on no row that {key} keeps: leave that out")
    return problems


def untrained(settings: Settings) -> Settings:
    """Return the settings of a run that begins with the same model and trains nothing of it."""
    return settings.model_copy(
        update={
            "budget": settings.budget.model_copy(update={"epochs": 0, "steps": None}),
            "start": settings.start.model_copy(update={"head": "drawn", "freeze": False}),
        }
    )
