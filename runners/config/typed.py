"""What was typed for a run: the arguments of a command, read in one place."""

from __future__ import annotations

from collections.abc import Sequence


def key_of(argument: str) -> str:
    """Return the key that an argument sets, adds (+) or takes away (~)."""
    return argument.partition("=")[0].lstrip("+~")


def is_typed(arguments: Sequence[str], *roots: str) -> bool:
    """Say whether an argument is of one of these keys, or of one below it."""
    keys = [key_of(argument) for argument in arguments]
    return any(key == root or key.startswith(f"{root}.") for key in keys for root in roots)


def typed_model_path(arguments: Sequence[str]) -> str | None:
    """Return where a command says that the pretrained weights lie; the last word counts."""
    paths = [a.partition("=")[2] for a in arguments if key_of(a) == "model.name_or_path"]
    return paths[-1] if paths else None
