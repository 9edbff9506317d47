"""The schema of a task: its text, labels and metrics, and where its files lie."""

from __future__ import annotations

import math
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, PlainValidator, model_validator

from results.errors import nearest
from runners.config.kinds import KINDS, KindFacts
from runners.config.places import Place
from runners.config.section import Section
from runners.config.stages import Stage
from runners.config.unlabelled import Mining

Metric = Literal[
    "accuracy",
    "f1",
    "macro_f1",
    "matthews_correlation",
    "pearson",
    "spearmanr",
    "spearmanr_subsets",
]


def _known_kind(name: str) -> str:
    if name == "mixture":  # as it was called first, in configurations that were stored
        return "multitask"
    if name not in KINDS:
        raise ValueError(f"no kind called '{name}'{nearest(name, KINDS)}")
    return name


def _class_weights(weights: Any) -> Any:
    if weights is None or weights == "balanced":
        return weights
    numbers = list(weights.values()) if isinstance(weights, dict) else weights
    able = isinstance(numbers, list) and all(type(n) in (int, float) for n in numbers)
    if not able or not all(0 < n < math.inf for n in numbers):
        raise ValueError("must be balanced, [1, 3], or {LABEL: 3}, each number > 0")
    if isinstance(weights, dict):
        return {str(label): float(n) for label, n in weights.items()}
    return [float(n) for n in numbers]


ClassWeights = Annotated[
    Literal["balanced"] | list[float] | dict[str, float] | None, PlainValidator(_class_weights)
]


READ = ("prompt", "descriptions", "choices")  # sections that a run has if a method reads them
CUT = "validation"  # the part that is cut from train where no file is reported
SEPARATOR = "|"  # between the values of an attribute


class LocalFiles(Section):
    """Where a task's files lie, relative to data.dir; .csv is read with quotes, .tsv without.

    With `split`, that share of train is cut off and reported as validation, in place of files.
    """

    train: Place
    report: dict[str, Place] = Field(default_factory=dict)
    split: float | None = Field(default=None, gt=0, lt=1, exclude_if=lambda share: share is None)
    where_present: dict[str, Place] = Field(default_factory=dict)
    header: bool = True
    columns: dict[str, str | int] = Field(default_factory=dict)
    label_names: dict[str, str] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _reports_something(self) -> LocalFiles:
        if self.split is None and not self.report:
            raise ValueError(
                "report names no file; name one, or cut a part from train by split=0.1"
            )
        if self.split is not None and self.report:
            raise ValueError(
                f"split={self.split} and report ({', '.join(self.report)}) are two ways to have"
                " rows to report on; leave out one of them"
            )
        if self.split is not None and CUT in self.where_present:
            raise ValueError(f"split calls the part that it cuts {CUT}: name where_present's else")
        return self

    @property
    def reported(self) -> list[str]:
        """The names of its report splits."""
        cut = [] if self.split is None else [CUT]
        return [*cut, *self.report, *self.where_present]


class HubFiles(Section):
    """Where a task lies on the hub; another configuration's split is CONFIGURATION/SPLIT."""

    path: str
    name: str | None = None
    train: str = "train"
    report: dict[str, str] = Field(min_length=1)
    where_present: dict[str, str] = Field(default_factory=dict)
    columns: dict[str, str] = Field(default_factory=dict)

    @property
    def reported(self) -> list[str]:
        """The names of its report splits."""
        return [*self.report, *self.where_present]


class Unanswered(Section):
    """A test set without answers, whose columns are named as the task's.

    `local` and `hub` are its file and its split, as those of LocalFiles and HubFiles, and `rows`
    how many the published one has.
    """

    local: Place
    hub: str
    rows: int = Field(ge=1)


class Pairs(Section):
    """Where scored pairs lie: a folder in SentEval's layout, or a tab-separated file; and the hub.

    `columns` counts from 0: first sentence, second sentence, score.
    """

    folder: Place | None = None
    file: Place | None = None
    columns: list[int] = Field(default=[0, 1, 2], min_length=3, max_length=3)
    header: bool = False
    hub: str | None = None
    split: str = "test"

    @model_validator(mode="after")
    def _lies_somewhere(self) -> Pairs:
        if (self.folder is None) == (self.file is None):
            raise ValueError("one of folder and file says where the pairs lie")
        return self


class MaskedText(Section):
    """What a task that predicts masked tokens reads, and how it masks.

    Its text are the lines of `splits` of the tasks named in `on`, whose definitions are in `tasks`,
    or a file of data.text. The share `held_out` of them is reported on. With `shuffle`, the words
    of each line to train on are in random order.
    """

    on: list[str] = Field(default_factory=list)
    splits: list[str] = Field(default_factory=lambda: ["train"], min_length=1)
    tasks: dict[str, Task] = Field(default_factory=dict)
    mask: Literal["token", "whole_word", "macbert"] = "token"
    probability: float = Field(default=0.15, gt=0, lt=1)
    shuffle: bool = False
    held_out: float = Field(default=0.05, gt=0, lt=1)


class Prompt(Section):
    """How a task is put to a model that predicts masked tokens, for methods that read it.

    `template` has columns in braces and one [MASK]; `words` names the word that stands for each
    label, or for the ends `low` and `high` of a range of scores.
    """

    template: str
    words: dict[str, str]


class Choices(Section):
    """A task as a multiple choice, for methods that read it: a question, words for each label.

    Where each row has options of its own, there are none here.
    """

    question: str = ""
    options: dict[str, str] = Field(default_factory=dict)


class Mixture(Section):
    """Tasks that are trained on at once; `draw` is how a batch's task is chosen.

    Their definitions are in `tasks`.
    """

    of: list[str] = Field(default_factory=list)
    draw: Literal["proportional", "sqrt", "even"] = "proportional"
    tasks: dict[str, Task] = Field(default_factory=dict)

    @property
    def power(self) -> float:
        """The power of a task's number of rows that its batches are in proportion to."""
        return {"proportional": 1.0, "sqrt": 0.5, "even": 0.0}[self.draw]


class Further(Section):
    """A set of another task's that is reported and never trained on.

    `definition` is that task's, and `split` one of its report splits, the first where none is
    named; its files lie below `dir`, or where the task's own do. `merge` leads from the labels of
    the task that is trained on to those of this one, where their names are not the same.
    """

    task: str
    split: str | None = None
    dir: Place | None = None
    merge: dict[str, str] = Field(default_factory=dict)
    definition: Task | None = None

    @property
    def own_split(self) -> str:
        """What the other task calls the set; nothing where it names none, as one of no files."""
        reported = self.definition.reported if self.definition else []
        return self.split or next(iter(reported), "")


class Task(Section):
    """What a task is: its text columns, labels by name, metrics, and sources.

    `options` names the columns of an example's options, where its kind has some; `labels` then
    names the options in the same order. A task of a kind that compares vectors has sets of scored
    `pairs` instead of labelled splits, and `selection` is the set that protocol=select chooses by.
    One of a kind that predicts masked tokens has a section `mlm`. `stages` are trained on before
    it, each from what the one before left. `test` sets are not scored, as they have no answers:
    each bears the name of the file of answers that a leaderboard takes. One that is `generated` has
    no other source than the embedded data. An `arm_of` another task is that one with other rows to
    train on, among which are those of the tasks in `rows_of`. `further` sets of other tasks are
    reported, each by itself. A kind of several tasks has them in `mixture`. `attributes` names
    categorical columns that a method may read besides the text; `separator` stands between several
    values of a cell, null where a cell is one value.
    `class_weights` say what each class counts for in the loss: as rare as it is in train
    (balanced), or a number for each of the labels. `prompt`, `descriptions`, a sentence for each
    label, and `choices` are for methods that read them; a run of others leaves them out. `mine`
    says how its rows are mined from other text, where data.mine asks for that.
    """

    name: str = Field(pattern=r"^[A-Za-z0-9_-]+$")
    version: int = Field(default=1, ge=1)
    kind: Annotated[str, AfterValidator(_known_kind)] = "classification"
    text: list[str] = Field(min_length=1, max_length=2)
    options: list[str] = Field(default_factory=list, exclude_if=lambda names: not names)
    attributes: list[str] = Field(default_factory=list, exclude_if=lambda names: not names)
    separator: str | None = Field(
        default=SEPARATOR, min_length=1, exclude_if=lambda text: text == SEPARATOR
    )
    labels: list[str] = Field(default_factory=list)
    positive_label: str | None = None
    class_weights: ClassWeights = Field(default=None, exclude_if=lambda weights: weights is None)
    range: list[float] | None = Field(default=None, min_length=2, max_length=2)
    metrics: list[Metric] = Field(min_length=1)
    diagnostics: dict[str, list[Metric]] = Field(default_factory=dict)
    local: LocalFiles | None = None
    hub: HubFiles | None = None
    mixture: Mixture | None = Field(default=None, exclude_if=lambda part: part is None)
    further: dict[str, Further] = Field(default_factory=dict, exclude_if=lambda sets: not sets)
    arm_of: str | None = Field(default=None, exclude_if=lambda name: name is None)
    rows_of: list[str] = Field(default_factory=list, exclude_if=lambda names: not names)
    generated: bool = Field(default=False, exclude_if=lambda generated: not generated)
    rows: dict[str, int] = Field(default_factory=dict)
    pairs: dict[str, Pairs] = Field(default_factory=dict)
    selection: Pairs | None = None
    mlm: MaskedText | None = Field(default=None, exclude_if=lambda part: part is None)
    prompt: Prompt | None = Field(default=None, exclude_if=lambda part: part is None)
    descriptions: dict[str, str] = Field(default_factory=dict, exclude_if=lambda named: not named)
    choices: Choices | None = Field(default=None, exclude_if=lambda part: part is None)
    mine: Mining | None = Field(default=None, exclude_if=lambda part: part is None)
    stages: list[Stage] = Field(default_factory=list, exclude=True)
    test: dict[str, Unanswered] = Field(default_factory=dict, exclude=True)

    @property
    def facts(self) -> KindFacts:
        """What its kind is."""
        return KINDS[self.kind]

    @property
    def outputs(self) -> list[str]:
        """What its head gives: an output for each class, or one for a score, of every task."""
        if self.mixture is not None:
            each = self.mixture.tasks.items()
            return [f"{name} {output}" for name, task in each for output in task.outputs]
        return self.labels if self.facts.answer == "class" else ["score"]

    def of_split(self, split: str) -> tuple[Task, str]:
        """Return the task that a report split is of, and what that task calls it."""
        if (further := self.further.get(split)) is not None and further.definition is not None:
            return further.definition, further.own_split
        if self.mixture is not None:
            name, _, own = split.partition("/")
            return self.mixture.tasks[name], own
        return self, split

    @property
    def reported(self) -> list[str]:
        """The names of its report splits, wherever it lies."""
        files = [f for f in (self.local, self.hub) if f is not None]
        return list(dict.fromkeys(name for f in files for name in f.reported))

    @property
    def columns(self) -> list[str]:
        """Every column of an example's texts: text, then options."""
        return [*self.text, *self.options]

    @model_validator(mode="after")
    def _fits_its_kind(self) -> Task:
        wrong = [m for m in self.metrics if m not in self.facts.metrics]
        if wrong:
            raise ValueError(f"metrics {wrong} do not suit kind={self.kind}")
        if self.facts.answer == "score" and self.labels:
            raise ValueError(f"labels are not for kind={self.kind}, whose answers have a range")
        if self.facts.answer == "token" and self.labels:
            raise ValueError(f"labels are not for kind={self.kind}, whose answers are tokens")
        if self.facts.vectors != bool(self.pairs):
            able = ", ".join(name for name, facts in KINDS.items() if facts.vectors)
            raise ValueError(f"pairs, at least one set, is for kind={able} and for no other")
        if (self.facts.answer == "several") != (self.mixture is not None):
            able = ", ".join(n for n, facts in KINDS.items() if facts.answer == "several")
            raise ValueError(f"a section mixture is for kind={able} and for no other")
        if (self.facts.answer == "token") != (self.mlm is not None):
            able = ", ".join(n for n, facts in KINDS.items() if facts.answer == "token")
            raise ValueError(f"a section mlm is for kind={able} and for no other")
        if self.facts.answer != "option":
            if self.options:
                able = ", ".join(n for n, facts in KINDS.items() if facts.answer == "option")
                raise ValueError(f"options are for kind={able}")
        elif len(self.options) != len(self.labels):
            raise ValueError(
                f"options names {len(self.options)} columns and labels {len(self.labels)} names;"
                " each option needs both"
            )
        return self

    @model_validator(mode="after")
    def _weighs_its_classes(self) -> Task:
        weights = self.class_weights
        if weights is None:
            return self
        if self.facts.answer != "class":
            able = ", ".join(name for name, facts in KINDS.items() if facts.answer == "class")
            raise ValueError(f"class_weights is for kind={able}; kind={self.kind} has no classes")
        if isinstance(weights, list) and len(weights) != len(self.labels):
            raise ValueError(
                f"class_weights has {len(weights)} numbers and labels {len(self.labels)} names;"
                " give one for each, in that order"
            )
        if isinstance(weights, dict) and weights.keys() != set(self.labels):
            differ = ", ".join(sorted(weights.keys() ^ set(self.labels)))
            raise ValueError(
                f"class_weights names other labels than labels does ({differ}); give each of"
                f" {', '.join(self.labels)} a number"
            )
        return self

    @model_validator(mode="after")
    def _can_be_mined(self) -> Task:
        if self.mine is not None and (problems := [*self.mine.problems(self.text, self.labels)]):
            raise ValueError("; ".join(problems))
        return self

    @model_validator(mode="after")
    def _names_its_labels(self) -> Task:
        distinct = len(set(self.labels)) == len(self.labels)
        named = self.facts.answer in ("class", "option")
        if named and (len(self.labels) < 2 or not distinct):
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


MaskedText.model_rebuild()
Mixture.model_rebuild()
Further.model_rebuild()
