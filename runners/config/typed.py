"""What was typed for a run: the arguments of a command, read in one place."""

from __future__ import annotations

from collections.abc import Sequence

from hydra.core.override_parser.overrides_parser import OverridesParser

from results.errors import UserError

ONE_OF = ("task", "model", "data", "budget", "protocol", "optimizer", "board")


def key_of(argument: str) -> str:
    """Return the key that an argument sets, adds (+) or takes away (~)."""
    return argument.partition("=")[0].lstrip("+~")


def is_typed(arguments: Sequence[str], *roots: str) -> bool:
    """Say whether an argument is of one of these keys, or of one below it."""
    return any(_is_of(key_of(argument), *roots) for argument in arguments)


def keys_beside(arguments: Sequence[str], *roots: str) -> list[str]:
    """Return the keys that are typed and neither of these nor below one of them."""
    keys = dict.fromkeys(key_of(argument) for argument in arguments)
    return [key for key in keys if not _is_of(key, *roots)]


def _is_of(key: str, *roots: str) -> bool:
    return any(key == root or key.startswith(f"{root}.") for root in roots)


def refuse_lists(arguments: Sequence[str]) -> None:
    """Raise UserError where several files of a group, or none, are named where a run has one.

    Hydra would lay them over each other: one task's files with another's name.
    """
    parser = OverridesParser.create()
    for argument in arguments:
        key, _, value = argument.partition("=")
        if key_of(key).partition("@")[0] not in (*ONE_OF, "method"):
            continue
        if value == "null" and key != "board":
            raise UserError(f"{argument}: a run has one; type {key}=NAME, or leave it out")
        if "[" not in value or key == "method":
            continue
        override = parser.parse_override(argument)
        names = override.value()
        if isinstance(names, list) and len(names) != 1:
            key = override.key_or_group
            several = ",".join(str(name) for name in names)
            instead = f"a run of each: -m {key}={several}" if names else f"type {key}=NAME"
            raise UserError(f"{argument} names {len(names)}, and a run has one {key}; {instead}")
