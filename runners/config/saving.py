"""What may be saved as a model that needs nothing of this project, and where it may be sent."""

from __future__ import annotations

import re
from collections.abc import Sequence

from methods.method import Method
from runners.config.settings import Settings

# A repository of the hub: its owner, where one is named, and its own name.
_REPOSITORY = re.compile(r"(?:[A-Za-z0-9][\w-]*(?:\.[\w-]+)*/)?[A-Za-z0-9][\w-]*(?:\.[\w-]+)*")
_LONGEST = 96


def save_problems(settings: Settings, methods: Sequence[Method]) -> list[str]:
    """Return a sentence for each reason why save=model or push= cannot be as they are typed."""
    saved = settings.save == "model"
    problems = model_problems("save=model", settings, methods) if saved else []
    return problems + ([] if settings.push is None else _push_problems(settings.push))


def _push_problems(repository: str) -> list[str]:
    """Say where a repository's name is none of the hub's."""
    named = _REPOSITORY.fullmatch(repository) and len(repository) <= _LONGEST
    if named and "--" not in repository and not repository.endswith(".git"):
        return []
    return [f"push={repository}: no repository of the hub has such a name; give OWNER/NAME"]


def model_problems(key: str, settings: Settings, methods: Sequence[Method]) -> list[str]:
    """Say which parts of a run no model of transformers' own classes can hold.

    `key` is what asks for such a model.
    """
    task = settings.task
    if task.facts.vectors:
        named = ",".join(method.name for method in methods)
        return [
            f"{key}: method={named} makes vectors of sentences for task={task.name}, and a model"
            " with a head is written; use save=sentence-transformers or save=delta"
        ]
    if task.mixture is not None:
        return [
            f"{key}: task={task.name} has the outputs of {len(task.mixture.of)} tasks in one head,"
            " of which a reader would not know whose they are; use save=delta"
        ]
    problems = [
        f"{key}: method={method.name} {method.leaves}, for which transformers' own classes have no"
        " place; use save=delta"
        for method in methods
        if method.leaves
    ]
    if settings.budget.truncate == "head_tail":
        problems.append(
            f"{key}: budget.truncate=head_tail keeps both ends of a long text, and a saved"
            " tokenizer keeps one; use save=delta"
        )
    return problems
