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
from runners.config.unlabelled import Generated, Mine, Pseudo

Precision = Literal["fp32", "bf16"]
Truncate = Literal["head", "tail", "head_tail"]


class Model(Section):
    """Which pretrained encoder: a registry package, a local folder or a hub id.

    `lr` holds the learning rates that suit methods on this encoder; `full` is always there, and is
    also what a method without a rate of its own gets. `untrained` names modules that the checkpoint
    holds but that no training ever reached: they are drawn anew and belong to the head. `pooling`
    is how the encoder itself makes a vector of a sentence. `hub` is where the hub has the weights
    of a package: it is told to others and read by no run.
    """

    name: str = Field(pattern=r"^[A-Za-z0-9._-]+$")
    """What records and tables call it."""
    package: str | None = None
    """The registry package that carries the weights."""
    name_or_path: Place | None = None
    """A local folder or a hub id, in place of the package."""
    revision: str | None = None
    """The hub's commit, branch or tag; null: the newest."""
    sha256: str | None = Field(default=None, pattern=r"^[0-9a-f]{64}$")
    """The hash that the weights must have; null: any."""
    untrained: list[str] = Field(default_factory=list)
    """Modules of the checkpoint that no training reached: drawn anew, part of the head."""
    pooling: Pooling = "cls"
    """How the encoder makes a vector of a sentence: cls, mean and others."""
    hub: str | None = Field(default=None, exclude=True)
    """The repository of the hub that holds the same weights, named in exports."""
    lr: dict[str, Annotated[float, Field(gt=0)]]
    """Learning rates that suit methods on this encoder, by method; `full` is always there."""

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
    `glue_dir` are for tasks that train on text of another source. `pseudo` adds rows that another
    run labels, `generated` adds rows of a language model, and `mine` takes rows that patterns find
    in text for train.
    """

    source: Literal["auto", "local", "hub", "embedded"]
    """auto, local, hub or embedded; auto: local files where the folder is there, else the hub,
    else embedded."""
    dir: Place | None = None
    """local: folder in GLUE's layout (CoLA/, SST-2/, …); null: the environment's GLUE_DIR."""
    revision: str | None = None
    """hub: commit or branch of the data set."""
    train_size: int | None = Field(default=None, ge=2)
    """Draw so many training rows; null: all."""
    eval_size: int | None = Field(default=None, ge=2)
    """Draw so many rows of each report split; null: all."""
    seed: Annotated[int | Literal["seed"], PlainValidator(_draw)] = 0
    """Of the two draws and of the selection part; seed: the run's own draws what it learns from."""
    shots: int | None = Field(default=None, ge=1, exclude_if=lambda number: number is None)
    """Train on so many rows of each class, and select by as many others; null: all rows."""
    balanced: Literal["train", "all", "none"] = "all"  # what records that do not say it had
    """train: a drawn training set has its classes balanced where possible, a drawn report split
    its own shares; all: both balanced; none."""
    malformed_rows: Literal["error", "skip"] = "error"
    """local: error, or skip (the number skipped is recorded)."""
    text: Place | list[Place] | None = None
    """task=mlm and data.mine.source=text: file of lines; task=sts: file of sentences, or files of
    NLI pairs or triplets, or hub:NAME; null: GLUE's training sets."""
    glue_dir: Place | None = None
    """task=sts: GLUE's folder for them; null: the environment's GLUE_DIR."""
    pseudo: Pseudo = Field(default=Pseudo(), exclude_if=lambda part: part.teacher is None)
    """Rows beyond data.train_size that another run labels: the keys below."""
    generated: Generated = Field(
        default=Generated(), exclude_if=lambda part: part.generator is None
    )
    """Rows that a language model makes: the keys below."""
    mine: Mine = Field(default=Mine(), exclude_if=lambda part: part.source is None)
    """Rows that patterns find in text, in place of train: the keys below."""

    @property
    def adds(self) -> Literal["pseudo", "generated"] | None:
        """Which section adds rows to those that are trained on."""
        if self.pseudo.teacher is not None:
            return "pseudo"
        return None if self.generated.generator is None else "generated"

    @property
    def teacher(self) -> str | None:
        """The run that labels rows, or says which stay."""
        return self.generated.teacher if self.adds == "generated" else self.pseudo.teacher

    @property
    def awaits_rows(self) -> bool:
        """Whether a model makes, labels or drops rows before the first step."""
        return self.adds is not None or self.mine.filter is not None

    def taught_by(self, teacher: str) -> Data:
        """Return the same with another name for its teacher."""
        if self.adds is None:
            return self
        section = getattr(self, self.adds).model_copy(update={"teacher": teacher})
        return self.model_copy(update={self.adds: section})

    @model_validator(mode="after")
    def _draws_once(self) -> Data:
        if self.shots is not None and self.train_size is not None:
            raise ValueError(
                f"shots={self.shots} and train_size={self.train_size} both say which rows are"
                " trained on; leave one of them out"
            )
        return self

    @property
    def report_seed(self) -> int:
        """What draws the rows that are scored: the same for every seed of a run."""
        return 0 if self.seed == "seed" else self.seed

    def train_seed(self, seed: int) -> int:
        """Return what draws the rows to learn from, in a run of that seed."""
        return seed if self.seed == "seed" else self.seed


class Budget(Section):
    """What every method may spend; `steps`, when set, replaces `epochs`.

    With `patience`, so many evaluations in a row without a better score of selection end a run.
    """

    name: str
    """What records call it."""
    epochs: int = Field(ge=0)
    """Passes over the training rows; 0: nothing is trained, and the model scored as it is."""
    steps: int | None = Field(default=None, ge=1)
    """Optimizer steps; when set, epochs is not used."""
    batch_size: int = Field(ge=1)
    """Rows a step."""
    eval_batch_size: int = Field(ge=1)
    """Rows a batch of an evaluation."""
    length_bucket: int = Field(ge=1)
    """Batches, at most, among which rows are sorted by length; 1: plain random order."""
    buckets: int = Field(default=16, ge=1)  # what records that do not say it had
    """Of those, at least, an epoch."""
    max_length: int = Field(ge=4)
    """Tokens a text, special ones included."""
    truncate: Truncate = "head"  # what records that do not say it had
    """Which part of a single text that is too long stays: head, tail or head_tail."""
    schedule: Literal["linear", "constant", "slanted_triangular"]
    """Of the learning rate after the warm-up: linear, constant or slanted_triangular."""
    warmup: float = Field(ge=0, lt=1)
    """Share of the steps in which the rate rises from zero."""
    weight_decay: float = Field(ge=0)
    """Never of biases and normalisation gains."""
    max_grad_norm: float = Field(gt=0)
    """Gradients are clipped to this norm."""
    precision: Precision
    """fp32 or bf16."""
    dropout: float | None = Field(default=None, ge=0, lt=1)
    """Replaces every rate of the encoder; null: the model's own."""
    evaluate: Literal["epoch", "end"] | int
    """epoch, end, or every so many steps."""
    patience: int | None = Field(default=None, ge=1, exclude_if=lambda number: number is None)
    """With protocol=select: so many evaluations in a row without a better score end the run."""

    @property
    def trains(self) -> bool:
        """Whether there is a step at all."""
        return self.steps is not None or self.epochs > 0

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
    """final: the last weights are reported; select: those best on other rows of train."""
    fraction: float | None = Field(default=None, gt=0, lt=1)
    """select: share of train that is cut off for it."""
    rows: int | None = Field(default=None, ge=2)
    """select: so many further rows, that data.train_size leaves out; fraction then says nothing."""

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
    """adamw, or adamw_nobc without bias correction."""
    betas: list[Decay] = Field(min_length=2, max_length=2)
    """Decay of the two moments."""
    eps: Positive
    """Added to the root of the second moment."""

    @property
    def gradients_a_step(self) -> int:
        return 1


class SuperAdamOptions(Section):
    """SUPER-ADAM; `lr` is its effective rate at the start. See runners/optimizers/super_adam.py."""

    name: Literal["super_adam"]
    """super_adam."""
    tau: Literal[0, 1]
    """1: variance reduction, two gradients a step; 0: moving average."""
    k: Positive
    """μ_t = k / (m + t)^e, e = 1/3 with tau=1 and 1/2 with tau=0."""
    m: Positive
    """see k."""
    c: Positive | None
    """α = min(c μ² or c μ, 1); null: what makes the first α 0.1."""
    beta: Decay
    """decay of the average behind the matrix."""
    lam: Positive
    """λ, added to the matrix's root."""
    matrix: Literal["coordinate", "amsgrad", "norm", "coordinate_norm", "barzilai_borwein"]
    """coordinate, amsgrad, norm, coordinate_norm, or barzilai_borwein (tau=1)."""
    bias_correction: bool
    """of the average behind the matrix."""
    decay: Literal["own", "budget"]
    """own: the rate falls as μ_t, instead of the budget's schedule; budget: the reverse."""
    average: Literal["paper", "code"] = Field(
        default="paper", exclude_if=lambda average: average == "paper"
    )
    """tau=0: paper starts at the first gradient, code at zero and takes α of this step's μ."""

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
        if self.average == "code" and self.tau == 1:
            raise ValueError("average=code is of the moving average; use tau=0, or average=paper")
        if self.bias_correction and self.matrix not in ("coordinate", "amsgrad"):
            raise ValueError("bias_correction=true is for matrix=coordinate and matrix=amsgrad")
        return self


class Speed(Section):
    """Levers on a run's time and memory, each with its off switch; scores differ by rounding.

    `fast_dropout` draws other masks of the same distribution, so it is part of a run's name; the
    others are not.
    """

    bf16_copy: bool = False
    """bf16: a copy of the weights, made after each step, instead of a cast in each pass."""
    fast_dropout: bool
    """CPU: 16 random bits an element instead of torch's 53; false: torch's own."""
    first_token: bool = False
    """The last layer only for the token that the head reads, where nothing else reads it."""
    gradient_checkpointing: bool = False
    """Layers are computed again for their gradients: less memory, a third more time."""
    graphs: bool = False
    """GPU: steps and evaluation batches of a length are replayed as CUDA graphs."""
    onednn: bool = False
    """CPU, fp32: products through oneDNN where it is much faster than MKL."""
    prefetch: bool = False
    """GPU: batches are made ahead in a thread and pinned."""
    release_memory: bool = False
    """CPU, Linux: freed memory goes back to the system after every 16,384 places of batches."""
    resident: bool = False
    """GPU: a split whose tokens take at most 256 MiB lies there, and batches are made there."""
    skip_padding: bool = False
    """CPU, fp32: linear layers compute real tokens only, where a tenth of a batch is padding."""
    trim_vocabulary: bool = False
    """only rows of the word embedding that the run's texts ask for are trained, where all others
    stay as they are anyway."""

    @property
    def switches(self) -> dict[str, bool]:
        """Return each lever's switch by its key."""
        return {key: getattr(self, key) for key in type(self).model_fields}


class Checkpoint(Section):
    """How often a run saves its state, to go on from when it was killed; null: not by that."""

    minutes: float | None = Field(gt=0)
    """Minutes between checkpoints; null: none by the clock."""
    steps: int | None = Field(ge=1)
    """Optimizer steps between checkpoints; null: none by steps."""


class Start(Section):
    """Where the encoder comes from besides the pretrained files: `run`, a run that ended before.

    `head` says whether the head is drawn from the seed, as ever, or goes on with that run's. With
    `freeze`, the head alone is trained, whatever the methods choose.
    """

    run: Place | None = None
    """start=RUN: the encoder goes on from that run: its name in out=, its record or its delta."""
    head: Literal["drawn", "keep"] = "drawn"
    """drawn: the head is new; keep: that run's, whose labels must agree."""
    freeze: bool = Field(default=False, exclude_if=lambda freeze: not freeze)
    """The head alone is trained, whatever the method chooses."""


class Control(Section):
    """What a run is compared with in place of a chain: its target alone, trained as much.

    `equal` says what is as much: optimizer updates, or rows of training data. `stages` are the
    tasks that the chain has before its target. `steps` is what the target's budget has without
    this, and `train` the hash of what it trains on.
    """

    equal: Literal["updates", "data"] | None = None
    """With stages: control=updates or control=data, the target alone with as much of it;
    control=reversed, the stages the other way round."""
    stages: list[str] = Field(default_factory=list)
    """Filled in."""
    steps: int | None = None
    """Filled in."""
    train: str | None = None
    """Filled in."""

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
    """Fixes head initialisation, data order and dropout."""
    lr: float | None = Field(default=None, gt=0)
    """Learning rate; null: the method's own."""
    precision: Precision | None = None
    """fp32 or bf16; null: the budget's."""
    device: str = Field(pattern=r"^(auto|cpu|mps|cuda(:\d+)?)$")
    """auto, cpu, cuda, cuda:N or mps."""
    threads: int | None = Field(default=None, ge=1, exclude=True)
    """CPU threads; null: OMP_NUM_THREADS, else every core."""
    out: Place = Field(exclude=True)
    """Folder that records are written to."""
    force: bool = Field(exclude=True)
    """Run again although a finished record is there."""
    log: Annotated[list[Tracker], BeforeValidator(_several)] = Field(
        default_factory=list, exclude=True
    )
    """tensorboard, csv, wandb, mlflow, trackio, or several, as 'log=[csv,tensorboard]': where the
    run's course is logged, in OUT/.logs/RUN."""
    save: Literal["delta", "model", "sentence-transformers", "logits"] | None = Field(exclude=True)
    """Also write, beside the record: delta (what training changed), model (a whole model for
    transformers), sentence-transformers (a folder for that library), or logits (of the report
    splits)."""
    push: str | None = Field(default=None, exclude=True)
    """With save=model or export: a repository of the hub that the folder is sent to."""

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
        if self.data.mine.source is None and isinstance(dumped.get("task"), dict):
            dumped["task"].pop("mine", None)
        return dumped
