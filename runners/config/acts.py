"""What a command does, and which of its keys say so rather than what a run is.

A run's settings are in runners.config.settings. Everything else that may be typed is named here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal, TypeVar

from pydantic import Field, ValidationError, field_validator

from results.errors import UserError
from runners.config.places import Place
from runners.config.problems import sentences
from runners.config.section import Section
from runners.config.typed import is_typed, key_of, keys_beside
from runners.config.unlabelled import STAGE

Part = TypeVar("Part", bound=Section)


class Acts(Section):
    """What is done with a stored result instead of a run; `text` belongs to embed and predict.

    `submission` lists several results, in a list or as one text with commas.
    """

    eval: Place | None = None
    """A folder that save=delta wrote: only score what is in it."""
    export: Place | None = None
    """A folder that save=delta wrote: write a whole model for transformers to out=FOLDER."""
    verify: Place | None = None
    """A record, by file or run name: do it again and say where it differs."""
    embed: Place | None = None
    """A run of task=sts, by its record or delta: write vectors of the lines of text= to
    out=FILE.npy."""
    predict: Place | None = None
    """A run, by its record or delta: write what it answers to the rows of text=FILE to out=FILE,
    both .csv, .tsv or .jsonl; of a mixture's tasks, the one of task=NAME."""
    submission: list[Place] | None = None
    """'submission=[RUN,RUN]', runs of GLUE's tasks: write what they answer to GLUE's test sets to
    out=FILE.zip."""
    text: Place | None = None
    """With embed: a file with one sentence a line; with predict: a table with the task's texts."""

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


class Way(Section):
    """How a command's runs are done, one or several."""

    stages: Any = None
    """'stages=[mnli,rte]': a chain of runs, each from the one before; stages.0.KEY=VALUE is of
    one."""
    keep: bool = False
    """With stages: keep what the stages before the last left."""
    own_process: bool = True
    """With -m: each run in a process of its own; false: all in this one."""


class Sweep(Section):
    """How a board is run: `retry` runs what failed, and nothing else.

    With `plan`, its runs are listed only, and with `estimate` also what they cost; `list` names a
    folder in which that list is kept. With `search`, the trials of its search are run instead.
    """

    plan: bool
    """Only list the runs, where they stand, and what the missing ones cost."""
    estimate: bool
    """With plan=true: measure a few steps of each row for that."""
    list: Place | None
    """With plan=true: a folder, for NAME/runs.json, by which the board's tables count."""
    search: bool
    """Do the trials of the board's search for learning rates instead."""
    workers: int = Field(ge=1)
    """Processes at a time."""
    retry: Literal["failed"] | None
    """failed: run again what failed or diverged, and nothing else."""
    share_device: bool
    """Let several runs share a GPU."""


BOARD_KEYS = ("board", *Sweep.model_fields)
# What each act reads of a command; everything else is as the stored run says.
USED: dict[str, tuple[str, ...]] = {
    "eval": ("device", "threads", "data", "model.name_or_path"),
    "export": ("out", "push", "threads", "model.name_or_path"),
    "verify": ("out", "device", "threads", "checkpoint", "data.dir", "data.glue_dir", "data.text"),
    "embed": ("text", "out", "device", "threads", "model.name_or_path"),
    "predict": ("text", "out", "device", "threads", "model.name_or_path", "task"),
    "submission": ("out", "device", "threads", "data", "model.name_or_path"),
}
TRAINS_ONLY = (
    "data.train_size",
    "data.shots",
    "data.text",
    "data.glue_dir",
)  # of data, what eval does not read
# Of the sections that acts read, the keys that they do not.
IDLE = {
    "eval": TRAINS_ONLY,
    "submission": (*TRAINS_ONLY, "data.seed", "data.balanced", "data.malformed_rows"),
}
CHAIN_KEYS = ("stages", "keep")
NOT_THE_RUNS = ("method", "hydra", *Way.model_fields, *BOARD_KEYS, *Acts.model_fields)


def acts_of(composed: Mapping[str, Any]) -> Acts:
    """Return what a composed configuration asks for; two acts at once are a UserError."""
    acts = _checked(Acts, composed)
    _checked(Way, composed)
    if len(acts.named) > 1:
        raise UserError(f"{'= and '.join(acts.named)}= are two acts; give a command one of them")
    if acts.named and composed.get("board") is not None:
        raise UserError(f"board= and {acts.named[0]}= are two acts; give a command one of them")
    return acts


def _checked(schema: type[Part], composed: Mapping[str, Any]) -> Part:
    given = {key: composed[key] for key in schema.model_fields if key in composed}
    try:
        return schema.model_validate(given)
    except ValidationError as error:
        raise UserError("; ".join(sentences(error, "", given, schema))) from None


def is_chain(composed: Mapping[str, Any]) -> bool:
    """Say whether stages come before the run, on the command line or in its task's file.

    A teacher that is a stage is one. A run that starts from one, or is a control of a chain, is the
    last of them.
    """
    if composed.get("stages") is not None:
        return True
    if teacher_of(composed) == STAGE:
        return True
    task, start, control = (composed.get(key) or {} for key in ("task", "start", "control"))
    return bool(task.get("stages")) and not start.get("run") and not control.get("stages")


def teacher_of(composed: Mapping[str, Any]) -> Any:
    """Return what a composed configuration names as the run that labels rows."""
    data = composed.get("data")
    for section in ("pseudo", "generated"):
        options = data.get(section) if isinstance(data, Mapping) else None
        if isinstance(options, Mapping) and options.get("teacher") is not None:
            return options["teacher"]
    return None


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
    if composed.get("push") is not None:
        _refuse_push(composed, "board" if board else "stages" if chain else None)
    control = composed.get("control") or {}
    if control.get("equal") and not chain and not control.get("stages"):
        raise UserError("control= is of a chain: name its stages by stages=[A,B]")
    shared = ("board", "plan") if chain and not board else ("board",)
    idle = [key for key in BOARD_KEYS if is_typed(typed, key) and key not in shared]
    if idle and not board:
        raise UserError(f"{_listed(idle)} would change nothing: it goes with board=NAME")


def _refuse_push(composed: Mapping[str, Any], several: str | None) -> None:
    """Refuse to send a folder that is not written, or many runs' folders to one place."""
    if several is not None:
        raise UserError(
            f"push= names one repository, and {several}= makes many runs; type push= for one of"
            " them when they are done"
        )
    if composed.get("save") != "model":
        raise UserError("push= sends the folder that save=model writes; add save=model")


def refuse_shared_push(typed: Sequence[str], several: bool) -> None:
    """Refuse one repository for all runs of a sweep: each would write over the one before."""
    pushes = [argument for argument in typed if key_of(argument) == "push"]
    if several and any("$" not in argument for argument in pushes):
        raise UserError(
            f"{pushes[0]}: -m makes many runs, and each needs a repository of its own: name it by"
            " what they differ in, as in 'push=OWNER/${task.name}'"
        )


def _listed(keys: Sequence[str]) -> str:
    return ", ".join(f"{key}=" for key in keys)
