"""Trains and scores one job, and fills in its record."""

from __future__ import annotations

import gc
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from accelerate import Accelerator
from safetensors import SafetensorError

from results.record import Record, Status
from runners.config.check import RunConfig
from runners.data.split import TaskData
from runners.exports.delta import save_delta
from runners.exports.sentence_transformers import check_exportable, export
from runners.machine.console import say
from runners.machine.device import (
    choose_device,
    computes_bf16,
    make_accelerator,
    make_deterministic,
    peak_bytes,
)
from runners.machine.environment import describe_environment
from runners.models.build import (
    apply_methods,
    count_parameters,
    load_pretrained,
    stored_bytes,
    trained_sha256,
)
from runners.models.pretrained import Loaded
from runners.models.weights import Weights
from runners.speed.first_token import narrowed
from runners.tasks.kind import Diverged
from runners.tasks.kinds import make_collators, make_scoring
from runners.tasks.metrics import headline
from runners.training.checkpoint import Checkpoints
from runners.training.course import Course, Saving
from runners.training.prepare import prepare, trim_vocabulary


def train_and_score(
    config: RunConfig, data: TaskData, weights: Weights, blank: Record, began: float
) -> Record:
    """Run a configuration from pretrained weights to scores, or to divergence."""
    accelerator = make_accelerator(choose_device(config.settings.device), config)
    make_deterministic()
    device = str(accelerator.device)
    environment = describe_environment(device, config.precision)
    if config.precision == "bf16" and not computes_bf16(device):
        say("precision=bf16: this CPU only emulates it, many times slower than precision=fp32")
    if not len(data.train):
        blank = replace(blank, environment=environment)
        return _score_untrained(config, data, weights, accelerator, blank, began)
    checkpoints = Checkpoints(Path(config.settings.out), blank.run, say)
    found = checkpoints.newest()
    loop, collators, loaded = prepare(config, data, weights, accelerator, anew=found is None)
    if config.settings.save == "sentence-transformers":
        check_exportable(config, loaded.model)
    gc.freeze()  # what was imported stays for good: the collector need not look at it again
    gc.enable()
    filled = replace(
        blank,
        environment={**environment, "first_token": narrowed(loop.model)},
        parameters=count_parameters(loop.model, loaded.head, config.methods),
        stored_bytes=stored_bytes(loop.model, config.methods),
        steps=loop.steps,
        initial_sha256=trained_sha256(loop.model) if found is None else found[1]["initial_sha256"],
        startup_seconds=round(time.perf_counter() - began, 3),
    )
    if config.settings.speed.trim_vocabulary:
        trim_vocabulary(loop, collators)
        filled.environment["vocabulary_rows"] = loop.vocabulary and len(loop.vocabulary.rows)
    scoring = make_scoring(config, data, collators, accelerator)
    course = Course(loop, scoring, config, str(filled.initial_sha256))
    if found is not None:
        course.load_state_dict(found[1])
        say(f"goes on from the checkpoint of step {loop.step} of {loop.steps}")
    status: Status = "finished"
    try:
        course.run(Saving(course, checkpoints, config.settings.checkpoint))
        filled = course.result(filled)
    except Diverged as diverged:
        status = "diverged"
        filled.error = {"type": "Diverged", "message": str(diverged), "step": diverged.step}
    loop.restore_vocabulary()
    seconds = loop.progress.train_seconds
    filled = replace(
        filled,
        status=status,
        evaluations=course.evaluations,
        losses=[float(f"{loss:.9g}") for loss in loop.progress.losses],
        resumed=course.resumed,
        micro_batch=loop.micro_batch,
        preparation_seconds=round(loop.preparation_seconds, 3),
        trained_sha256=trained_sha256(loop.model),
        train_loss=float(np.mean(loop.progress.losses[-100:])) if loop.progress.losses else None,
        train_seconds=round(seconds, 3),
        eval_seconds=round(scoring.seconds, 3),
        tokens_per_second=round(loop.progress.real_tokens / seconds, 1) if seconds else None,
        real_token_share=round(loop.progress.real_tokens / max(1, loop.progress.padded_tokens), 4),
        peak_bytes=peak_bytes(device),
        method_reports={m.name: report for m in config.methods if (report := m.report())},
    )
    if status == "finished":
        _write_beside(config, loop.model, loaded, weights, filled.run)
    return filled


def _score_untrained(
    config: RunConfig,
    data: TaskData,
    weights: Weights,
    accelerator: Accelerator,
    blank: Record,
    began: float,
) -> Record:
    """Score a model that nothing is trained of."""
    loaded = apply_methods(config, load_pretrained(config, weights), weights, 0)
    collators = make_collators(config, data, loaded, weights)
    if config.settings.save == "sentence-transformers":
        check_exportable(config, loaded.model)
    model = loaded.model.to(accelerator.device)
    filled = replace(
        blank,
        parameters=count_parameters(model, loaded.head, config.methods),
        stored_bytes=0,
        steps=0,
        train_seconds=0.0,
        startup_seconds=round(time.perf_counter() - began, 3),
    )
    scoring = make_scoring(config, data, collators, accelerator)
    scores = scoring(model, list(data.report), 0)
    filled = replace(
        filled,
        status="finished",
        score=headline(config.settings.task, scores),
        scores=scores,
        undefined={k: v for k, v in scoring.undefined.items() if v},
        predictions=scoring.predictions,
        eval_seconds=round(scoring.seconds, 3),
        peak_bytes=peak_bytes(str(accelerator.device)),
        method_reports={m.name: report for m in config.methods if (report := m.report())},
    )
    _write_beside(config, model, loaded, weights, filled.run)
    return filled


def _write_beside(
    config: RunConfig, model: torch.nn.Module, loaded: Loaded, weights: Weights, run: str
) -> None:
    """Write drawings and what is to be saved; scores must not be lost, so failing only warns."""
    path = Path(config.settings.out) / run
    try:
        for method in config.methods:
            for name, content in method.drawings().items():
                path.with_name(f"{run}.{name}").write_bytes(content)
        if config.settings.save == "delta":
            path = path.with_name(f"{run}.delta")
            save_delta(path, model, loaded.head, config, weights, run)
        elif config.settings.save == "sentence-transformers":
            path = path.with_name(f"{run}.sentence-transformers")
            export(path, model, loaded, config)
    except (OSError, SafetensorError) as error:
        print(f"warning: {path} could not be written ({error})", file=sys.stderr)
