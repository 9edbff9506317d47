"""What was typed for a run."""

from __future__ import annotations

from collections.abc import Sequence


def typed_model_path(arguments: Sequence[str]) -> str | None:
    """Return where a command says that the pretrained weights lie."""
    typed = [a for a in arguments if a.startswith("model.name_or_path=")]
    return typed[-1].partition("=")[2] if typed else None
