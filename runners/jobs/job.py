"""A job: one configuration with its data, its weights and its name, each read once."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

from methods.method import TrainingText
from runners.config.check import RunConfig
from runners.config.settings import Protocol, Settings
from runners.config.unlabelled import Generated, Mine, Pseudo
from runners.data.attributes import Known, known_values
from runners.data.load import describe, describe_all, load_task_data
from runners.data.split import Split, TaskData
from runners.jobs.identity import HARNESS_VERSION, run_name
from runners.machine.console import say
from runners.models.generator import find_generator
from runners.models.learned import (
    Rows,
    check_rows,
    content_of,
    holds_out,
    rows_of,
    seen_by,
    with_taught,
)
from runners.models.predecessor import Predecessor, chain_name, find_predecessor
from runners.models.teacher import find_teacher
from runners.models.weights import Weights, find_weights


@dataclass(frozen=True)
class Job:
    """What is run, verified, evaluated, embedded, estimated or planned, passed as one thing.

    Data and weights are read when they are first asked for; what is wrong with them is a UserError
    then. A job that only scores (`trains` false) reads no text to train on where its kind of task
    keeps that apart. Jobs that share a `shelf` read the same data and the same weights once.
    `known` are the values of attributes that a stored model knows; else they are those of train.
    Where rows that another run labelled are known, `given` is the configuration without what
    follows.
    """

    config: RunConfig
    trains: bool = True
    shelf: dict[str, Any] = field(default_factory=dict, repr=False, compare=False)
    known: Known | None = None
    given: RunConfig | None = None

    @cached_property
    def weights(self) -> Weights:
        """The pretrained encoder's files and their hashes."""
        model = self.config.settings.model
        key = repr(model)
        if key not in self.shelf:
            self.shelf[key] = find_weights(model)
        weights: Weights = self.shelf[key]
        for method in self.config.methods:
            method.model_known(weights.architecture)
        return weights

    @cached_property
    def data(self) -> TaskData:
        """The splits of the run's task."""
        settings, text = self.config.settings, self._text
        seed = settings.seed if settings.data.seed == "seed" else 0
        of_run, protocol = settings.data, settings.protocol
        unmined = not self.trains and of_run.mine.source is not None
        if not self.trains:  # what is scored does not follow from how rows were come by
            plain = {"pseudo": Pseudo(), "generated": Generated(), "mine": Mine()}
            of_run = of_run.model_copy(update=plain)
        if unmined:  # the task's own train may have fewer rows than were drawn, and was not read
            of_run = of_run.model_copy(update={"train_size": None, "shots": None})
            protocol = Protocol(name="final")
        parts = (settings.task, of_run, protocol, text, seed)
        key = repr((parts, unmined))
        if key not in self.shelf:
            own = load_task_data(*parts)
            self.shelf[key] = _without_overlap(own) if unmined else own
            _warn_of_overlap(settings.task.name, self.shelf[key])
        data: TaskData = self.shelf[key]
        return data

    @cached_property
    def attributes(self) -> Known:
        """The values that the model knows of each attribute; none where no method reads them."""
        if not self.config.reads_attributes:
            return {}
        if self.known is not None:
            return self.known
        return known_values(self.config.settings.task, self.data.train)

    @cached_property
    def predecessor(self) -> Predecessor | None:
        """The run that this one starts from; None where it starts from the pretrained files."""
        before = find_predecessor(self.config.settings, self.weights)
        if before is not None:
            self.check_start(f"start={self.config.settings.start.run}", before.facts["chain"])
        return before

    @cached_property
    def rows(self) -> Rows:
        """What tells the rows that the run learns from, of each task whose labels it sees."""
        settings, data = self.config.settings, self.data
        splits = {name: split.sha256 for name, split in data.splits().items()}
        splits |= {f"{name}/train": part.sha256 for name, (part, _) in (data.parts or {}).items()}
        return rows_of(settings.task.model_dump(), settings.data.model_dump(), data.source, splits)

    @cached_property
    def content(self) -> str:
        """What a chain tells of what the run learns from, whatever its seed."""
        config, data, _ = self.config, self.data, self.weights  # by which methods know versions
        learned = {"method": config.method_options(), "data": config.settings.data.model_dump()}
        added = {
            "teacher": None if self.teacher is None else self.teacher.facts,
            "offered": data.offered and {"sha256": data.offered.texts_alone.sha256},
            "generator": None if self.generator is None else self.generator.facts,
        }
        mined = {} if data.all_mined is None else {"sha256": data.all_mined.sha256}
        mined |= {} if config.zero_shot is None else {"filter": ""}
        parts = {name: describe(part, None) for name, (part, _) in (data.parts or {}).items()}
        own = {"splits": describe_all(data), "parts": parts, "drawn_from": data.drawn_from}
        return content_of(learned, {**own, "mined": mined, "pseudo": added}, HARNESS_VERSION)

    @property
    def stages(self) -> list[dict[str, Any]]:
        """What a chain will say of the rows of this run, and of those that it starts from."""
        before = [] if self.predecessor is None else self.predecessor.facts["chain"]
        taught = [] if self.teacher is None else seen_by(self.teacher.facts["chain"])
        task = chain_name(self.config.settings.task.model_dump())
        return [*before, {"task": task, "rows": with_taught(self.rows, taught)}]

    def check_start(self, where: str, stages: Iterable[Mapping[str, Any]]) -> None:
        """Refuse a start from runs that may have learned from what this one is judged by.

        Which mined rows stay where a model says so, and are held out, is known too late for that.
        """
        settings = self.config.settings
        judges = self.trains and not self.config.stored and holds_out(settings)
        if judges and settings.data.mine.filter is None:
            check_rows(where, stages, self.rows)

    @cached_property
    def teacher(self) -> Predecessor | None:
        """The run that labels rows for this one; None where there is none."""
        settings = self.config.settings
        if settings.data.teacher is None:
            return None
        selection = None if self.data.selection is None else self.data.selection.sha256
        return find_teacher(settings, self.data.train.sha256, selection)

    @cached_property
    def generator(self) -> Weights | None:
        """The language model's files that makes rows for this run; None where none does."""
        key = f"generator {self.config.settings.data.generated.generator}"
        if key not in self.shelf:
            self.shelf[key] = find_generator(self.config.settings)
        generator: Weights | None = self.shelf[key]
        return generator

    @property
    def named_settings(self) -> Settings:
        """The settings that were given, in which a teacher has its run's name."""
        settings = (self.given or self.config).settings
        if self.teacher is None:
            return settings
        return settings.model_copy(update={"data": settings.data.taught_by(self.teacher.run)})

    @property
    def _text(self) -> TrainingText:
        if not self.trains and self.config.settings.task.facts.vectors:
            return "nothing"
        return self.config.training_text

    @cached_property
    def name(self) -> str:
        """The run's name, by which its record is found."""
        return run_name(
            self.config, self.data, self.weights, self.predecessor, self.teacher, self.generator
        )

    def training_on(self, train: Split, steps: int | None = None) -> Job:
        """Return this run, by its name, with other rows to train on, or another number of steps.

        They follow from what the name is made from.
        """
        settings = self.config.settings
        if steps is not None:
            budget = settings.budget.model_copy(update={"steps": steps})
            settings = settings.model_copy(update={"budget": budget})
        config = replace(self.config, settings=settings)
        job = replace(self, config=config, given=self.given or self.config)
        vars(job)["rows"] = self.rows
        return job._known_as(self, replace(self.data, train=train))

    def learning_from(self, data: TaskData) -> Job:
        """Return this run, by its name, on other data, which follow from what that is made from."""
        return replace(self)._known_as(self, data)

    def _known_as(self, other: Job, data: TaskData) -> Job:
        names = ("weights", "predecessor", "teacher", "generator", "name")
        vars(self).update({name: getattr(other, name) for name in names}, data=data)
        return self


def _without_overlap(data: TaskData) -> TaskData:
    """Return data of which nothing is said to be among the rows trained on."""
    report = {name: replace(split, also_in_train=0) for name, split in data.report.items()}
    return replace(data, report=report)


def _warn_of_overlap(task: str, data: TaskData) -> None:
    """Say in a line how many examples that are scored are among those trained on."""
    counts = [
        f"{split.also_in_train:,} of {len(split):,} examples of {name}"
        for name, split in data.splits().items()
        if split.also_in_train
    ]
    if counts:
        say(
            f"OVERLAP: task={task}: {', '.join(counts)} are in train too (equal texts, runs of"
            " white space aside); the record counts them"
        )
