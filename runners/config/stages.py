"""Chains of runs as they are typed: `'stages=[mnli,rte]' stages.0.budget.epochs=1`.

What belongs to one stage becomes part of the list, so that Hydra reads one value of one key.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, Literal, get_args

from hydra.core.override_parser.overrides_parser import OverridesParser
from pydantic import Field, TypeAdapter, ValidationError, field_validator, model_validator

from results.errors import UserError
from runners.config.acts import NOT_THE_RUNS
from runners.config.problems import sentences
from runners.config.section import Section
from runners.config.typed import is_typed, key_of

Control = Literal["updates", "data", "reversed"]

# What says how a whole command is done: in a stage it would be read by nothing.
OF_THE_COMMAND = frozenset({*NOT_THE_RUNS, "push"}) - {"method"}

_OF_ONE = re.compile(r"stages\.([^.=]+)\.([^=]+=.*)", flags=re.DOTALL)


class Stage(Section):
    """One run of a chain: its task, and settings of its own; a name alone is that of its task."""

    task: str
    set: list[str] = Field(default_factory=list)

    @property
    def saved(self) -> str | None:
        """Its own setting of what it saves, if it has one."""
        return next((setting for setting in self.set if key_of(setting) == "save"), None)

    @model_validator(mode="before")
    @classmethod
    def _of_a_name(cls, given: Any) -> Any:
        return {"task": given} if isinstance(given, str) else given

    @field_validator("set")
    @classmethod
    def _of_a_stage(cls, given: list[str]) -> list[str]:
        for setting in given:
            key = key_of(setting).partition(".")[0]
            if key in OF_THE_COMMAND:
                raise ValueError(f"{setting}: {key}= is of the whole command, not of one stage")
        return given


def with_stages_own(arguments: Sequence[str]) -> list[str]:
    """Return what was typed with each stage's own settings inside `stages=`, and short keys whole.

    `start=` is short for `start.run=`, `control=` for `control.equal=`, `mlm.` for `task.mlm.`, and
    `mix=` for `task=mix task.mixture.of=`.
    A stage that is not there, or a task beside `stages=`, is a UserError.
    """
    rest, masked, of_stages, listed = [], [], [], None
    for argument in arguments:
        own = _OF_ONE.fullmatch(argument)
        if own:
            of_stages.append((own[1], own[2]))
        elif argument.startswith("stages=") and argument != "stages=null":
            listed = argument
            rest.append(argument)
        elif argument.startswith("start="):
            rest.append(argument.replace("start=", "start.run=", 1))
        elif argument.startswith("mlm."):
            masked.append(argument)
            rest.append(f"task.{argument}")
        elif argument.startswith("mix."):
            masked.append(argument)
            rest.append(f"task.mixture.{argument.removeprefix('mix.')}")
        elif argument.startswith("mix="):
            masked.append(argument)
            rest += ["task=mix", f"task.mixture.of={argument.removeprefix('mix=')}"]
        elif argument.startswith("control="):
            rest.append(f"control.equal={_control(argument.partition('=')[2])}")
        else:
            rest.append(argument)
    if any(argument.startswith("mix=") for argument in masked) and is_typed(arguments, "task"):
        raise UserError("task= and mix= name two tasks: a mixture's are all in mix=[A,B]")
    if listed is None:
        if of_stages:
            number, setting = of_stages[0]
            raise UserError(f"stages.{number}.{setting} is of no stage: name them by stages=[A,B]")
        return rest
    if masked:
        key = masked[0].replace("mix=", "mix.of=")
        raise UserError(f"{masked[0]} is of one stage: type stages.0.{key}, by its number")
    if is_typed(rest, "task"):
        raise UserError("task= and stages= name two targets: the last stage is the run's task")
    if is_typed(rest, "start"):
        raise UserError("start= and stages= name two starts: put that run's task into stages= too")
    if not of_stages:
        return rest
    stages = checked(_value(listed))
    for number, setting in of_stages:
        if not number.isdecimal() or int(number) >= len(stages):
            raise UserError(
                f"stages.{number}.{setting}: stages count from 0 to {len(stages) - 1} in {listed}"
            )
        stages[int(number)].set.append(setting)
    stages = checked([stage.model_dump() for stage in stages])
    return [f"stages={written(stages)}" if argument is listed else argument for argument in rest]


def _control(value: str) -> str:
    known = ("null", *get_args(Control))
    if value not in known:
        raise UserError(f"control={value} is no control (known: {', '.join(known[1:])})")
    return value


def checked(value: Any) -> list[Stage]:
    """Return the stages that a value lists; anything else is a UserError."""
    given = value if isinstance(value, list) else [value]
    try:
        stages = TypeAdapter(list[Stage]).validate_python(given)
    except ValidationError as error:
        raise UserError("; ".join(sentences(error, "stages.", given))) from None
    if len(stages) < 2:
        raise UserError("stages= lists two tasks or more, the target last; for one type task=NAME")
    for number, stage in enumerate(stages[:-1]):
        if saved := stage.saved:
            raise UserError(
                f"stages.{number}.{saved}: what a stage leaves is its weights, for the next one;"
                " keep=true keeps them, and save= is of the target"
            )
    return stages


def _value(argument: str) -> Any:
    override = OverridesParser.create().parse_override(argument)
    if override.is_sweep_override():
        raise UserError(f"{argument}: settings of one stage go with one list of stages")
    return override.value()


def written(stages: Sequence[Stage]) -> str:
    """Return stages in Hydra's own notation."""
    parts = []
    for stage in stages:
        settings = ",".join(quoted(setting) for setting in stage.set)
        parts.append(f"{{task:{stage.task},set:[{settings}]}}")
    return f"[{','.join(parts)}]"


def quoted(text: str) -> str:
    """Return text as a quoted string of Hydra's: quotes, and the backslashes before, escaped."""
    escaped = re.sub(r'(\\*)(?="|$)', lambda m: m[1] * 2, text).replace('"', '\\"')
    return f'"{escaped}"'
