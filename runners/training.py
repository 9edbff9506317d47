"""Trains and scores one checked configuration, and fills in its record."""

from __future__ import annotations

import gc
import hashlib
import sys
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from safetensors import SafetensorError

from results.errors import UserError
from results.record import Record, Status
from runners.batches import Collator, Labels, Order
from runners.build import apply_methods, count_parameters, load_pretrained, stored_bytes
from runners.checkpoint import Checkpoints
from runners.config import RunConfig
from runners.course import Course, Saving, Scoring
from runners.delta import save_delta
from runners.environment import (
    choose_device,
    computes_bf16,
    describe_environment,
    make_deterministic,
    peak_bytes,
)
from runners.examples import Split, TaskData
from runners.first_token import narrowed
from runners.loop import Diverged, Loop, total_steps
from runners.metrics import headline
from runners.models import Loaded, count_embeddings
from runners.products import route_products
from runners.run import say
from runners.sentences import SentenceCollator, SimilarityScoring, make_sentence_collators
from runners.tokens import tokenize
from runners.vectors import check_exportable, export
from runners.weights import Weights

Collators = Mapping[str, Collator] | Mapping[str, SentenceCollator]


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


def make_accelerator(device: str, config: RunConfig) -> Accelerator:
    """Return accelerate's handle on one device, in place of an earlier run's; route products."""
    AcceleratorState._reset_state(reset_partial_state=True)
    mixed = "bf16" if config.precision == "bf16" else "no"
    route_products(config.settings.speed.onednn, device, config.precision)
    if device.startswith("cuda"):
        torch.cuda.set_device(device)
        torch.cuda.reset_peak_memory_stats()
    return Accelerator(cpu=device == "cpu", mixed_precision=mixed)


def prepare(
    config: RunConfig,
    data: TaskData,
    weights: Weights,
    accelerator: Accelerator,
    *,
    anew: bool = True,
    preparing: int | None = None,
) -> tuple[Loop, Collators, Loaded]:
    """Load, tokenise, let the methods prepare; return the loop before its first step.

    A run that goes on (`anew` false) loads what its methods saw of the training batches instead;
    with `preparing`, they see only so many.
    """
    settings, budget = config.settings, config.settings.budget
    loaded = load_pretrained(config, weights)
    alike = Order(settings.seed, np.ones(len(data.train), dtype=np.int64), budget.batch_size)
    loaded = apply_methods(config, loaded, weights, total_steps(budget, alike))
    collators = make_collators(config, data, loaded, weights)
    if settings.save == "sentence-transformers":
        check_exportable(config, loaded.model)
    lengths = collators["train"].tokens.lengths
    order = Order(settings.seed, lengths, budget.batch_size, budget.length_bucket, budget.buckets)
    loaded.model.to(accelerator.device)
    loop = Loop(
        loaded.model,
        config.methods,
        collators["train"],
        order,
        budget,
        config.lr,
        settings.optimizer,
        accelerator,
        settings.speed.prefetch,
        settings.speed.release_memory,
    )
    if anew:
        loop.prepare_methods(preparing)
    return loop, collators, loaded


def make_collators(
    config: RunConfig, data: TaskData, loaded: Loaded, weights: Weights
) -> Collators:
    """Tokenise every split, or take the tokens from the cache; the methods have been prepared."""
    if config.settings.task.kind == "similarity":
        return make_sentence_collators(config, data, loaded.tokenizer, weights)
    length, regression = config.settings.budget.max_length, config.settings.task.kind
    return {
        name: _collator(split, loaded, weights, length, regression == "regression")
        for name, split in data.splits().items()
    }


def trim_vocabulary(loop: Loop, collators: Collators) -> None:
    """Leave out the word embedding's rows that no split asks for, where that changes nothing."""
    plain = [c for c in collators.values() if isinstance(c, Collator)]
    if len(plain) == len(collators):
        loop.trim_vocabulary([c.tokens.input_ids for c in plain], plain[0].pad_id)


def make_scoring(
    config: RunConfig, data: TaskData, collators: Any, accelerator: Accelerator
) -> Scoring | SimilarityScoring:
    """Return what scores a model on the splits of the run's task."""
    similar = config.settings.task.kind == "similarity"
    return (SimilarityScoring if similar else Scoring)(config, data, collators, accelerator)


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


def _collator(
    split: Split, loaded: Loaded, weights: Weights, max_length: int, regression: bool
) -> Collator:
    tokens = tokenize(split, loaded.tokenizer, weights, max_length)
    highest = int(tokens.input_ids.max())
    rows = count_embeddings(loaded.model)
    if highest >= rows:
        raise UserError(
            f"model {weights.name_or_path}: its tokenizer gives token ids up to {highest}, its"
            f" embedding has {rows} rows; the two do not belong together"
        )
    labels: Labels | None = None
    if split.labels is not None and regression:
        labels = np.asarray(split.labels, dtype=np.float32)
    elif split.labels is not None:
        labels = np.asarray(split.labels, dtype=np.int64)
    tokenizer = loaded.tokenizer
    assert isinstance(tokenizer.pad_token_id, int)
    return Collator(tokens, labels, tokenizer.pad_token_id, tokenizer.padding_side == "left")


def trained_sha256(model: torch.nn.Module) -> str:
    """Hash the trained tensors, by name and bytes; equal for two runs that agree to the bit."""
    digest = hashlib.sha256()
    for name, parameter in sorted(model.named_parameters()):
        if parameter.requires_grad:
            digest.update(f"{name}\0{tuple(parameter.shape)}\0".encode())
            digest.update(parameter.detach().cpu().contiguous().numpy().data)
    return digest.hexdigest()


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
