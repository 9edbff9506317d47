"""What is refused of rows that nobody labelled by hand, where they are asked for."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from methods.method import Method
from runners.config.settings import Settings
from runners.config.unlabelled import Mine, Pseudo


def unlabelled_problems(settings: Settings, methods: Sequence[Method]) -> list[str]:
    """Return a sentence for each choice that such rows cannot have, or that changes nothing."""
    data, problems = settings.data, list[str]()
    if data.pseudo.teacher is not None:
        problems += _of_any(settings, methods, "data.pseudo", "labels")
        problems += _pseudo_problems(settings)
    elif data.pseudo != Pseudo():
        problems.append("data.pseudo.…= would change nothing without data.pseudo.teacher=stage")
    if data.mine.source is not None:
        problems += _of_any(settings, methods, "data.mine", "mines")
        problems += _mine_problems(settings)
    elif data.mine != Mine():
        problems.append("data.mine.…= would change nothing without data.mine.source=text or train")
    return problems


def _of_any(settings: Settings, methods: Sequence[Method], key: str, does: str) -> Iterator[str]:
    task = settings.task
    if task.facts.answer != "class":
        yield (
            f"{key} {does} rows of tasks with classes, and task={task.name} is of kind={task.kind};"
            " leave it out"
        )
    for method in methods:
        if method.per_example:
            yield (
                f"{key} with method={method.name}: which rows are added follows from others, which"
                " its bound does not count; leave one of them out"
            )


def _pseudo_problems(settings: Settings) -> Iterator[str]:
    data, budget = settings.data, settings.budget
    if data.train_size is None:
        yield (
            "data.pseudo labels the rows beyond data.train_size, and data.train_size=null trains on"
            " all; give it a number"
        )
    if data.mine.source is not None:
        yield "data.pseudo and data.mine.source are two ways to more rows; leave out one of them"
    if settings.task.class_weights == "balanced":
        yield (
            "task.class_weights=balanced with data.pseudo: how rare a class is follows from what is"
            " labelled; give a number for each label"
        )
    if settings.control.equal is not None:
        yield (
            f"control={settings.control.equal} is of stages; with data.pseudo the control is"
            " data.pseudo.control=updates"
        )
    if data.pseudo.control is not None and budget.steps is not None:
        yield (
            f"data.pseudo.control=updates with budget.steps={budget.steps}: as many updates are"
            " those of the run without data.pseudo; do that one"
        )


def _mine_problems(settings: Settings) -> Iterator[str]:
    data, task = settings.data, settings.task
    if task.mine is None and task.facts.answer == "class":
        yield (
            f"data.mine.source={data.mine.source}: task={task.name} says nowhere how its rows are"
            " mined; give its file mine.patterns and mine.verbalizers"
        )
    if data.mine.source == "text" and not data.text:
        yield "data.mine.source=text reads lines of a file: name it by data.text=FILE"
    if data.mine.source == "train" and data.text:
        yield "data.mine.source=train and data.text= name two texts; give it one of them"
