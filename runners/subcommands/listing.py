"""Lists methods and tasks, a line each."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Sequence
from textwrap import shorten

import yaml

from methods.registry import registered
from results.errors import UserError
from results.printable import printable
from runners.root import CONFIGS

WIDTH = 100


def methods(arguments: Sequence[str]) -> int:
    """Print each method's name and what it is, as its module says."""
    _refuse(arguments, "methods")
    return _print(method_lines(), "method=NAME")


def tasks(arguments: Sequence[str]) -> int:
    """Print each shipped task's name and what it is, as its file says."""
    _refuse(arguments, "tasks")
    return _print(shipped_tasks(), "task=NAME")


def shipped_tasks() -> dict[str, str]:
    """Return each shipped task's metrics and its file's first comment by its name."""
    about: dict[str, str] = {}
    for path in sorted((CONFIGS / "task").glob("*.yaml")):
        text = path.read_text(encoding="utf-8")
        comment = " ".join(
            line.removeprefix("#").strip() for line in _head(text) if line.startswith("#")
        )
        metrics = yaml.safe_load(text).get("metrics", [])
        about[path.stem] = f"{', '.join(metrics)}: {comment}"
    return about


def _head(text: str) -> list[str]:
    """Return the lines before the first that is no comment."""
    lines = text.splitlines()
    end = next((i for i, line in enumerate(lines) if not line.startswith("#")), len(lines))
    return lines[:end]


def method_lines() -> dict[str, str]:
    """Return what each method is in a line, by its name: its module's first, or its own.

    A method that is made of values, as those of peft's tuners are, shares its module with others.
    """
    about = {}
    for name, cls in registered().items():
        module = inspect.getmodule(cls)
        shared = cls.__module__ == "methods.peft" and name != "peft"
        text = cls.__doc__ if shared else module and module.__doc__
        about[name] = (text or "no description").split("\n")[0]
    return about


def _print(lines: dict[str, str], typed: str) -> int:
    width = max(map(len, lines), default=0) + 2
    for name, text in lines.items():
        about = shorten(text, WIDTH - width, placeholder=" …")
        print(printable(f"{name:{width}}{about}"))
    print(f"{len(lines)} in all; type {typed}", file=sys.stderr)
    return 0


def _refuse(arguments: Sequence[str], word: str) -> None:
    if arguments:
        raise UserError(f"{word} takes nothing more; got {' '.join(arguments)}")
