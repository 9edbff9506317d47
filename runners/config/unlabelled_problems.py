"""What is refused of rows that nobody labelled by hand, where they are asked for."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from methods.method import Method
from runners.config.settings import Settings
from runners.config.unlabelled import Generated, Mine, Pseudo


def unlabelled_problems(settings: Settings, methods: Sequence[Method]) -> list[str]:
    """Return a sentence for each choice that such rows cannot have, or that changes nothing."""
    data, problems = settings.data, list[str]()
    if data.pseudo.teacher is not None:
        problems += _of_any(settings, methods, "data.pseudo", "labels")
        problems += _pseudo_problems(settings)
    elif data.pseudo != Pseudo():
        problems.append("data.pseudo.…= would change nothing without data.pseudo.teacher=stage")
    if data.generated.generator is not None:
        problems += _of_any(settings, methods, "data.generated", "makes")
        problems += _generated_problems(settings)
    elif data.generated != Generated():
        problems.append(
            "data.generated.…= would change nothing without data.generated.generator=FOLDER"
        )
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
    if task.attributes:
        yield (
            f"{key} with task={task.name}, which has attributes ({', '.join(task.attributes)}):"
            " such rows have none; type task.attributes=[] or leave it out"
        )
    for method in methods:
        if "attributes" in method.needs:
            yield f"{key} with method={method.name}: such rows have none; leave one out"
        if method.per_example:
            yield (
                f"{key} with method={method.name}: which rows are added follows from others, which"
                " its bound does not count; leave one of them out"
            )


def _pseudo_problems(settings: Settings) -> Iterator[str]:
    data = settings.data
    if data.train_size is None:
        yield (
            "data.pseudo labels the rows beyond data.train_size, and data.train_size=null trains on"
            " all; give it a number"
        )
    if data.mine.source is not None or data.generated.generator is not None:
        other = "mine.source" if data.mine.source is not None else "generated.generator"
        yield f"data.pseudo and data.{other} are two ways to more rows; leave out one of them"
    yield from _added_problems(settings, "pseudo", data.pseudo.control)


def _generated_problems(settings: Settings) -> Iterator[str]:
    data = settings.data
    if data.mine.source is not None:
        yield "data.generated and data.mine.source are two ways to more rows; leave out one of them"
    if data.generated.teacher is None and data.generated.threshold > 0:
        yield (
            "data.generated.threshold= is the probability that a teacher gives; name it by"
            " data.generated.teacher=stage"
        )
    yield from _added_problems(settings, "generated", data.generated.control)


def _added_problems(settings: Settings, section: str, control: str | None) -> Iterator[str]:
    """Yield what no rows can have that are added to others."""
    budget = settings.budget
    if settings.task.class_weights == "balanced":
        yield (
            f"task.class_weights=balanced with data.{section}: how rare a class is follows from"
            " what is added; give a number for each label"
        )
    if settings.control.equal is not None:
        yield (
            f"control={settings.control.equal} is of stages; with data.{section} the control is"
            f" data.{section}.control=updates"
        )
    if control is not None and budget.steps is not None:
        yield (
            f"data.{section}.control=updates with budget.steps={budget.steps}: as many updates are"
            f" those of the run without data.{section}; do that one"
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
