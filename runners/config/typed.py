"""What was typed for a run: the arguments of a command, read in one place."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import ChoiceSweep, Glob, QuotedString, Sweep

from results.errors import UserError
from results.places import expanded

CONFIG_DIR = ("--config-dir", "-cd")  # the argument after it is a folder
ONE_OF = ("task", "model", "data", "budget", "protocol", "optimizer", "board")


def key_of(argument: str) -> str:
    """Return the key that an argument sets, adds (+) or takes away (~)."""
    return argument.partition("=")[0].lstrip("+~")


def readable(argument: str) -> str:
    """Return an argument as Hydra can read it, which knows no `~` and no letters beyond ASCII.

    Words of a value that have them are put in quotes; in an option's folder `~` is expanded.
    """
    key, equals, value = argument.partition("=")
    if argument.startswith(("-", "~/")):
        return f"{key}={expanded(value)}" if equals else expanded(argument)
    if not equals or set(value) & set("'\""):
        return argument
    parts = re.split(r"(\s*(?<!\\)(?:[,()\[\]{}]|:\s|\$\{)\s*)", value)
    parts[::2] = [_quoted(word) for word in parts[::2]]
    return f"{key}={''.join(parts)}"


def options_first(arguments: Sequence[str], overrides: Sequence[str]) -> list[str]:
    """Return arguments with the options, which Hydra takes at one place only, before the keys."""
    options = list(arguments)
    for override in overrides:
        options.remove(override)
    last = arguments.index(options[-1]) if options else 0
    early = any(arguments.index(override) < last for override in overrides)
    return [*options, *overrides] if early else list(arguments)


def _quoted(word: str) -> str:
    """Return a word of a value in quotes, where it needs them."""
    if word.isascii() and not word.startswith("~"):
        return word
    return "'" + re.sub(r"\\(.)", r"\1", word) + "'"


def is_typed(arguments: Sequence[str], *roots: str) -> bool:
    """Say whether an argument is of one of these keys, or of one below it."""
    return any(_is_of(key_of(argument), *roots) for argument in arguments)


def keys_beside(arguments: Sequence[str], *roots: str) -> list[str]:
    """Return the keys that are typed and neither of these nor below one of them."""
    keys = dict.fromkeys(key_of(argument) for argument in arguments)
    return [key for key in keys if not _is_of(key, *roots)]


def _is_of(key: str, *roots: str) -> bool:
    return any(key == root or key.startswith(f"{root}.") for root in roots)


def check_typed(arguments: Sequence[str]) -> None:
    """Raise UserError for what Hydra would take and no run means."""
    if sum(argument.partition("=")[0] in CONFIG_DIR for argument in arguments) > 1:
        raise UserError("--config-dir is given twice, and one is read; put all files in one folder")
    for argument in arguments:
        key, equals, value = argument.partition("=")
        if equals and not key_of(key):
            raise UserError(f"{argument} names no key; write KEY=VALUE")
        if equals and not value.strip("'\" ") and not key_of(key).startswith("hydra"):
            raise UserError(f"{key}= is empty; give it a value, null for none, or leave it out")
    refuse_ways_round(arguments)
    refuse_lists(arguments)


def refuse_ways_round(arguments: Sequence[str]) -> None:
    """Raise UserError where a file's keys would go elsewhere, or what is read is not in a file.

    `task@data=NAME` puts a task's keys among the data's; `task=${oc.env:NAME}` reads this machine.
    """
    for argument in arguments:
        key, _, value = argument.partition("=")
        if key.startswith("--e"):  # --experimental-rerun, or less of it
            raise UserError(f"{key} opens a pickle, which can run code; type the command again")
        group = key_of(key).partition("@")[0]
        if key.startswith("-") or group.startswith("hydra"):
            continue
        if "@" in key:
            raise UserError(f"{argument}: a file sets keys of its own group; type {group}=NAME")
        if group in (*ONE_OF, "method") and "$" in value:
            raise UserError(f"{argument}: type the name itself, as in {group}=NAME")


def refuse_lists(arguments: Sequence[str]) -> None:
    """Raise UserError where several files of a group, or none, are named where a run has one.

    Hydra would lay them over each other: one task's files with another's name. It stumbles over
    what is no name, such as a number.
    """
    for argument in arguments:
        key, _, value = argument.partition("=")
        group = key_of(key).partition("@")[0]
        if not (group in (*ONE_OF, "method") or group.startswith("hydra/")):
            continue
        if value == "null" and group != "board":
            raise UserError(f"{argument}: a run has one; type {key}=NAME, or leave it out")
        if _PLAIN_NAME.fullmatch(value) or key.startswith(("~", "-")):
            continue
        override = OverridesParser.create().parse_override(argument)
        is_list = isinstance(override._value, list)
        if key == "method" and is_list and (problem := options_apart(argument, override.value())):
            raise UserError(problem)
        _refuse_other_than_names(argument, key, override._value)
        names = override.value()
        if key != "method" and isinstance(names, list) and len(names) != 1:
            key = override.key_or_group
            several = ",".join(str(name) for name in names)
            instead = f"a run of each: -m {key}={several}" if names else f"type {key}=NAME"
            raise UserError(f"{argument} names {len(names)}, and a run has one {key}; {instead}")


def options_apart(argument: str, methods: Any) -> str | None:
    """Say what to type where options stand in a method's place, as {lora: {rank: 4}} has them.

    `methods` is the value that the argument has.
    """
    each = methods if isinstance(methods, list) else [methods]
    if not any(isinstance(one, dict) for one in each):
        return None
    pairs = [p for one in each for p in (one if isinstance(one, dict) else {one: {}}).items()]
    if not all(isinstance(options, dict) for _, options in pairs):
        pairs = [("NAME", {"OPTION": "VALUE"})]
    names = ",".join(str(name) for name, _ in pairs)
    keys = [
        f"method.{name}.{key}={value}" for name, options in pairs for key, value in options.items()
    ]
    typed = " ".join([f"method={names if len(pairs) == 1 else f'[{names}]'}", *keys])
    return f"{argument}: an option of a method is a key of its own; type {typed}"


# A word that Hydra reads as no number, switch or nothing.
_PLAIN_NAME = re.compile(r"(?!(null|true|false|nan|inf)$)[A-Za-z_][\w.-]*", flags=re.IGNORECASE)


def _refuse_other_than_names(argument: str, key: str, value: Any) -> None:
    """Raise UserError where what chooses a file, or each of several, is something else."""
    choices: list[Any] = value.list if isinstance(value, ChoiceSweep) else [value]
    names = [name for one in choices for name in (one if isinstance(one, list) else [one])]
    beside = [one for one in choices if isinstance(one, dict)]  # keys, beside a file's
    for name in names:
        if name not in beside and not isinstance(name, str | QuotedString | Sweep | Glob):
            shown = {"None": "null", "True": "true", "False": "false"}.get(str(name), name)
            number = type(name) in (int, float)
            more = f", or {key}=\"'NAME'\" where a name looks like a number" if number else ""
            raise UserError(f"{argument}: {shown} is no name; type {key}=NAME{more}")
