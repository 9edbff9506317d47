"""Trains and scores one job, and fills in its record."""

from __future__ import annotations

import contextlib
import gc
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from safetensors import SafetensorError

from results.record import Record
from runners.exports.card import model_card
from runners.exports.delta import save_delta
from runners.exports.logits import save_logits
from runners.exports.model import NotPlain, check_plain, export_model
from runners.exports.sentence_transformers import check_exportable, export
from runners.jobs.job import Job
from runners.machine.console import say
from runners.machine.device import (
    choose_device,
    computes_bf16,
    make_accelerator,
    make_deterministic,
    peak_bytes,
    reset_peak,
)
from runners.machine.environment import (
    describe_environment,
    machine_of,
    of_machines,
    of_several,
)
from runners.machine.processes import Stopped, stoppable
from runners.machine.trackers import Logged, Trackers
from runners.models.about import source_of
from runners.models.build import (
    count_parameters,
    stored_bytes,
    trained_sha256,
)
from runners.models.pretrained import Loaded
from runners.runs.again import Again, rounded
from runners.speed.levers import Levers
from runners.tasks.classification import Classification
from runners.tasks.doctor import examine
from runners.tasks.kind import Diverged
from runners.tasks.kinds import encode, kind_of
from runners.tasks.metrics import headline
from runners.tasks.scoring import Scoring
from runners.tasks.slices import slices_of
from runners.training.added import with_added_rows
from runners.training.checkpoint import Checkpoints
from runners.training.course import Course, Saving
from runners.training.filtered import with_filtered_rows
from runners.training.loop import Loop
from runners.training.prepare import Prepared, prepare
from runners.training.schedule import idle_line
from runners.training.start import build_model
from runners.training.watch import Watch


def train_and_score(
    job: Job, blank: Record, began: float, again: Again, ending: contextlib.ExitStack
) -> Record:
    """Run a job from pretrained weights to scores, or to divergence.

    `began` is when the command did, by time.perf_counter(). Raises Differs where it is done `again`
    and comes to another result. Once all steps are done, a signal waits for the end of `ending`:
    the training would be lost with the record.
    """
    settings = job.config.settings
    accelerator = make_accelerator(choose_device(settings.device), job.config)
    make_deterministic()
    device = str(accelerator.device)
    if job.config.precision == "bf16" and not computes_bf16(device):
        say("precision=bf16: this CPU only emulates it, many times slower than precision=fp32")
    blank.environment.update(  # in place: a record of a failure says it too
        describe_environment(device, job.config.precision)
        | Levers(settings.speed.switches, device).facts(None)
    )
    job = with_filtered_rows(job, accelerator, blank.data)  # in place, as above
    job = with_added_rows(job, accelerator, blank.data)
    if settings.data.awaits_rows:  # it may have been done now, or by an earlier run
        gc.collect()
        reset_peak(device)
    if len(job.data.train) and settings.budget.trains:
        return _train(job, accelerator, blank, began, again, ending)
    return _score_untrained(job, accelerator, blank, began, again)


def _score_untrained(
    job: Job, accelerator: Accelerator, blank: Record, began: float, again: Again
) -> Record:
    """Score a model that nothing is trained of."""
    config, kind = job.config, kind_of(job.config)
    loaded = build_model(job, 0)
    encoded = encode(kind, job, loaded)
    examination = examine(job, kind, encoded, loaded.tokenizer)
    blank.data["doctor"] = examination.facts
    for line in examination.warning_lines():
        say(line)
    model = loaded.model.to(accelerator.device)
    record = _prepared(job, blank, model, loaded)
    record = replace(record, train_seconds=0.0, startup_seconds=_since(began))
    if not config.settings.budget.trains:  # whatever could train
        none = dict.fromkeys(("trainable", "trainable_without_head", "training_only"), 0)
        record = replace(record, parameters={**(record.parameters or {}), **none}, stored_bytes=0)
    scoring = Scoring(job, kind, encoded, accelerator)
    try:
        scores = scoring(model, list(job.data.report), 0)
    except Diverged as diverged:
        return replace(_measured(job, record, scoring), status="diverged", error=_error(diverged))
    record = replace(
        record,
        status="finished",
        score=headline(config.settings.task, scores),
        scores=scores,
        undefined={k: v for k, v in scoring.undefined.items() if v},
        predictions=scoring.predictions,
    )
    with contextlib.closing(Trackers(_logged(job, blank))) as trackers:
        trackers.scores(0, scores)
    record = _measured(job, record, scoring)
    again.check(record)
    return _write_beside(job, record, model, loaded, scoring)


def _logged(job: Job, blank: Record, after: int | None = None) -> Logged:
    """Return what is logged of a job; `after` is the step that it goes on from."""
    settings = job.config.settings
    return Logged(settings.log, Path(settings.out), job.name, blank.config, after)


def _train(
    job: Job,
    accelerator: Accelerator,
    blank: Record,
    began: float,
    again: Again,
    ending: contextlib.ExitStack,
) -> Record:
    settings = job.config.settings
    checkpoints = Checkpoints(Path(settings.out), job.name, say)
    saved = checkpoints.newest()
    after = None if saved is None else saved[0]
    with contextlib.closing(Trackers(_logged(job, blank, after))) as trackers:
        prepared = prepare(job, accelerator, anew=saved is None)
        loop = prepared.loop
        _examine(job, prepared, blank)
        gc.freeze()  # what was imported stays for good: the collector need not look at it again
        gc.enable()
        initial = trained_sha256(loop.model) if saved is None else saved[1]["initial_sha256"]
        record = replace(
            _prepared(job, blank, loop.model, prepared.loaded),
            steps=loop.steps,
            initial_sha256=initial,
        )
        startup_seconds = _since(began)
        loop.start(prepared.encoded)
        record.environment |= loop.levers.facts(loop.model)
        scoring = Scoring(job, prepared.kind, prepared.encoded, accelerator, loop.evaluation())
        course = Course(loop, scoring, job.config, initial, Watch(loop, trackers))
        course.began, course.startup_seconds = began, startup_seconds
        course.code = [{key: record.environment.get(key) for key in ("commit", "dirty")}]
        course.machines = [
            {
                **machine_of(record.environment),
                **{f"speed.{key}": on for key, on in settings.speed.switches.items()},
            }
        ]
        if saved is not None:
            course.load_state_dict(saved[1])
            say(f"goes on from the checkpoint of step {loop.step} of {loop.steps}")
        record = _followed(course, checkpoints, record, again, ending)
        record.environment |= loop.levers.facts(loop.model)  # what came of it, too
        record.environment |= of_several(course.code) | of_machines(course.machines)
    loop.finish()
    record = _measured(job, replace(record, **_course_facts(course)), scoring)
    if record.status == "finished":
        again.check(record)
        record = _write_beside(job, record, loop.model, prepared.loaded, scoring)
    return record


def _examine(job: Job, prepared: Prepared, blank: Record) -> None:
    """Say what is to be known before training; keep in the record what is of the data."""
    examination = examine(job, prepared.kind, prepared.encoded, prepared.loaded.tokenizer)
    blank.data["doctor"] = examination.facts  # in place: a record of a failure says it too
    for line in examination.lines():
        say(line)
    loop = prepared.loop
    if (idle := idle_line(loop.budget, loop.factor, loop.steps)) is not None:
        say(idle)


def _followed(
    course: Course,
    checkpoints: Checkpoints,
    record: Record,
    again: Again,
    ending: contextlib.ExitStack,
) -> Record:
    """Take a course to its end; return the record with its status and scores.

    The first SIGINT or SIGTERM ends it after a checkpoint, where there is a command that goes on.
    One that comes when its steps are done and scored waits for the end of `ending`.
    """
    config, loop = course.config, course.loop
    saving = Saving(course, checkpoints, config.settings.checkpoint)

    def after_step() -> None:
        again.look(loop.progress.losses)
        saving()

    try:
        course.run(after_step, ending.enter_context(stoppable(not config.stored)))
        if course.stopped is not None:
            say("stopped at step {step} of {of}: {why}".format(**course.stopped))
        return replace(course.result(record), status="finished")
    except Diverged as diverged:
        return replace(record, status="diverged", error=_error(diverged))
    except Stopped as stopped:
        kept = checkpoints.save(loop.step, course.state_dict())
        state = "in a checkpoint" if kept else "in none"
        on = f"goes on{' from there' if kept else ''}: {record.command}"
        if config.settings.force:
            on = "begins anew, as force=true says"
            on += "; without it, where no result is stored, it goes on from there" if kept else ""
        stopped.end(
            f"stopped at step {loop.step} of {loop.steps}, which is {state}; the same command {on}"
        )


def _error(diverged: Diverged) -> dict[str, Any]:
    return {"type": "Diverged", "message": str(diverged), "step": diverged.step}


def _prepared(job: Job, record: Record, model: Any, loaded: Loaded) -> Record:
    """Return the record with what a prepared model says; refuse an export that it cannot have."""
    if job.config.settings.save == "sentence-transformers":
        check_exportable(job.config, model)
    elif job.config.settings.save == "model":
        check_plain("save=model", loaded, job.config)
    methods = job.config.methods
    return replace(
        record,
        weights={k: v for k, v in (record.weights | dict(loaded.facts)).items() if v != []},
        parameters=count_parameters(model, loaded.head, methods),
        stored_bytes=stored_bytes(model, methods),
        steps=0,
    )


def _since(began: float) -> float:
    return round(time.perf_counter() - began, 3)


def _course_facts(course: Course) -> dict[str, Any]:
    """Return the record's fields on the way that training took."""
    loop: Loop = course.loop
    progress, losses = loop.progress, loop.progress.losses
    seconds = progress.train_seconds
    return {
        "evaluations": course.evaluations,
        "steps": course.steps,
        "stopped": course.stopped,
        "losses": [rounded(loss) for loss in losses],
        "startup_seconds": round(course.startup_seconds, 3),
        "whole_seconds": round(course.earlier_seconds, 3),
        "resumed": course.resumed,
        "micro_batch": loop.micro_batch,
        "preparation_seconds": round(loop.preparation_seconds, 3),
        "trained_sha256": trained_sha256(loop.model),
        "train_loss": float(np.mean(losses[-100:])) if losses else None,
        "train_seconds": round(seconds, 3),
        "tokens_per_second": round(progress.real_tokens / seconds, 1) if seconds else None,
        "real_token_share": round(progress.real_tokens / max(1, progress.padded_tokens), 4),
    }


def _measured(job: Job, record: Record, scoring: Scoring) -> Record:
    """Return the record with what is known at the end of every run.

    A CPU's peak holds that of the model that makes, labels or drops rows, whose work some runs only
    read: theirs is not known.
    """
    device = str(scoring.evaluation.accelerator.device)
    own = not job.config.settings.data.awaits_rows or device.startswith("cuda")
    return replace(
        record,
        eval_seconds=round(scoring.seconds, 3),
        peak_bytes=peak_bytes(device) if own else None,
        method_reports={m.name: report for m in job.config.methods if (report := m.report())},
        slices=slices_of(job, record.predictions),
    )


def _write_beside(
    job: Job, record: Record, model: torch.nn.Module, loaded: Loaded, scoring: Scoring
) -> Record:
    """Write drawings and what is to be saved; scores must not be lost, so failing only warns.

    Return the record with what it says of these files.
    """
    config, run = job.config, job.name
    path = Path(config.settings.out) / run
    source = source_of(run, record.trained_sha256)
    try:
        for method in config.methods:
            for name, content in method.drawings().items():
                path.with_name(f"{run}.{name}").write_bytes(content)
        if config.settings.save == "delta":
            path = path.with_name(f"{run}.delta")
            save_delta(path, model, loaded.head, job)
        elif config.settings.save == "model":
            path = path.with_name(f"{run}.model")
            card = model_card(run, config, job.weights, record)
            export_model(path, loaded, config, card, source)
        elif config.settings.save == "sentence-transformers":
            path = path.with_name(f"{run}.sentence-transformers")
            export(path, model, loaded, config, source)
        elif isinstance(scoring.kind, Classification) and config.settings.save == "logits":
            path = path.with_name(f"{run}.logits.npz")
            kept = _own_logits(job, scoring.kind)
            record = replace(record, logits_sha256=save_logits(path, kept))
    except (OSError, SafetensorError, NotPlain) as error:
        say(f"warning: {path} could not be written ({error})")
    except Exception as error:
        say(f"warning: {path} could not be written ({error!r})")
    return record


def _own_logits(job: Job, kind: Classification) -> dict[str, Any]:
    """Return the logits of report splits; a further set's answers are in another task's labels."""
    further = job.config.settings.task.further
    return {name: kind.logits[name] for name in job.data.report if name not in further}
