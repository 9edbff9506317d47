"""Spells out what stands for several keys on a command line, before Hydra reads it."""

from __future__ import annotations

from collections.abc import Sequence

from runners.config.recipes import with_recipe
from runners.config.stages import with_stages_own


def spelled_out(arguments: Sequence[str]) -> list[str]:
    """Return what was typed with its recipe, and settings of single stages, as Hydra's keys."""
    return [_added(argument) for argument in with_stages_own(with_recipe(arguments))]


# What files of configs/ may leave out; Hydra is to add it there, as `++` tells it.
LEFT_OUT = ("task.class_weights", "task.local.split", "budget.patience")


def _added(argument: str) -> str:
    return f"++{argument}" if argument.partition("=")[0] in LEFT_OUT else argument


def without_marks(argument: str) -> str:
    """Return an argument as it may be typed, without what was added for Hydra."""
    bare = argument.removeprefix("++")
    return bare if bare.partition("=")[0] in LEFT_OUT else argument
