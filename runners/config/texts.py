"""Looks up the tasks that another names: it reads their text, mixes them, or reports their sets.

Their definitions become part of the configuration: a record says what was read, whatever the files
of that name hold later.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

from pydantic import ValidationError

from results.errors import UserError
from runners.config.problems import sentences
from runners.config.task import READ, Task

Definition = dict[str, Any]
# What of a task is for runs of that task alone. What methods read of it, a mixture keeps too.
_NOT_LENT = ("further", "stages", "test", "mine")


def with_texts(
    composed: dict[str, Any], definition_of: Callable[[str], Definition]
) -> dict[str, Any]:
    """Return a configuration with the definitions of the tasks that its task names.

    `mlm.on` names those whose text it reads, `mix.of` those that it mixes, and `further` those
    whose sets it reports.
    `definition_of` reads a task's file. A task that lends no text is a UserError.
    """
    composed = _with_tasks(composed, definition_of, "mlm", "mlm.on", "on")
    composed = _with_tasks(composed, definition_of, "mixture", "mix.of", "of")
    return _with_sets(composed, definition_of)


def _with_sets(
    composed: dict[str, Any], definition_of: Callable[[str], Definition]
) -> dict[str, Any]:
    task = composed.get("task")
    sets = task.get("further") if isinstance(task, Mapping) else None
    if not isinstance(task, Mapping) or not isinstance(sets, Mapping):
        return composed
    filled = {
        key: {**one, "definition": _checked(one["task"], definition_of, f"task.further.{key}")}
        if isinstance(one, Mapping) and isinstance(one.get("task"), str)
        else one  # the schema refuses it
        for key, one in sets.items()
    }
    return {**composed, "task": {**task, "further": filled}}


def _with_tasks(
    composed: dict[str, Any],
    definition_of: Callable[[str], Definition],
    section: str,
    key: str,
    listed: str,
) -> dict[str, Any]:
    task = composed.get("task")
    part = task.get(section) if isinstance(task, Mapping) else None
    named = part.get(listed) if isinstance(part, Mapping) else None
    if not isinstance(named, list) or not all(isinstance(name, str) for name in named):
        return composed  # the schema refuses what is no list of names
    assert isinstance(task, Mapping)
    assert isinstance(part, Mapping)
    twice = [name for name in dict.fromkeys(named) if named.count(name) > 1]
    if twice:
        raise UserError(f"{key} names {twice[0]} twice; once is enough")
    tasks = {name: _checked(name, definition_of, key) for name in named}
    return {**composed, "task": {**task, section: {**part, "tasks": tasks}}}


def _checked(name: str, definition_of: Callable[[str], Definition], key: str) -> Definition:
    """Return what a task's file says, once it is known to be a task with text."""
    if not re.fullmatch(r"[\w.-]+", name):
        raise UserError(f"{key}: '{name}' is no name of a task, such as rte")
    own = _NOT_LENT if key == "mix.of" else (*_NOT_LENT, *READ)
    definition = {k: v for k, v in definition_of(name).items() if k not in own}
    try:
        task = Task.model_validate(definition)
    except ValidationError as error:
        raise UserError("; ".join(sentences(error, f"{key}={name}: ", definition, Task))) from None
    if task.facts.head != "texts":
        raise UserError(
            f"{key}: task={name} has no text of its own to train on; name tasks with labels"
            + (", or a file by data.text=FILE" if key == "mlm.on" else "")
        )
    return definition
