"""What a run that bounds each example's influence must not do besides."""

from __future__ import annotations

from collections.abc import Sequence

from methods.method import Method
from runners.config.settings import Settings


def privacy_problems(settings: Settings, methods: Sequence[Method]) -> list[str]:
    """Return a sentence for each choice that rows would decide beyond their clipped gradients."""
    private = [m.name for m in methods if m.per_example]
    return [f"method={name} {what}" for name in private for what in _problems(settings)]


def _problems(settings: Settings) -> list[str]:
    task, problems = settings.task, []
    if task.mixture is not None:
        problems.append(
            f"draws each row of a batch by itself, and task={task.name} has batches of one task"
            " each; train on one of its tasks"
        )
    elif task.facts.vectors:
        problems.append(
            f"needs a loss of each example alone, and task={task.name} compares the vectors of a"
            " batch; use a task with labels"
        )
    if task.class_weights is not None:
        problems.append(
            "needs a loss of each example alone, and task.class_weights follow from all; leave them"
            " out"
        )
    if task.attributes:
        problems.append(
            "does not account for which values of attributes train holds, and what a run of task="
            f"{task.name} keeps would tell: take task.attributes out"
        )
    if settings.protocol.name == "select":
        problems.append("does not account for a step that training rows select; use protocol=final")
    if settings.speed.gradient_checkpointing:
        problems.append(
            "listens to each layer once on the way back, and speed.gradient_checkpointing computes"
            " layers again there; leave it out: method.dp.part bounds the memory"
        )
    return problems
