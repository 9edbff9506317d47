"""What a command does, and which of its keys say so rather than what a run is.

A run's settings are in runners.config.settings. Everything else that may be typed is named here.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import Field, ValidationError

from results.errors import UserError
from runners.config.problems import sentences
from runners.config.section import Section


class Acts(Section):
    """What is done with a stored result instead of a run; `text` belongs to embed."""

    eval: str | None = None
    verify: str | None = None
    embed: str | None = None
    text: str | None = None

    @property
    def named(self) -> list[str]:
        """Return which of the acts were asked for."""
        return [key for key in ("eval", "verify", "embed") if getattr(self, key) is not None]


class Sweep(Section):
    """How a board is run: `retry` runs what failed, and nothing else.

    With `plan`, its runs are listed only, and with `estimate` also what they cost; `list` names a
    folder in which that list is kept. With `search`, the trials of its search are run instead.
    """

    plan: bool
    estimate: bool
    list: str | None
    search: bool
    workers: int = Field(ge=1)
    retry: Literal["failed"] | None
    share_device: bool


BOARD_KEYS = ("board", *Sweep.model_fields)
NOT_THE_RUNS = ("method", "hydra", "own_process", *BOARD_KEYS, *Acts.model_fields)


def acts_of(composed: Mapping[str, Any]) -> Acts:
    """Return what a composed configuration asks for; two acts at once are a UserError."""
    given = {key: composed[key] for key in Acts.model_fields if key in composed}
    try:
        acts = Acts.model_validate(given)
    except ValidationError as error:
        raise UserError("; ".join(sentences(error, "", given))) from None
    if len(acts.named) > 1:
        raise UserError(f"{'= and '.join(acts.named)}= are two acts; give a command one of them")
    return acts
