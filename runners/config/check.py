"""Checks a composed configuration whole, before anything is loaded."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, get_type_hints

from pydantic import Field, ValidationError, create_model

from methods.method import Method, TaskFacts, TrainingText
from methods.registry import (
    acts_at_steps,
    composition_problems,
    method_class,
    registered,
    unread_problems,
)
from methods.surgery.representation import Representation
from results.errors import UserError
from runners.config.acts import NOT_THE_RUNS
from runners.config.budget_problems import budget_problems
from runners.config.kinds import Head
from runners.config.mine_filter import filter_of, filter_problems, untrained
from runners.config.privacy import privacy_problems
from runners.config.problems import sentences
from runners.config.refusals import empty_problems, task_problems, text_problems
from runners.config.saving import save_problems
from runners.config.section import Section
from runners.config.settings import Precision, Settings
from runners.config.task import READ, Task
from runners.config.trackers import tracker_problems
from runners.config.typed import is_typed
from runners.config.unlabelled_problems import unlabelled_problems


@dataclass(frozen=True)
class RunConfig:
    """A checked configuration: the settings and the methods in the order typed.

    A `stored` one was not typed: it is of a record or a delta. `filter` is the method by which the
    model says, before it is trained, which mined rows stay.
    """

    settings: Settings
    methods: tuple[Method, ...]
    stored: bool = False
    filter: Method | None = None

    @property
    def zero_shot(self) -> RunConfig | None:
        """The run that says which mined rows stay: by that method alone, without a step."""
        if self.filter is None:
            return None
        return RunConfig(untrained(self.settings), (self.filter,), self.stored)

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
    def head(self) -> Head:
        """What stands on the encoder: the task's kind says it, or a method."""
        named = (m.model_head for m in self.methods if m.model_head is not None)
        return next(named, self.settings.task.facts.head)

    @property
    def method_names(self) -> tuple[str, ...]:
        return tuple(m.name for m in self.methods)

    @property
    def reads_attributes(self) -> bool:
        """Whether a method needs the attributes of the task."""
        return any("attributes" in m.needs for m in self.methods)

    def method_options(self) -> list[dict[str, Any]]:
        """Return name, version and options of each method; the learning rate stands apart."""
        listed = []
        for method in self.methods:
            options = {
                f.name: getattr(method, f.name)
                for f in dataclasses.fields(method)
                if f.init and f.name != "lr" and not _as_before(method, f.name)
            }
            listed.append(
                {"name": method.name, "version": method.version_beside(self.methods), **options}
            )
        return listed


def _as_before(method: Method, option: str) -> bool:
    """Say whether an option that came later has the value at which it changes nothing."""
    return option in method.added and getattr(method, option) == method.added[option]


def check(composed: Mapping[str, Any], stored: bool = False) -> RunConfig:
    """Turn a composed configuration into a RunConfig; one UserError names every problem.

    A `stored` one is of a record or a delta, which says what was run: it is taken as it is, where
    the same would be refused if it was typed today.
    """
    settings_input = {k: v for k, v in composed.items() if k not in NOT_THE_RUNS}
    problems: list[str] = []
    settings: Settings | None = None
    try:
        settings = Settings.model_validate(settings_input)
    except ValidationError as error:
        problems += sentences(error, "", settings_input, Settings)
    methods: list[Method] = []
    named = composed.get("method") or {}
    if not isinstance(named, Mapping):
        problems.append(f"method={named!r} names no method; use method=full or method=[a,b]")
        named = {}
    elif not named:
        problems.append("no method is named; use method=full, method=bitfit, method=[a,b]")
    for name, options in named.items():
        cls = method_class(str(name))
        if not isinstance(options, Mapping):
            problems.append(f"method.{name}={options!r} takes its options away: leave it out")
            continue
        try:
            methods.append(build_method(cls, options))
        except ValidationError as error:
            problems += sentences(error, f"method.{name}.", options, schema(cls))
    problems += [] if stored else _option_problems(methods)
    if not problems:
        problems += composition_problems(methods, stored)
        problems += [] if stored else [p for m in methods for p in unread_problems(m)]
    answers: Method | None = None
    if settings is not None and not problems:
        answers = filter_of(settings, methods)
        settings = _with_what_is_read(settings, methods if not answers else [*methods, answers])
        problems += _kind_problems(settings, methods) or save_problems(settings, methods)
        for method in methods:
            known = method.task_known(_facts(settings.task))
            problems += [] if problems or stored else known
        if answers is not None:
            known = answers.task_known(_facts(settings.task))
            problems += [] if problems or stored else filter_problems(settings, answers, known)
    if settings is not None and not stored:
        problems += _typed_problems(settings, methods)
        problems += empty_problems(composed)
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
    return RunConfig(settings, tuple(methods), stored, answers)


def _option_problems(methods: Sequence[Method]) -> list[str]:
    """Say what is wrong with typed options; let those that say the same be said in one way."""
    problems = [why for method in methods for why in method.problems()]
    for method in methods:
        method.say_alike()
    return problems


def _typed_problems(settings: Settings, methods: Sequence[Method]) -> list[str]:
    """Say what is refused where it is typed, though a stored configuration may hold it."""
    reads_tokens = any(method.model_head == "tokens" for method in methods)
    problems = task_problems(settings.task, settings.data.source, reads_tokens)
    problems += text_problems(settings.task, settings.data.text)
    problems += budget_problems(settings, methods)
    problems += privacy_problems(settings, methods)
    problems += unlabelled_problems(settings, methods)
    problems += tracker_problems(settings.log)
    if settings.task.mixture is not None and settings.protocol.fraction is not None:
        problems.append("protocol=select: a mixture has no one part to select by; use final")
    return problems


def _with_what_is_read(settings: Settings, methods: Sequence[Method]) -> Settings:
    """Return settings without the sections of the task that no method reads.

    So a task that is given one, or another one, leaves runs that do not read it their names.
    """
    unread = {*READ}.difference(*(m.reads for m in methods))
    return settings.model_copy(update={"task": _without(settings.task, unread)})


def _without(task: Task, sections: Collection[str]) -> Task:
    """Return a task without some sections; of a mixture, each of its tasks without them."""
    left: dict[str, Any] = {
        key: Task.model_fields[key].get_default(call_default_factory=True) for key in sections
    }
    if task.mixture is not None:
        tasks = {name: _without(one, sections) for name, one in task.mixture.tasks.items()}
        left["mixture"] = task.mixture.model_copy(update={"tasks": tasks})
    return task.model_copy(update=left)


def _facts(task: Task, called: str | None = None) -> TaskFacts:
    """Return what methods may know of a task, in a mixture `called` after its file."""
    mixed = {} if task.mixture is None else task.mixture.tasks
    return TaskFacts(
        called or task.name,
        task.kind,
        task.facts.answer,
        tuple(task.text),
        tuple(task.labels),
        None if task.range is None else (task.range[0], task.range[1]),
        None if task.prompt is None else task.prompt.template,
        {} if task.prompt is None else task.prompt.words,
        task.descriptions,
        "" if task.choices is None else task.choices.question,
        {} if task.choices is None else task.choices.options,
        tuple(_facts(one, name) for name, one in mixed.items()),
    )


def _no_plain_classes(task: Task) -> str:
    """Say what a task has in place of one set of classes that count alike; empty where it has."""
    if task.mixture is not None:
        return f"task={task.name} has the classes of several tasks"
    if task.facts.answer != "class":
        return f"task={task.name} has no classes"
    return "task.class_weights lets classes count for more" if task.class_weights else ""


def _kind_problems(settings: Settings, methods: list[Method]) -> list[str]:
    """Say where a task that compares vectors meets no method that makes them, or the reverse."""
    task, vectors = settings.task, settings.task.facts.vectors
    represent = [m.name for m in methods if m.represents]
    if task.facts.head == "tokens":
        problems = [
            f"method={m.name} {m.of_whole_texts}; task={task.name} predicts masked tokens: leave"
            f" {m.name} out"
            for m in methods
            if m.of_whole_texts
        ]
        if problems:
            return problems
    mixed = () if task.mixture is None else task.mixture.tasks.values()
    if not vectors and all(one.facts.answer == "score" for one in mixed or (task,)):
        problems = [
            f"method={m.name} changes the loss of labels; task={task.name} has scores: leave"
            f" {m.name} out"
            for m in methods
            if type(m).criterion is not Method.criterion
        ]
        if problems:
            return problems
    other = _no_plain_classes(task)
    if other:
        problems = [
            f"method={m.name} {m.of_classes}; {other}: leave {m.name} out"
            for m in methods
            if m.of_classes
        ]
        if problems:
            return problems
    if vectors and not represent:
        known = ", ".join(n for n, cls in registered().items() if cls.represents)
        return [
            f"task={task.name} compares vectors of sentences, which"
            f" method={','.join(m.name for m in methods)} does not make; add one of {known}"
        ]
    if represent and not vectors:
        return [
            f"method={represent[0]} makes vectors of sentences; task={task.name} has labels: use"
            " task=sts"
        ]
    if not task.attributes:
        problems = [
            f"method={m.name} reads attributes, and task={task.name} names none: name columns of it"
            " by task.attributes=[COLUMN], or use task=tastes"
            for m in methods
            if "attributes" in m.needs
        ]
        if problems:
            return problems
    if settings.save == "sentence-transformers" and not vectors:
        return [f"save=sentence-transformers is for task=sts; task={task.name} takes save=delta"]
    if settings.save == "logits" and task.facts.answer != "class":
        return [
            "save=logits is for tasks that answer with one of their labels;"
            f" task={task.name} is of kind {task.kind}: leave it out"
        ]
    return []


def from_record(stored: Mapping[str, Any]) -> RunConfig:
    """Return the configuration that a record or a delta holds, of this version or an older one."""
    named = stored["method"]
    if not isinstance(named, Mapping):
        named = {m["name"]: {k: v for k, v in m.items() if k != "name"} for m in named}
    options = {
        name: {k: v for k, v in given.items() if k != "version"} for name, given in named.items()
    }
    return check({**_ADDED_SINCE, **stored, "method": options}, stored=True)


# What the configuration of a record or a delta lacks, or because there was no such choice then.
_ADDED_SINCE: dict[str, Any] = {
    "optimizer": {"name": "adamw", "betas": [0.9, 0.999], "eps": 1e-8},
    "speed": {"fast_dropout": False},
    "checkpoint": {"minutes": None, "steps": None},
    "out": "results/runs",
    "force": False,
    "save": None,
    "threads": None,
}


def build_method(cls: type[Method], options: Mapping[str, Any]) -> Method:
    """Check options against the types of a method's dataclass, strictly, and return the method."""
    checked = schema(cls).model_validate(dict(options))
    return cls(**{name: getattr(checked, name) for name in type(checked).model_fields})


def schema(cls: type[Method]) -> type[Section]:
    """Return the schema of a method's options."""
    hints = get_type_hints(cls, include_extras=True)
    fields: dict[str, Any] = {
        f.name: (hints[f.name], _default(f)) for f in dataclasses.fields(cls) if f.init
    }
    return create_model(cls.__name__, __base__=Section, **fields)


def _default(option: dataclasses.Field[Any]) -> Any:
    """Return an option's default as pydantic takes it; none makes it required."""
    if option.default_factory is not dataclasses.MISSING:
        return Field(default_factory=option.default_factory)
    return ... if option.default is dataclasses.MISSING else option.default


def model_path(command: RunConfig, typed: Sequence[str]) -> str | None:
    """Return where a command says that a stored run's pretrained weights lie now, if it does."""
    return command.settings.model.name_or_path if is_typed(typed, "model.name_or_path") else None


def representation_of(config: RunConfig) -> Representation:
    """Return the method of a run that makes vectors."""
    representation = next(m for m in config.methods if m.represents)
    assert isinstance(representation, Representation)
    return representation
