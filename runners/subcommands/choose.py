"""Finds out whether a command is a word's, or asks for help, before it is taken for a run."""

from __future__ import annotations

from collections.abc import Sequence

from methods.registry import registered
from results.errors import UserError, nearest
from runners.root import CONFIGS
from runners.subcommands.words import WORDS, Act


def _short_help(arguments: Sequence[str]) -> int:
    from runners.subcommands.help import short_help

    return short_help()


def _long_help(arguments: Sequence[str]) -> int:
    from runners.subcommands.help import long_help

    return long_help()


def chosen(arguments: Sequence[str]) -> tuple[Act, Sequence[str]] | None:
    """Return what a command's first word asks for and what follows it; None for a run.

    A word that is neither of these nor a key is a UserError.
    """
    if not arguments:
        return _short_help, ()
    first, *rest = arguments
    if first in ("--help", "-h") or (set(arguments) & {"--help", "-h"} and first not in WORDS):
        return _long_help, ()
    if first in WORDS:
        return WORDS[first][1], rest
    if first.isidentifier():
        raise UserError(f"no command called '{first}'{_guess(first)}")
    return None


def _guess(word: str) -> str:
    """Say what a word may have been meant for: a key's value, or another word."""
    values = {"method": list(registered()), "task": _shipped("task"), "board": _shipped("board")}
    keys = [f"{key}={word}" for key, names in values.items() if word in names]
    if keys:
        return f"; did you mean {' or '.join(keys)}?"
    return f"{nearest(word, WORDS)}; a run is asked for by KEY=VALUE"


def _shipped(group: str) -> list[str]:
    return [path.stem for path in (CONFIGS / group).glob("*.yaml")]
