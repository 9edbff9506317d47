"""A job's record before it begins, and its training, whatever becomes of it."""

from __future__ import annotations

import contextlib
import shlex
import traceback
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from results.errors import UserError
from results.places import program
from results.record import Record
from runners.config.places import naming, portable, portable_all
from runners.config.settings import Settings
from runners.config.spelling import without_marks
from runners.config.task import Task
from runners.config.typed import CONFIG_DIR
from runners.data.class_weights import class_weights
from runners.data.load import describe, describe_all
from runners.jobs.identity import HARNESS_VERSION
from runners.jobs.job import Job
from runners.jobs.start_version import start_version
from runners.runs.again import Again


def now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


def blank_record(job: Job, arguments: Sequence[str]) -> Record:
    """Return the record of a run that has not begun."""
    config, data, weights = job.config, job.data, job.weights
    settings = config.settings
    start = {} if job.predecessor is None else {"start": {**job.predecessor.facts, **_version(job)}}
    return Record(
        run=job.name,
        status="failed",
        command=f"{program()} {shlex.join(_recorded(arguments))}".rstrip(),
        methods=list(config.method_names),
        task=settings.task.name,
        model=settings.model.name,
        seed=settings.seed,
        budget=settings.budget.name,
        protocol=settings.protocol.name,
        config={
            **_within_data(job.named_settings).model_dump(),
            "method": config.method_options(),
            "lr": config.lr,
            "precision": config.precision,
            **_start(job),
        },
        data={
            "source": data.source,
            "reason": portable(data.reason),
            "revision": data.revision,
            "splits": describe_all(data),
            **_parts(job),
            **_class_weights(job),
            **({} if data.text is None else {"text": portable_all(data.text)}),
            **({} if data.drawn_from is None else {"drawn_from": data.drawn_from}),
            **_mined(job),
            **portable_all(_added(job)),
        },
        weights=portable_all(weights.facts | start),
        environment={"harness": HARNESS_VERSION},
        start=now(),
    )


def _parts(job: Job) -> dict[str, Any]:
    """Return what is kept of the training sets of a mixture's tasks, and how they are drawn."""
    mixture, parts = job.config.settings.task.mixture, job.data.parts
    if mixture is None or parts is None:
        return {}
    kept = {name: describe(split, complete) for name, (split, complete) in parts.items()}
    return {"parts": kept, "draw": mixture.draw}


def _class_weights(job: Job) -> dict[str, Any]:
    """Return what each class counts for, where classes do not count alike."""
    weights = class_weights(job.config.settings.task, job.data.train)
    if weights is None:
        return {}
    return {"class_weights": dict(zip(job.config.settings.task.labels, weights, strict=True))}


def _mined(job: Job) -> dict[str, Any]:
    """Return what is known of mined rows, and the method that says which of them stay."""
    if job.data.mined is None:
        return {}
    answers = job.config.zero_shot
    by = {} if answers is None else {"filter": answers.method_options()[0]}
    return {"mined": portable_all(job.data.mined) | by}


def _added(job: Job) -> dict[str, Any]:
    """Return what is known of rows that are added to train, before they are labelled or made."""
    adds, facts = job.config.settings.data.adds, dict[str, Any]()
    if adds is None:
        return {}
    if job.teacher is not None:
        facts["teacher"] = job.teacher.facts
    if (offered := job.data.offered) is not None:
        facts["offered"] = {
            "rows": len(offered.rows),
            "sha256": offered.texts_alone.sha256,
            "left_out_as_evaluated": offered.left_out,
        }
    if job.generator is not None:
        facts["generator"] = job.generator.facts
    if job.data.evaluated is not None:
        facts["evaluated"] = {"sha256": job.data.evaluated.sha256}
    return {adds: facts}


def _start(job: Job) -> dict[str, Any]:
    """Return the configuration's start with the name of its run, wherever that was found."""
    if job.predecessor is None:
        return {}
    return {"start": {**job.config.settings.start.model_dump(), "run": job.predecessor.run}}


def _version(job: Job) -> dict[str, int]:
    """Return what a run's name says of how it starts from another, where that is not the first."""
    version = start_version(job.config, job.weights, job.predecessor)
    return {} if version == 1 else {"version": version}


def _within_data(settings: Settings) -> Settings:
    """Return settings in which the files of a task that lie in data.dir are named from there."""
    if settings.data.dir is None:
        return settings
    folder = Path(settings.data.dir).absolute()

    def named(place: Any) -> Any:
        if isinstance(place, dict):
            return {name: named(inner) for name, inner in place.items()}
        if not isinstance(place, str) or not Path(place).is_relative_to(folder):
            return place
        return str(Path(place).relative_to(folder))

    def moved(files: Any, *fields: str) -> Any:
        return files and files.model_copy(update={f: named(getattr(files, f)) for f in fields})

    def within(task: Task) -> Task:
        places = {
            "local": moved(task.local, "train", "report", "where_present"),
            "pairs": {name: moved(files, "folder", "file") for name, files in task.pairs.items()},
            "selection": moved(task.selection, "folder", "file"),
        }
        if task.mlm is not None:
            tasks = {name: within(one) for name, one in task.mlm.tasks.items()}
            places["mlm"] = task.mlm.model_copy(update={"tasks": tasks})
        if task.mixture is not None:
            tasks = {name: within(one) for name, one in task.mixture.tasks.items()}
            places["mixture"] = task.mixture.model_copy(update={"tasks": tasks})
        if task.further:
            places["further"] = {
                name: moved(one, "dir").model_copy(
                    update={"definition": one.definition and within(one.definition)}
                )
                for name, one in task.further.items()
            }
        return task.model_copy(update=places)

    return settings.model_copy(update={"task": within(settings.task)})


def _recorded(arguments: Sequence[str]) -> list[str]:
    """Return a command's arguments as a record holds them: no home folder, no working folder."""
    here = str(Path.cwd()).rstrip("/") + "/"
    before = ["", *arguments]
    return [
        portable(one.removeprefix(here) if last in CONFIG_DIR else without_marks(one))
        for last, one in zip(before, arguments, strict=False)
    ]


def _explained(error: Exception, settings: Settings) -> str:
    """Return an error's message, short and without the places of this machine."""
    text = str(error)
    for place, name in ((settings.data.dir, "DATA_DIR"), (settings.out, "OUT")):
        if place is not None and Path(place).is_absolute():
            text = naming(place).sub(name, text)
    return portable(text)[:2000]


def train(
    job: Job,
    blank: Record,
    began: float,
    again: Again | None = None,
    ending: contextlib.ExitStack | None = None,
) -> Record:
    """Return the record of the training; only a user's mistake and an interruption get past it.

    `began` is when the command did, by time.perf_counter(). A run that is done `again` and differs
    from its stored result raises Differs before anything is saved. A signal that comes when all
    steps are done waits for the end of a block by `ending`.
    """
    from runners.runs.train import train_and_score

    try:
        with contextlib.ExitStack() as own:
            return train_and_score(job, blank, began, again or Again(), ending or own)
    except UserError:
        raise
    except Exception as error:
        traceback.print_exc()
        from runners.machine.environment import commit

        message = _explained(error, job.config.settings)
        facts: dict[str, Any] = {"type": type(error).__name__, "message": message}
        return replace(
            blank, status="failed", error=facts, environment={**blank.environment, **commit()}
        )
