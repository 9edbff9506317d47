"""What a run cannot have of rows, tokens, updates and evaluations."""

from __future__ import annotations

from collections.abc import Sequence

from methods.method import Method
from runners.config.settings import Settings


def budget_problems(settings: Settings, methods: Sequence[Method]) -> list[str]:
    """Return a sentence for each amount that the task, the methods or the protocol rule out."""
    return [
        *_cut_problems(settings, methods),
        *_weight_problems(settings),
        *_shots_problems(settings),
        *_untrained_problems(settings, methods),
        *_patience_problems(settings),
    ]


def _cut_problems(settings: Settings, methods: Sequence[Method]) -> list[str]:
    """Say where another part of long texts is to stay than can be chosen."""
    task, truncate = settings.task, settings.budget.truncate
    mixed = () if task.mixture is None else task.mixture.tasks.values()
    written = [
        f"budget.truncate=tail cuts off what method={m.name} writes in front of a text: use head or"
        " head_tail"
        for m in methods
        if m.writes_text and truncate == "tail"
    ]
    several = [t for t in (task, *mixed) if len(t.text) > 1 or t.options or t.facts.vectors]
    return written + [
        f"budget.truncate={truncate} is for tasks of one text; of the texts of task={one.name} the"
        " longer is cut at its end first: leave it out"
        for one in several
        if truncate != "head"
    ]


def _weight_problems(settings: Settings) -> list[str]:
    """Say where weights of classes would change nothing."""
    if settings.task.class_weights is None or settings.budget.batch_size > 1:
        return []
    return [
        "task.class_weights with budget.batch_size=1: the loss is a weighted mean over a batch, and"
        " one row's is its own; use larger batches"
    ]


def _shots_problems(settings: Settings) -> list[str]:
    """Say where rows of each class cannot be counted off."""
    if (shots := settings.data.shots) is None:
        return []
    key, task = f"data.shots={shots}", settings.task
    if task.facts.answer not in ("class", "score") or task.facts.vectors:
        return [
            f"{key} is for tasks with classes or scores; task={task.name} is of kind {task.kind}:"
            " leave it out, of one stage by stages.0.data.shots=null"
        ]
    if task.facts.answer == "score" and task.range is None:
        return [f"{key}: task={task.name} has no range, whose halves would be its classes"]
    if settings.protocol.rows is not None:
        return [f"{key} selects by as many rows of each class; leave protocol.rows out"]
    if (seed := settings.data.train_seed(settings.seed)) >= 2**32:
        return [f"{key} draws by a seed below 2**32, and data.seed={seed} is none: take a smaller"]
    if settings.control.equal == "data":
        return [f"{key} and control=data both say which rows are trained on; leave one out"]
    return []


def _untrained_problems(settings: Settings, methods: Sequence[Method]) -> list[str]:
    """Say where a run that trains nothing would be called after what changes training."""
    if settings.budget.trains:
        return []
    problems = [
        f"budget.epochs=0 trains nothing, and method={m.name} only changes what is trained, or how:"
        f" leave it out"
        for m in methods
        if (not m.changes_start and "training" not in m.owns and m.name != "full") or m.of_classes
    ]
    if settings.protocol.name == "select":
        problems.append("budget.epochs=0 has no weights to select among: use protocol=final")
    if settings.control.equal is not None:
        problems.append("budget.epochs=0 has no updates: leave control= out")
    if (adds := settings.data.adds) is not None:
        problems.append(f"budget.epochs=0 trains on no rows that data.{adds} adds: leave that out")
    return problems


def _patience_problems(settings: Settings) -> list[str]:
    """Say where a run cannot end early, or must not."""
    if (patience := settings.budget.patience) is None:
        return []
    key, problems = f"budget.patience={patience}", []
    if settings.protocol.name != "select":
        problems.append(
            f"{key} waits for a better score of selection, which protocol={settings.protocol.name}"
            " has not; use protocol=select"
        )
    if settings.budget.evaluate == "end":
        problems.append(
            f"{key} counts evaluations, and budget.evaluate=end has one; use budget.evaluate=epoch,"
            " or a number of steps"
        )
    if settings.control.equal is not None:
        problems.append(
            f"{key} lets a run end early, and control={settings.control.equal} is of equal amounts;"
            " leave one of them out"
        )
    return problems
