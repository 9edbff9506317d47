"""The words that a command may begin with, and what each does."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from types import MappingProxyType

Act = Callable[[Sequence[str]], int]


def _results(arguments: Sequence[str]) -> int:
    from results.__main__ import main

    return main(list(arguments))


def _methods(arguments: Sequence[str]) -> int:
    from runners.subcommands.listing import methods

    return methods(arguments)


def _tasks(arguments: Sequence[str]) -> int:
    from runners.subcommands.listing import tasks

    return tasks(arguments)


def _admit(arguments: Sequence[str]) -> int:
    from runners.subcommands.admit import admit

    return admit(arguments)


def _clean(arguments: Sequence[str]) -> int:
    from runners.subcommands.clean import clean

    return clean(arguments)


WORDS = MappingProxyType(
    {
        "methods": ("every method, a line each", _methods),
        "tasks": ("every task, a line each", _tasks),
        "results": ("tables of records; results --help tells more", _results),
        "admit": ("RECORD…: take records into results/runs, checked", _admit),
        "clean": ("[FOLDER]: what runs left there and in caches, and free it", _clean),
    }
)
