"""The schema of everything but task and methods."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import (
    BeforeValidator,
    Field,
    PlainValidator,
    SerializerFunctionWrapHandler,
    model_serializer,
    model_validator,
)

from methods.embedding import Pooling
from runners.config.places import Place
from runners.config.section import Decay, Positive, Section
from runners.config.task import Task
from runners.config.trackers import Tracker

Precision = Literal["fp32", "bf16"]
Truncate = Literal["head", "tail", "head_tail"]


class Model(Section):
    """Which pretrained encoder: a registry package, a local folder or a hub id.

    `lr` holds the learning rates that suit methods on this encoder; `full` is always there, and is
    also what a method without a rate of its own gets. `untrained` names modules that the checkpoint
    holds but that no training ever reached: they are drawn anew and belong to the head. `pooling`
    is how the encoder itself makes a vector of a sentence.
    """

    name: str = Field(pattern=r"^[A-Za-z0-9._-]+$")
    package: str | None = None
    name_or_path: Place | None = None
    revision: str | None = None
    sha256: str | None = Field(default=None, pattern=r"^[0-9a-f]{64}$")
    untrained: list[str] = Field(default_factory=list)
    pooling: Pooling = "cls"
    lr: dict[str, Annotated[float, Field(gt=0)]]

    @model_validator(mode="after")
    def _names_the_baselines_rate(self) -> Model:
        if "full" not in self.lr:
            raise ValueError("lr needs the rate of full fine-tuning, as model.lr.full")
        return self


def _draw(seed: Any) -> Any:
    if seed == "seed" or (type(seed) is int and seed >= 0):
        return seed
    raise ValueError("must be a whole number, 0 or more, or the word seed")


class Data(Section):
    """Which source the task's data comes from, and how much of it is used.

    `balanced` says which splits give each class as many examples where a part of them is drawn.
    `seed` draws them; `seed` in words draws the rows to learn from by the run's own. `text` and
    `glue_dir` are for tasks that train on text of another source.
    """

    source: Literal["auto", "local", "hub", "embedded"]
    dir: Place | None = None
    revision: str | None = None
    train_size: int | None = Field(default=None, ge=2)
    eval_size: int | None = Field(default=None, ge=2)
    seed: Annotated[int | Literal["seed"], PlainValidator(_draw)] = 0
    balanced: Literal["train", "all", "none"] = "all"  # what records that do not say it had
    malformed_rows: Literal["error", "skip"] = "error"
    text: Place | list[Place] | None = None
    glue_dir: Place | None = None

    @property
    def report_seed(self) -> int:
        """What draws the rows that are scored: the same for every seed of a run."""
        return 0 if self.seed == "seed" else self.seed

    def train_seed(self, seed: int) -> int:
        """Return what draws the rows to learn from, in a run of that seed."""
        return seed if self.seed == "seed" else self.seed


class Budget(Section):
    """What every method may spend; `steps`, when set, replaces `epochs`."""

    name: str
    epochs: int = Field(ge=1)
    steps: int | None = Field(default=None, ge=1)
    batch_size: int = Field(ge=1)
    eval_batch_size: int = Field(ge=1)
    length_bucket: int = Field(ge=1)
    buckets: int = Field(default=16, ge=1)  # what records that do not say it had
    max_length: int = Field(ge=4)
    truncate: Truncate = "head"  # what records that do not say it had
    schedule: Literal["linear", "constant", "slanted_triangular"]
    warmup: float = Field(ge=0, lt=1)
    weight_decay: float = Field(ge=0)
    max_grad_norm: float = Field(gt=0)
    precision: Precision
    dropout: float | None = Field(default=None, ge=0, lt=1)
    evaluate: Literal["epoch", "end"] | int

    @model_validator(mode="after")
    def _evaluates(self) -> Budget:
        if isinstance(self.evaluate, int) and self.evaluate < 1:
            raise ValueError("evaluate must be epoch, end, or a number of steps ≥ 1")
        return self


class Protocol(Section):
    """Which weights are reported: the last ones, or those best on other rows of train.

    These are a part cut from the rows to train on, or, with `rows` in place of `fraction`, so many
    further ones.
    """

    name: Literal["final", "select"]
    fraction: float | None = Field(default=None, gt=0, lt=1)
    rows: int | None = Field(default=None, ge=2)

    @model_validator(mode="after")
    def _fraction_belongs_to_select(self) -> Protocol:
        if (self.name == "select") != (self.fraction is not None):
            raise ValueError("fraction is set for protocol=select and null for protocol=final")
        if self.rows is not None and self.name != "select":
            raise ValueError("rows goes with protocol=select")
        return self


class AdamWOptions(Section):
    """AdamW: torch's, with bias correction; adamw_nobc without it, as BERT was first tuned."""

    name: Literal["adamw", "adamw_nobc"]
    betas: list[Decay] = Field(min_length=2, max_length=2)
    eps: Positive

    @property
    def gradients_a_step(self) -> int:
        return 1


class SuperAdamOptions(Section):
    """SUPER-ADAM; `lr` is its effective rate at the start. See runners/optimizers/super_adam.py."""

    name: Literal["super_adam"]
    tau: Literal[0, 1]
    k: Positive
    m: Positive
    c: Positive | None
    beta: Decay
    lam: Positive
    matrix: Literal["coordinate", "amsgrad", "norm", "coordinate_norm", "barzilai_borwein"]
    bias_correction: bool
    decay: Literal["own", "budget"]

    @property
    def gradients_a_step(self) -> int:
        return 1 + self.tau

    @model_validator(mode="after")
    def _consistent(self) -> SuperAdamOptions:
        if self.matrix == "barzilai_borwein" and self.tau == 0:
            raise ValueError(
                "matrix=barzilai_borwein compares two gradients of one batch, which tau=0 does not"
                " compute; use tau=1"
            )
        if self.bias_correction and self.matrix not in ("coordinate", "amsgrad"):
            raise ValueError("bias_correction=true is for matrix=coordinate and matrix=amsgrad")
        return self


class Speed(Section):
    """Levers on a run's time and memory, each with its off switch; scores differ by rounding.

    `fast_dropout` draws other masks of the same distribution, so it is part of a run's name; the
    others are not.
    """

    fast_dropout: bool
    first_token: bool = False
    onednn: bool = False
    prefetch: bool = False
    release_memory: bool = False
    trim_vocabulary: bool = False

    @property
    def switches(self) -> dict[str, bool]:
        """Return each lever's switch by its key."""
        return {key: getattr(self, key) for key in type(self).model_fields}


class Checkpoint(Section):
    """How often a run saves its state, to go on from when it was killed; null: not by that."""

    minutes: float | None = Field(gt=0)
    steps: int | None = Field(ge=1)


class Start(Section):
    """Where the encoder comes from besides the pretrained files: `run`, a run that ended before.

    `head` says whether the head is drawn from the seed, as ever, or goes on with that run's. With
    `freeze`, the head alone is trained, whatever the methods choose.
    """

    run: Place | None = None
    head: Literal["drawn", "keep"] = "drawn"
    freeze: bool = Field(default=False, exclude_if=lambda freeze: not freeze)


class Control(Section):
    """What a run is compared with in place of a chain: its target alone, trained as much.

    `equal` says what is as much: optimizer updates, or rows of training data. `stages` are the
    tasks that the chain has before its target. `steps` is what the target's budget has without
    this, and `train` the hash of what it trains on.
    """

    equal: Literal["updates", "data"] | None = None
    stages: list[str] = Field(default_factory=list)
    steps: int | None = None
    train: str | None = None

    @model_validator(mode="after")
    def _is_of_a_chain(self) -> Control:
        if (self.equal is None) != (not self.stages):
            raise ValueError("control=updates and control=data go with stages=[A,B]")
        return self


def _several(given: Any) -> Any:
    """Return one tracker, several or none as a list that names each once."""
    if isinstance(given, list):
        return [one for n, one in enumerate(given) if one not in given[:n]]
    return [] if given is None else [given]


class Settings(Section):
    """Everything that a run is, but its methods.

    What is excluded says how and where it is done: records and deltas leave it out.
    """

    task: Task
    model: Model
    data: Data
    budget: Budget
    protocol: Protocol
    optimizer: AdamWOptions | SuperAdamOptions = Field(discriminator="name")
    speed: Speed
    checkpoint: Checkpoint = Field(exclude=True)
    start: Start = Start()
    control: Control = Control()
    seed: int = Field(ge=0, lt=2**32)
    lr: float | None = Field(default=None, gt=0)
    precision: Precision | None = None
    device: str = Field(pattern=r"^(auto|cpu|mps|cuda(:\d+)?)$")
    threads: int | None = Field(default=None, ge=1, exclude=True)
    out: Place = Field(exclude=True)
    force: bool = Field(exclude=True)
    log: Annotated[list[Tracker], BeforeValidator(_several)] = Field(
        default_factory=list, exclude=True
    )
    save: Literal["delta", "sentence-transformers", "logits"] | None = Field(exclude=True)

    @model_validator(mode="after")
    def _has_one_draw_to_be_as_many_as(self) -> Settings:
        if self.control.equal == "data" and self.data.seed == "seed":
            raise ValueError("control=data takes as many rows from one draw: data.seed=NUMBER")
        return self

    @model_serializer(mode="wrap")
    def _without_what_is_not_there(self, dump: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Leave out what older records say nothing of, where it is as they were."""
        dumped: dict[str, Any] = dump(self)
        if self.start.run is None:
            dumped.pop("start", None)
        if self.control.equal is None:
            dumped.pop("control", None)
        return dumped
