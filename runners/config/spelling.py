"""Spells out what stands for several keys on a command line, before Hydra reads it."""

from __future__ import annotations

import re
from collections.abc import Sequence

from runners.config.recipes import with_recipe
from runners.config.stages import with_stages_own


def spelled_out(arguments: Sequence[str]) -> list[str]:
    """Return what was typed with its recipe, and settings of single stages, as Hydra's keys.

    Runs of `submission=` that commas separate are one list, for which Hydra wants brackets.
    """
    whole = with_stages_own(with_recipe([_listed(argument) for argument in arguments]))
    return [_added(argument) for argument in whole]


def _listed(argument: str) -> str:
    key, _, value = argument.partition("=")
    if key != "submission" or "," not in value or value.startswith("["):
        return argument
    quoted = re.fullmatch(r"(['\"])([^'\"]*)\1", value)
    return f"{key}=[{quoted[2] if quoted else value}]"


# What files of configs/ may leave out; Hydra is to add it there, as `++` tells it.
LEFT_OUT = (
    *("task.class_weights", "task.local.split", "budget.patience", "task.attributes"),
    "task.separator",
)
# Options of a tuner of peft, of which a method's file holds some.
_TUNERS = re.compile(r"method\.\w+\.options(?:\.\w+)*")


def _added(argument: str) -> str:
    return f"++{argument}" if _is_left_out(argument.partition("=")[0]) else argument


def _is_left_out(key: str) -> bool:
    return key in LEFT_OUT or _TUNERS.fullmatch(key) is not None


def without_marks(argument: str) -> str:
    """Return an argument as it may be typed, without what was added for Hydra."""
    bare = argument.removeprefix("++")
    return bare if _is_left_out(bare.partition("=")[0]) else argument
