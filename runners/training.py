"""Trains and scores one checked configuration, and fills in its record."""

from __future__ import annotations

import gc
import hashlib
import sys
import time
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
from runners.config import RunConfig
from runners.delta import save_delta
from runners.environment import choose_device, describe_environment, make_deterministic, peak_bytes
from runners.evaluation import predict
from runners.examples import Split, TaskData
from runners.loop import Diverged, Loop, evaluation_steps, total_steps
from runners.metrics import headline, score_split
from runners.models import Loaded, count_embeddings
from runners.progress import Meter
from runners.tokens import tokenize
from runners.weights import Weights

Scores = dict[str, dict[str, float]]


def train_and_score(
    config: RunConfig, data: TaskData, weights: Weights, blank: Record, began: float
) -> Record:
    """Run a configuration from pretrained weights to scores, or to divergence."""
    accelerator = make_accelerator(choose_device(config.settings.device), config.precision)
    make_deterministic()
    device = str(accelerator.device)
    environment = describe_environment(device, config.precision)
    loop, collators, loaded = prepare(config, data, weights, accelerator)
    gc.freeze()  # what was imported stays for good: the collector need not look at it again
    gc.enable()
    filled = replace(
        blank,
        environment=environment,
        parameters=count_parameters(loop.model, loaded.head, config.methods),
        stored_bytes=stored_bytes(loop.model, config.methods),
        steps=loop.steps,
        preparation_seconds=round(loop.preparation_seconds, 3),
        startup_seconds=round(time.perf_counter() - began, 3),
    )
    scoring = Scoring(config, data, collators, accelerator)
    status: Status = "finished"
    try:
        filled = _train_evaluating(loop, scoring, config, filled)
    except Diverged as diverged:
        status = "diverged"
        filled.error = {"type": "Diverged", "message": str(diverged), "step": diverged.step}
    seconds = loop.progress.train_seconds
    filled = replace(
        filled,
        status=status,
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
        _write_beside(config, loop, loaded, weights, filled.run)
    return filled


def make_accelerator(device: str, precision: str) -> Accelerator:
    """Return accelerate's handle on one device, in place of an earlier run's."""
    AcceleratorState._reset_state(reset_partial_state=True)
    mixed = "bf16" if precision == "bf16" else "no"
    if device.startswith("cuda"):
        torch.cuda.set_device(device)
        torch.cuda.reset_peak_memory_stats()
    return Accelerator(cpu=device == "cpu", mixed_precision=mixed)


def prepare(
    config: RunConfig, data: TaskData, weights: Weights, accelerator: Accelerator
) -> tuple[Loop, dict[str, Collator], Loaded]:
    """Load, tokenise, let the methods prepare; return the loop before its first step."""
    settings, budget = config.settings, config.settings.budget
    loaded = load_pretrained(config, weights)
    collators = make_collators(config, data, loaded, weights)
    lengths = collators["train"].tokens.lengths
    order = Order(settings.seed, lengths, budget.batch_size, budget.length_bucket)
    apply_methods(config, loaded, total_steps(budget, order))
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
    )
    loop.prepare_methods()
    return loop, collators, loaded


def make_collators(
    config: RunConfig, data: TaskData, loaded: Loaded, weights: Weights
) -> dict[str, Collator]:
    """Tokenise every split, or take the tokens from the cache."""
    length, regression = config.settings.budget.max_length, config.settings.task.kind
    return {
        name: _collator(split, loaded, weights, length, regression == "regression")
        for name, split in data.splits().items()
    }


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


class Scoring:
    """Scores the model on named splits, and keeps the seconds and the last predictions."""

    def __init__(
        self,
        config: RunConfig,
        data: TaskData,
        collators: dict[str, Collator],
        accelerator: Accelerator,
    ) -> None:
        self.task, self.budget = config.settings.task, config.settings.budget
        self.data, self.collators, self.accelerator = data, collators, accelerator
        self.seconds = 0.0
        self.predictions: dict[str, dict[str, list[float]]] = {}
        self.undefined: dict[str, list[str]] = {}

    def __call__(self, model: torch.nn.Module, splits: list[str], step: int) -> Scores:
        start = time.perf_counter()
        regression = self.task.kind == "regression"
        found: Scores = {}
        for name in splits:
            split = self.data.splits()[name]
            predicted = predict(
                model,
                self.collators[name],
                self.budget.eval_batch_size,
                regression,
                self.accelerator,
            )
            if not np.all(np.isfinite(predicted)):
                raise Diverged(f"a prediction on {name}", step)
            self.predictions[name] = {"predictions": _compact(predicted, regression)}
            if split.labels is not None:
                self.predictions[name]["references"] = list(split.labels)
                found[name], undefined = score_split(self.task, name, predicted, split.labels)
                self.undefined[name] = undefined
        self.seconds += time.perf_counter() - start
        return found


def _compact(predicted: Any, regression: bool) -> list[float]:
    return [float(f"{p:.9g}") for p in predicted] if regression else [int(p) for p in predicted]


def _train_evaluating(loop: Loop, scoring: Scoring, config: RunConfig, filled: Record) -> Record:
    task, protocol = config.settings.task, config.settings.protocol
    report = list(scoring.data.report)
    due = evaluation_steps(config.settings.budget, loop.order)
    evaluations = filled.evaluations  # filled as it grows: a run that diverges keeps what it had
    best_on_dev: dict[str, Any] | None = None
    selected: dict[str, Any] | None = None
    kept_state: dict[str, Any] = {}
    meter = Meter(loop.steps)
    for until in due:
        loop.run(until, meter.step)
        entry: dict[str, Any] = {
            "step": until,
            "epoch": round(until / loop.order.steps_per_epoch, 3),
        }
        entry["train_loss"] = float(np.mean(loop.progress.losses[-(loop.order.steps_per_epoch) :]))
        if protocol.name == "select":
            part = scoring(loop.model, ["selection"], until)
            entry["selection"] = part["selection"]
            value = headline(task, part)
            if selected is None or value > selected["score"]:
                selected = {"step": until, "score": value, "scores": part["selection"]}
                kept_state = loop.state_dict()
        scores = scoring(loop.model, report, until)
        entry["scores"] = scores
        evaluations.append(entry)
        value = headline(task, scores)
        if best_on_dev is None or value > best_on_dev["score"]:
            best_on_dev = {"step": until, "score": value, "scores": scores}
        meter.evaluated(entry, value)
    meter.close()
    scores = evaluations[-1]["scores"]
    if selected is not None and selected["step"] != due[-1]:
        loop.load_state_dict(kept_state)
        scores = scoring(loop.model, report, loop.step)
    return replace(
        filled,
        score=headline(task, scores),
        scores=scores,
        undefined={k: v for k, v in scoring.undefined.items() if v and k in report},
        best_on_dev=best_on_dev,
        selected=selected,
        predictions={k: v for k, v in scoring.predictions.items() if k in report},
    )


def trained_sha256(model: torch.nn.Module) -> str:
    """Hash the trained tensors, by name and bytes; equal for two runs that agree to the bit."""
    digest = hashlib.sha256()
    for name, parameter in sorted(model.named_parameters()):
        if parameter.requires_grad:
            digest.update(f"{name}\0{tuple(parameter.shape)}\0".encode())
            digest.update(parameter.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


def _write_beside(
    config: RunConfig, loop: Loop, loaded: Loaded, weights: Weights, run: str
) -> None:
    """Write drawings and delta; the scores must not be lost with them, so failing only warns."""
    path = Path(config.settings.out) / run
    try:
        for method in config.methods:
            for name, content in method.drawings().items():
                path.with_name(f"{run}.{name}").write_bytes(content)
        if config.settings.save == "delta":
            path = path.with_name(f"{run}.delta")
            save_delta(path, loop.model, loaded.head, config, weights, run)
    except (OSError, SafetensorError) as error:
        print(f"warning: {path} could not be written ({error})", file=sys.stderr)
