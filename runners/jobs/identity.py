"""A run's name: a hash of everything that can change its score, and of nothing else.

Output folders, devices, thread counts and where files lie stay out. A changed default, label, text,
weight or method version is another run; the same run asked for in other words is the same, where
what the words say shows before the model is loaded.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from results.errors import UserError
from results.record import Record
from results.tables.conditions import harness
from runners.config.check import RunConfig, from_record
from runners.config.settings import Data, Settings, Start
from runners.config.task import Further, Mixture, Task
from runners.data.class_weights import class_weights
from runners.data.split import TaskData
from runners.jobs.start_version import start_version
from runners.models.predecessor import Predecessor
from runners.models.sides import turned_in
from runners.models.weights import Weights

HARNESS_VERSION = (
    2  # raised when a change of the loop, the batches or the metrics can change a score
)


PSEUDO_VERSION = 1  # raised when other rows would get a pseudo-label
GENERATED_VERSION = 1  # raised when other rows would be made
FILTER_VERSION = 1  # raised when other mined rows would stay


OLD_BUCKETS = 16  # as every run had before it could be chosen; those keep their names


@dataclass(frozen=True)
class Inputs:
    """What a run is made from besides its configuration: its source, and hashes.

    `splits` are those of the data, `weights` and `model_files` of the pretrained files. `has_head`
    says whether these hold a task's head, and `turned` which sides of the tokenizer a run does not
    follow. `start` is the run that the encoder comes from, and its hash, `start_version` that of
    how it does, and `class_weights` are what each label counts for in the loss. `teacher` is the
    run that labels rows, or says which stay, and its hash; `offered` is the hash of rows without
    labels, `generator` those of the language model that makes rows, `evaluated` that of the texts
    that no row may have, and `mined` that of mined rows before a filter and draws.
    """

    source: str
    splits: Mapping[str, str]
    weights: str
    model_files: str
    has_head: bool
    turned: Sequence[str] = ()
    start: tuple[str, str] | None = None
    start_version: int = 1
    class_weights: Sequence[float] | None = None
    teacher: tuple[str, str] | None = None
    offered: str | None = None
    generator: tuple[str, str] | None = None
    evaluated: str | None = None
    mined: str | None = None


def identity(config: RunConfig, inputs: Inputs) -> dict[str, Any]:
    """Return what the name is made from, JSON-ready."""
    settings = config.settings
    budget = settings.budget.model_dump(exclude={"name", "precision"})
    if not any(method.mixes_examples for method in config.methods):
        del budget["eval_batch_size"]
    if budget["buckets"] == OLD_BUCKETS:
        del budget["buckets"]
    if budget["truncate"] == "head":  # as in every run before it could be chosen
        del budget["truncate"]
    if budget["steps"] is not None:
        budget["epochs"] = None
    task = settings.task
    # A head in the pretrained files was kept once where its shapes fitted.
    head = {"head": "drawn"} if inputs.has_head and task.facts.head == "texts" else {}
    masked = {} if task.mlm is None else {"mlm": task.mlm.model_dump(exclude={"tasks"})}
    sides = turned_in(inputs.turned, settings.budget.truncate)
    turned = {"turned": sides} if sides else {}  # once the tokenizer's files decided that
    start = {} if inputs.start is None else {"start": _start(inputs, settings.start)}
    control = settings.control.model_dump(include={"equal", "stages"})
    of_task = task.model_dump(include=_OF_A_TASK)
    of_task |= _read_of(config, task)
    if task.mixture is not None:
        of_task["kind"] = "mixture"  # as that kind was called first
    return {
        **head,
        **turned,
        **start,
        **masked,
        **({} if task.mixture is None else {"mixture": _mixture(config, task.mixture)}),
        **({"further": _further(task)} if task.further else {}),
        **({} if inputs.class_weights is None else {"class_weights": list(inputs.class_weights)}),
        **_added(inputs, settings.data),
        **_filtered(inputs, config),
        **({"draw": "seed"} if settings.data.seed == "seed" else {}),
        **({"control": control} if settings.control.equal is not None else {}),
        "harness": HARNESS_VERSION,
        "methods": config.method_options(),
        "lr": config.lr,
        "precision": config.precision,
        "budget": budget,
        "protocol": settings.protocol.model_dump(exclude=_unused(settings)),
        "task": of_task,
        "source": inputs.source,
        "splits": _known(inputs.splits, config),
        "weights": inputs.weights,
        "model_files": inputs.model_files,
        "optimizer": settings.optimizer.model_dump(),
        "fast_dropout": settings.speed.fast_dropout,
        "untrained": sorted(settings.model.untrained),
        "seed": settings.seed,
    }


def _unused(settings: Settings) -> set[str]:
    """Return which of a protocol's two ways to find rows to select by another one replaces."""
    if settings.data.shots is not None:
        return {"rows", "fraction"}
    return {"rows" if settings.protocol.rows is None else "fraction"}


_OF_A_TASK = {
    *("name", "version", "kind", "text", "options", "labels", "positive_label", "metrics"),
    *("diagnostics", "attributes"),
}


def _read_of(config: RunConfig, task: Task) -> dict[str, Any]:
    """Return the sections of a task that the methods read, and what decides their answers."""
    read = frozenset[str]().union(*(m.reads for m in config.methods))
    own = task.model_dump(include={*read})
    if "prompt" in read and task.range is not None:
        own["range"] = list(task.range)
    return own


def _mixture(config: RunConfig, mixture: Mixture) -> dict[str, Any]:
    tasks = [
        task.model_dump(include=_OF_A_TASK) | _read_of(config, task)
        for task in mixture.tasks.values()
    ]
    return {"draw": mixture.draw, "tasks": tasks}


def _further(task: Task) -> dict[str, Any]:
    """Return what decides the scores of further sets besides their examples."""
    return {
        name: {
            "merge": one.merge,
            "labels": one.definition.labels if one.definition else [],
            "metrics": one.definition.metrics if one.definition else [],
            **({} if one.definition is None else _positive(one.definition)),
            **({} if one.definition is None else _of_diagnostic(name, one, one.definition)),
        }
        for name, one in task.further.items()
    }


def _of_diagnostic(name: str, one: Further, theirs: Task) -> dict[str, list[str]]:
    """Return a set's own metrics, unless they are those that its name stood for before."""
    own, before = (theirs.diagnostics.get(n, theirs.metrics) for n in (one.own_split, name))
    return {} if own == before else {"own_metrics": list(own)}


def _positive(task: Task) -> dict[str, str]:
    """Return the label that F1 is of, unless it is the second, as in every task of this project."""
    label = task.positive_label
    if label is None or "f1" not in task.metrics or task.labels.index(label) == 1:
        return {}
    return {"positive_label": label}


def _start(inputs: Inputs, start: Start) -> dict[str, Any]:
    assert inputs.start is not None
    run, sha256 = inputs.start
    version = inputs.start_version
    return {
        "run": run,
        "sha256": sha256,
        "head": start.head,
        **({"freeze": True} if start.freeze else {}),
        **({} if version == 1 else {"version": version}),
    }


def _added(inputs: Inputs, data: Data) -> dict[str, Any]:
    """Return what decides which rows are added to those that are trained on."""
    if data.adds is None:
        return {}
    if data.adds == "pseudo":  # the hash of what is offered says how much of it there is
        own = {**data.pseudo.model_dump(exclude={"pool"}), "offered": inputs.offered}
        version = PSEUDO_VERSION
    else:
        own = {**data.generated.model_dump(), "generator": inputs.generator}
        own |= {"evaluated": inputs.evaluated}
        version = GENERATED_VERSION
    return {data.adds: {**own, "teacher": inputs.teacher, "version": version}}


def _filtered(inputs: Inputs, config: RunConfig) -> dict[str, Any]:
    """Return what decides which mined rows stay, and which of those a run learns from."""
    if config.zero_shot is None:
        return {}
    settings = config.settings
    return {
        "mine": {
            "rows": inputs.mined,
            "filter": config.zero_shot.method_options()[0],
            "read": _read_of(config.zero_shot, config.zero_shot.settings.task),
            "version": FILTER_VERSION,
            **settings.data.mine.model_dump(include={"per_class", "balance"}),
            **settings.data.model_dump(include={"train_size", "shots"}),
            "balanced": settings.data.balanced != "none",
            "draw": settings.data.train_seed(settings.seed),
        }
    }


def _known(splits: Mapping[str, str], config: RunConfig) -> dict[str, str]:
    """Return the hashes of splits that are there before the model has answered any row."""
    later = set() if config.filter is None else {"train", "selection"}
    return {name: sha256 for name, sha256 in splits.items() if name not in later}


LONGEST = 215  # bytes: .NAME.TOKEN.draft, of a claim, is 40 more, and a file's name has 255


def run_name(
    config: RunConfig,
    data: TaskData,
    weights: Weights,
    predecessor: Predecessor | None = None,
    teacher: Predecessor | None = None,
    generator: Weights | None = None,
) -> str:
    """Return TASK.METHODS.MODEL.sSEED.HASH: readable in front, exact at the end.

    One that is too long for the files of a run is a UserError.
    """
    settings = config.settings
    inputs = inputs_of(settings.task, data, weights, predecessor, teacher, generator)
    inputs = replace(inputs, start_version=start_version(config, weights, predecessor))
    name = _name(config, identity(config, inputs))
    if (size := len(name.encode())) > LONGEST:
        key = max(("model", "task"), key=lambda part: len(getattr(settings, part).name))
        raise UserError(
            f"{key}.name={getattr(settings, key).name}: the run's name has {size} bytes, and the"
            f" names of its files have room for {LONGEST}; give {key}.name= a shorter one"
        )
    return name


def inputs_of(
    task: Task,
    data: TaskData,
    weights: Weights,
    predecessor: Predecessor | None = None,
    teacher: Predecessor | None = None,
    generator: Weights | None = None,
) -> Inputs:
    """Return what a run is made from, as it was read."""
    return Inputs(
        source=data.source,
        splits={name: split.sha256 for name, split in data.splits().items()},
        weights=weights.sha256,
        model_files=weights.files_sha256,
        has_head=bool(weights.head),
        turned=weights.turned,
        start=None if predecessor is None else (predecessor.run, predecessor.sha256),
        class_weights=class_weights(task, data.train),
        teacher=None if teacher is None else (teacher.run, teacher.sha256),
        offered=None if data.offered is None else data.offered.texts_alone.sha256,
        generator=None if generator is None else (generator.sha256, generator.files_sha256),
        evaluated=None if data.evaluated is None else data.evaluated.sha256,
        mined=None if data.all_mined is None else data.all_mined.sha256,
    )


def recorded_name(record: Record) -> str:
    """Return the name that a record's run has by what the record holds, without its files.

    The versions of the harness and of the methods are those that the record says.
    """
    weights, splits = record.weights, record.data["splits"]
    before, weighed = weights.get("start"), record.data.get("class_weights")
    added = record.data.get("pseudo") or record.data.get("generated") or {}
    teacher, offered = added.get("teacher"), added.get("offered")
    generator = added.get("generator")
    inputs = Inputs(
        source=record.data["source"],
        splits={name: facts["sha256"] for name, facts in splits.items()},
        weights=weights["sha256"],
        model_files=weights["files_sha256"],
        has_head=bool(weights.get("unused_head")),
        turned=weights.get("turned", ()),
        start=None if before is None else (before["run"], before["sha256"]),
        start_version=(before or {}).get("version", 1),
        class_weights=None if weighed is None else list(weighed.values()),
        teacher=None if teacher is None else (teacher["run"], teacher["sha256"]),
        offered=None if offered is None else offered["sha256"],
        generator=None if generator is None else (generator["sha256"], generator["files_sha256"]),
        evaluated=(added.get("evaluated") or {}).get("sha256"),
        mined=(record.data.get("mined") or {}).get("sha256"),
    )
    config = from_record(record.config)
    facts = identity(config, inputs)
    stored = record.config["method"]
    listed = stored.values() if isinstance(stored, Mapping) else stored
    for method, said in zip(facts["methods"], listed, strict=True):
        method["version"] = said.get("version", method["version"])
    if "mine" in facts:
        facts["mine"]["filter"]["version"] = record.data["mined"]["filter"]["version"]
    return _name(config, {**facts, "harness": int(harness(record))})


def _name(config: RunConfig, facts: dict[str, Any]) -> str:
    text = json.dumps(facts, sort_keys=True, ensure_ascii=False)
    digest = hashlib.sha256(text.encode()).hexdigest()[:12]
    settings = config.settings
    parts = [
        settings.task.name,
        "+".join(config.method_names),
        settings.model.name,
        f"s{settings.seed}",
        digest,
    ]
    return ".".join(parts)
