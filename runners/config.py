"""The schema of a run's configuration, checked whole before anything is loaded.

Values come from configs/*.yaml through Hydra; this module says what they may be and turns every
problem found into one line. It imports neither torch nor transformers.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal, get_type_hints

from pydantic import BaseModel, ConfigDict, Field, ValidationError, create_model, model_validator

from methods.embedding import Pooling
from methods.method import Method, TrainingText
from methods.registry import acts_at_steps, composition_problems, method_class, registered
from results.errors import UserError, nearest

Precision = Literal["fp32", "bf16"]
Metric = Literal[
    "accuracy",
    "f1",
    "macro_f1",
    "matthews_correlation",
    "pearson",
    "spearmanr",
    "spearmanr_subsets",
]
CORRELATIONS = frozenset({"pearson", "spearmanr"})
SIMILARITY = CORRELATIONS | {"spearmanr_subsets"}


NOT_SETTINGS = (
    *("method", "hydra", "own_process"),
    *("board", "plan", "estimate", "list", "search", "workers", "retry", "share_device"),
)


class Section(BaseModel):
    """A part of the configuration: no unknown keys, no coerced types, no nan."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)


class LocalFiles(Section):
    """Where a task's files lie, relative to data.dir; .csv is read with quotes, .tsv without."""

    train: str
    report: dict[str, str] = Field(min_length=1)
    where_present: dict[str, str] = {}
    header: bool = True
    columns: dict[str, str | int] = {}
    label_names: dict[str, str] = {}


class HubFiles(Section):
    """Where a task lies on the hub; another configuration's split is CONFIGURATION/SPLIT."""

    path: str
    name: str | None = None
    train: str = "train"
    report: dict[str, str] = Field(min_length=1)
    where_present: dict[str, str] = {}
    columns: dict[str, str] = {}


class Pairs(Section):
    """Where scored pairs lie: a folder in SentEval's layout, or a tab-separated file; and the hub.

    `columns` counts from 0: first sentence, second sentence, score.
    """

    folder: str | None = None
    file: str | None = None
    columns: list[int] = Field(default=[0, 1, 2], min_length=3, max_length=3)
    header: bool = False
    hub: str | None = None
    split: str = "test"

    @model_validator(mode="after")
    def _lies_somewhere(self) -> Pairs:
        if (self.folder is None) == (self.file is None):
            raise ValueError("one of folder and file says where the pairs lie")
        return self


class Task(Section):
    """What a task is: its text columns, labels by name, metrics, and sources.

    A task of kind similarity has sets of scored pairs instead of labelled splits: it trains on
    other text, and `selection` is the set that protocol=select chooses by.
    """

    name: str = Field(pattern=r"^[A-Za-z0-9_-]+$")
    version: int = Field(default=1, ge=1)
    kind: Literal["classification", "regression", "similarity"] = "classification"
    text: list[str] = Field(min_length=1, max_length=2)
    labels: list[str] = []
    positive_label: str | None = None
    range: list[float] | None = Field(default=None, min_length=2, max_length=2)
    metrics: list[Metric] = Field(min_length=1)
    diagnostics: dict[str, list[Metric]] = {}
    local: LocalFiles | None = None
    hub: HubFiles | None = None
    rows: dict[str, int] = {}
    pairs: dict[str, Pairs] = {}
    selection: Pairs | None = None

    @model_validator(mode="after")
    def _consistent(self) -> Task:
        scored = self.kind != "classification"
        fit = {"regression": CORRELATIONS, "similarity": SIMILARITY}.get(self.kind, frozenset())
        wrong = [m for m in self.metrics if (m not in fit if scored else m in SIMILARITY)]
        if wrong:
            raise ValueError(f"metrics {wrong} do not suit kind={self.kind}")
        if scored and self.labels:
            raise ValueError(f"labels are for kind=classification; kind={self.kind} has a range")
        if (self.kind == "similarity") != bool(self.pairs):
            raise ValueError("pairs, at least one set, is for kind=similarity and for no other")
        if not scored and (len(self.labels) < 2 or len(set(self.labels)) != len(self.labels)):
            raise ValueError("labels needs at least two different names")
        if "f1" in self.metrics and (
            len(self.labels) != 2 or self.positive_label not in self.labels
        ):
            raise ValueError(
                "metric f1 needs two labels and positive_label, one of them; else macro_f1"
            )
        unknown = (
            sorted(set(self.local.label_names.values()) - set(self.labels)) if self.local else []
        )
        if unknown:
            raise ValueError(f"local.label_names leads to {unknown}, which labels does not hold")
        return self


class Model(Section):
    """Which pretrained encoder: a registry package, a local folder or a hub id.

    `lr` holds the learning rates that suit methods on this encoder; `full` is always there, and is
    also what a method without a rate of its own gets. `untrained` names modules that the checkpoint
    holds but that no training ever reached: they are drawn anew and belong to the head. `pooling`
    is how the encoder itself makes a vector of a sentence.
    """

    name: str = Field(pattern=r"^[A-Za-z0-9._-]+$")
    package: str | None = None
    name_or_path: str | None = None
    revision: str | None = None
    sha256: str | None = Field(default=None, pattern=r"^[0-9a-f]{64}$")
    untrained: list[str] = []
    pooling: Pooling = "cls"
    lr: dict[str, Annotated[float, Field(gt=0)]]

    @model_validator(mode="after")
    def _names_the_baselines_rate(self) -> Model:
        if "full" not in self.lr:
            raise ValueError("lr needs the rate of full fine-tuning, as model.lr.full")
        return self


class Data(Section):
    """Which source the task's data comes from, and how much of it is used.

    `text` and `glue_dir` are for tasks that train on text of another source.
    """

    source: Literal["auto", "local", "hub", "embedded"]
    dir: str | None = None
    revision: str | None = None
    train_size: int | None = Field(default=None, ge=2)
    eval_size: int | None = Field(default=None, ge=2)
    seed: int = Field(default=0, ge=0)
    malformed_rows: Literal["error", "skip"] = "error"
    text: str | list[str] | None = None
    glue_dir: str | None = None


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
    schedule: Literal["linear", "constant"]
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
    """Which weights are reported: the last ones, or those best on a part cut from train."""

    name: Literal["final", "select"]
    fraction: float | None = Field(default=None, gt=0, lt=1)

    @model_validator(mode="after")
    def _fraction_belongs_to_select(self) -> Protocol:
        if (self.name == "select") != (self.fraction is not None):
            raise ValueError("fraction is set for protocol=select and null for protocol=final")
        return self


_Decay = Annotated[float, Field(ge=0, lt=1)]
_Positive = Annotated[float, Field(gt=0)]


class AdamW(Section):
    """AdamW: torch's, with bias correction; adamw_nobc without it, as BERT was first tuned."""

    name: Literal["adamw", "adamw_nobc"]
    betas: list[_Decay] = Field(min_length=2, max_length=2)
    eps: _Positive

    @property
    def gradients_a_step(self) -> int:
        return 1


class SuperAdam(Section):
    """SUPER-ADAM; `lr` is its effective rate at the start. See runners/super_adam.py."""

    name: Literal["super_adam"]
    tau: Literal[0, 1]
    k: _Positive
    m: _Positive
    c: _Positive | None
    beta: _Decay
    lam: _Positive
    matrix: Literal["coordinate", "amsgrad", "norm", "coordinate_norm", "barzilai_borwein"]
    bias_correction: bool
    decay: Literal["own", "budget"]

    @property
    def gradients_a_step(self) -> int:
        return 1 + self.tau

    @model_validator(mode="after")
    def _consistent(self) -> SuperAdam:
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


class Checkpoint(Section):
    """How often a run saves its state, to go on from when it was killed; null: not by that."""

    minutes: float | None = Field(gt=0)
    steps: int | None = Field(ge=1)


class Settings(Section):
    """Everything but the methods."""

    task: Task
    model: Model
    data: Data
    budget: Budget
    protocol: Protocol
    optimizer: AdamW | SuperAdam = Field(discriminator="name")
    speed: Speed
    checkpoint: Checkpoint
    seed: int = Field(ge=0, lt=2**32)
    lr: float | None = Field(default=None, gt=0)
    precision: Precision | None = None
    device: str = Field(pattern=r"^(auto|cpu|mps|cuda(:\d+)?)$")
    threads: int | None = Field(default=None, ge=1)
    out: str
    force: bool
    save: Literal["delta", "sentence-transformers"] | None
    eval: str | None
    verify: str | None
    embed: str | None
    text: str | None


@dataclass(frozen=True)
class RunConfig:
    """A checked configuration: the settings and the methods in the order typed."""

    settings: Settings
    methods: tuple[Method, ...]

    @property
    def lr(self) -> float:
        """The learning rate: `lr=`, else the parameter method's, any method's, the model's."""
        if self.settings.lr is not None:
            return self.settings.lr
        ordered = sorted(self.methods, key=lambda m: "parameters" not in m.owns)
        return next((m.lr for m in ordered if m.lr is not None), self.settings.model.lr["full"])

    @property
    def precision(self) -> Precision:
        """fp32 or bf16: `precision=`, else the budget's."""
        return self.settings.precision or self.settings.budget.precision

    @property
    def training_text(self) -> TrainingText:
        """What the methods train on: the task's own examples, or sentences of another source."""
        return next((m.training_text for m in self.methods if m.represents), "labelled")

    @property
    def method_names(self) -> tuple[str, ...]:
        return tuple(m.name for m in self.methods)

    def method_options(self) -> list[dict[str, Any]]:
        """Return name, version and options of each method; the learning rate stands apart."""
        listed = []
        for method in self.methods:
            options = {
                f.name: getattr(method, f.name)
                for f in dataclasses.fields(method)
                if f.init and f.name != "lr" and not _as_before(method, f.name)
            }
            listed.append({"name": method.name, "version": method.version, **options})
        return listed


def _as_before(method: Method, option: str) -> bool:
    """Say whether an option that came later has the value at which it changes nothing."""
    return option in method.added and getattr(method, option) == method.added[option]


def check(composed: Mapping[str, Any]) -> RunConfig:
    """Turn a composed configuration into a RunConfig; one UserError names every problem."""
    settings_input = {k: v for k, v in composed.items() if k not in NOT_SETTINGS}
    problems: list[str] = []
    settings: Settings | None = None
    try:
        settings = Settings.model_validate(_use_named_weights(settings_input))
    except ValidationError as error:
        problems += _sentences(error, "", settings_input)
    methods: list[Method] = []
    named = composed.get("method") or {}
    if not named:
        problems.append("no method is named; use method=full, method=bitfit, method=[a,b]")
    for name, options in named.items():
        cls = method_class(str(name))
        try:
            methods.append(_build_method(cls, options or {}))
        except ValidationError as error:
            problems += _sentences(error, f"method.{name}.", options)
    if not problems:
        problems += composition_problems(methods)
    if settings is not None and not problems:
        problems += _kind_problems(settings, methods)
    if settings is not None and settings.optimizer.gradients_a_step > 1:
        problems += [
            f"optimizer=super_adam optimizer.tau=1 with method={m.name}: a step computes two"
            f" gradients of a batch under the same noise, and {m.name} draws or edits anew at each;"
            " use optimizer.tau=0"
            for m in methods
            if acts_at_steps(type(m))
        ]
    if problems or settings is None:
        lead = f"{len(problems)} problems in this config: " if len(problems) > 1 else ""
        raise UserError(lead + "; ".join(problems))
    return RunConfig(settings, tuple(methods))


def _kind_problems(settings: Settings, methods: list[Method]) -> list[str]:
    """Say where a task of kind similarity meets no method that makes vectors, or the reverse."""
    task = settings.task
    represent = [m.name for m in methods if m.represents]
    if task.kind == "similarity" and not represent:
        known = ", ".join(n for n, cls in registered().items() if cls.represents)
        return [
            f"task={task.name} compares vectors of sentences, which"
            f" method={','.join(m.name for m in methods)} does not make; add one of {known}"
        ]
    if task.kind != "similarity" and represent:
        return [
            f"method={represent[0]} makes vectors of sentences; task={task.name} has labels: use"
            " task=sts"
        ]
    if task.kind != "similarity" and settings.save == "sentence-transformers":
        return [f"save=sentence-transformers is for task=sts; task={task.name} takes save=delta"]
    return []


def from_record(stored: Mapping[str, Any]) -> RunConfig:
    """Return the configuration that a record or a delta holds, of this version or an older one."""
    named = stored["method"]
    if not isinstance(named, Mapping):
        named = {m["name"]: {k: v for k, v in m.items() if k != "name"} for m in named}
    options = {
        name: {k: v for k, v in given.items() if k != "version"} for name, given in named.items()
    }
    return check({**_ADDED_SINCE, **stored, "method": options})


# What the configuration of a record or a delta lacks, or because there was no such choice then.
_ADDED_SINCE: dict[str, Any] = {
    "optimizer": {"name": "adamw", "betas": [0.9, 0.999], "eps": 1e-8},
    "speed": {"fast_dropout": False},
    "checkpoint": {"minutes": None, "steps": None},
    "out": "results/runs",
    "force": False,
    "save": None,
    "eval": None,
    "verify": None,
    "embed": None,
    "text": None,
    "threads": None,
}


def _build_method(cls: type[Method], options: Mapping[str, Any]) -> Method:
    """Check options against the types of a method's dataclass, strictly, and return the method."""
    hints = get_type_hints(cls, include_extras=True)
    fields: dict[str, Any] = {
        f.name: (hints[f.name], getattr(cls, f.name, ...))
        for f in dataclasses.fields(cls)
        if f.init
    }
    schema = create_model(cls.__name__, __base__=Section, **fields)
    checked = schema.model_validate(dict(options))
    return cls(**{name: getattr(checked, name) for name in fields})


def _use_named_weights(settings: dict[str, Any]) -> dict[str, Any]:
    """Let `model.name_or_path=` on a packaged model replace the package altogether."""
    model = settings.get("model")
    if not (isinstance(model, Mapping) and model.get("package") and model.get("name_or_path")):
        return settings
    path = str(model["name_or_path"])
    name = (
        re.sub(r"[^A-Za-z0-9._-]+", "-", path.rstrip("/").rsplit("/", 1)[-1]).strip("-.") or "model"
    )
    return {
        **settings,
        "model": {**model, "package": None, "sha256": None, "untrained": [], "name": name},
    }


def _sentences(error: ValidationError, prefix: str, given: Any) -> list[str]:
    found = []
    for item in error.errors():
        # Union members appear in the location as type names; they say nothing to a user.
        parts = [
            str(p)
            for i, p in enumerate(item["loc"])
            if not (i == 1 and item["loc"][0] == "optimizer")  # the name, already said
            and not re.search(r"[\[\]()]|^(int|float|str|literal|function)", str(p))
        ]
        key = prefix + ".".join(parts)
        found.append(_sentence(key, item, given))
    return list(dict.fromkeys(found))


def _sentence(key: str, item: Mapping[str, Any], given: Any) -> str:
    context = item.get("ctx", {})
    value = item["input"]
    kind = item["type"]
    if kind in ("extra_forbidden", "unexpected_keyword_argument"):
        return f"no key called '{key}'"
    if kind in ("missing", "missing_argument"):
        return f"{key} is missing"
    if kind == "value_error":
        return f"{key}: {context['error']}"
    reasons = {
        "greater_than": "must be > {gt:g}",
        "greater_than_equal": "must be ≥ {ge:g}",
        "less_than": "must be < {lt:g}",
        "less_than_equal": "must be ≤ {le:g}",
        "finite_number": "must be a finite number",
        "float_type": "must be a number",
        "int_type": "must be a whole number",
        "int_from_float": "must be a whole number",
        "bool_type": "must be true or false",
        "string_type": "must be text",
        "literal_error": "known: {expected}",
        "string_pattern_mismatch": "must match {pattern}",
    }
    reason = reasons.get(kind, str(item["msg"])).format(**context)
    if kind == "literal_error":
        known = re.findall(r"'([^']*)'", context["expected"])
        if not known:
            return f"{key}={value!r} (known: {context['expected']})"
        reason = nearest(str(value), known).lstrip("; ") if value is not None else reason
        reason = f"{reason} known: {', '.join(known)}" if reason.startswith("did you") else reason
    return f"{key}={value!r} ({reason})"
