"""What a command does, and which of its keys say so rather than what a run is.

A run's settings are in runners.config.settings. Everything else that may be typed is named here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

from pydantic import Field, ValidationError, field_validator

from results.errors import UserError
from runners.config.places import Place
from runners.config.problems import sentences
from runners.config.section import Section
from runners.config.typed import is_typed, keys_beside


class Acts(Section):
    """What is done with a stored result instead of a run; `text` belongs to embed and predict.

    `submission` lists several results, in a list or as one text with commas.
    """

    eval: Place | None = None
    verify: Place | None = None
    embed: Place | None = None
    predict: Place | None = None
    submission: list[Place] | None = None
    text: Place | None = None

    @field_validator("submission", mode="before")
    @classmethod
    def _of_a_text(cls, given: Any) -> Any:
        if not isinstance(given, str):
            return given
        return [name.strip() for name in given.split(",") if name.strip()]

    @property
    def named(self) -> list[str]:
        """Return which of the acts were asked for."""
        return [key for key in USED if getattr(self, key) is not None]


class Sweep(Section):
    """How a board is run: `retry` runs what failed, and nothing else.

    With `plan`, its runs are listed only, and with `estimate` also what they cost; `list` names a
    folder in which that list is kept. With `search`, the trials of its search are run instead.
    """

    plan: bool
    estimate: bool
    list: Place | None
    search: bool
    workers: int = Field(ge=1)
    retry: Literal["failed"] | None
    share_device: bool


BOARD_KEYS = ("board", *Sweep.model_fields)
# What each act reads of a command; everything else is as the stored run says.
USED: dict[str, tuple[str, ...]] = {
    "eval": ("device", "threads", "data", "model.name_or_path"),
    "verify": ("out", "device", "threads", "checkpoint", "data.dir", "data.glue_dir", "data.text"),
    "embed": ("text", "out", "device", "threads", "model.name_or_path"),
    "predict": ("text", "out", "device", "threads", "model.name_or_path", "task"),
    "submission": ("out", "device", "threads", "data", "model.name_or_path"),
}
TRAINS_ONLY = ("data.train_size", "data.text", "data.glue_dir")  # of data, what eval does not read
# Of the sections that acts read, the keys that they do not.
IDLE = {
    "eval": TRAINS_ONLY,
    "submission": (*TRAINS_ONLY, "data.seed", "data.balanced", "data.malformed_rows"),
}
CHAIN_KEYS = ("stages", "keep")
NOT_THE_RUNS = ("method", "hydra", "own_process", *CHAIN_KEYS, *BOARD_KEYS, *Acts.model_fields)


def acts_of(composed: Mapping[str, Any]) -> Acts:
    """Return what a composed configuration asks for; two acts at once are a UserError."""
    given = {key: composed[key] for key in Acts.model_fields if key in composed}
    try:
        acts = Acts.model_validate(given)
    except ValidationError as error:
        raise UserError("; ".join(sentences(error, "", given, Acts))) from None
    if len(acts.named) > 1:
        raise UserError(f"{'= and '.join(acts.named)}= are two acts; give a command one of them")
    if acts.named and composed.get("board") is not None:
        raise UserError(f"board= and {acts.named[0]}= are two acts; give a command one of them")
    return acts


def is_chain(composed: Mapping[str, Any]) -> bool:
    """Say whether stages come before the run, on the command line or in its task's file.

    A run that starts from one, or is a control of a chain, is the last of them.
    """
    if composed.get("stages") is not None:
        return True
    task, start, control = (composed.get(key) or {} for key in ("task", "start", "control"))
    return bool(task.get("stages")) and not start.get("run") and not control.get("stages")


def refuse_unused(acts: Acts, composed: Mapping[str, Any], typed: Sequence[str]) -> None:
    """Raise UserError where a key is typed that what is done does not read."""
    board, chain = composed.get("board") is not None, is_chain(composed)
    if acts.named:
        [act] = acts.named
        used = USED[act]
        idle = keys_beside(typed, act, "own_process", *used)
        idle += [key for key in IDLE.get(act, ()) if is_typed(typed, key)]
        if act == "predict":  # the name of a task alone says which of a mixture's is meant
            idle += [key for key in keys_beside(typed) if key.startswith("task.")]
        if idle:
            raise UserError(
                f"{_listed(idle)} would change nothing: {act}= takes all but {_listed(used)} from"
                " the stored run; leave it out, or run with it first"
            )
        return
    if is_typed(typed, "text"):
        raise UserError("text= goes with embed=RUN or predict=RUN, and changes nothing else")
    if board and composed.get("stages") is not None:
        raise UserError("board= and stages= are two acts; give a command one of them")
    if is_typed(typed, "keep") and not (chain or board):
        raise UserError("keep= would change nothing: it goes with stages=[A,B] or board=NAME")
    control = composed.get("control") or {}
    if control.get("equal") and not chain and not control.get("stages"):
        raise UserError("control= is of a chain: name its stages by stages=[A,B]")
    shared = ("board", "plan") if chain and not board else ("board",)
    idle = [key for key in BOARD_KEYS if is_typed(typed, key) and key not in shared]
    if idle and not board:
        raise UserError(f"{_listed(idle)} would change nothing: it goes with board=NAME")


def _listed(keys: Sequence[str]) -> str:
    return ", ".join(f"{key}=" for key in keys)
