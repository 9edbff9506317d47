"""Times the parts of a run on this machine, and counts the work of others like it.

A process of its own does it: `python -m runners.boards.calibrate`, with what to measure as JSON on
standard input.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

import runners.runs.train  # noqa: F401  as a run does: its imports are part of a run's start
from methods.method import Method
from results.errors import UserError
from runners.boards.estimate import Rates, Work
from runners.config.check import RunConfig, check
from runners.config.settings import Budget
from runners.jobs.job import Job
from runners.machine.device import choose_device, make_accelerator, make_deterministic
from runners.models.pretrained import load_tokenizer
from runners.tasks.collate import by_length
from runners.tasks.kind import Encoded, Kind
from runners.tasks.kinds import encode, kind_of
from runners.training.loop import Loop
from runners.training.mixed_order import order_of
from runners.training.order import Order
from runners.training.prepare import prepare
from runners.training.schedule import evaluation_steps, total_steps
from runners.training.start import build_model

PREPARING = 2  # batches that methods see of those they ask for before the first step


def padded(batches: Sequence[NDArray[np.int64]], lengths: NDArray[np.int64]) -> int:
    """Return the places that batches of examples have, padding included."""
    return sum(len(batch) * int(lengths[batch].max(initial=0)) for batch in batches)


def work_of(budget: Budget, order: Order | None, lengths: Mapping[str, NDArray[np.int64]]) -> Work:
    """Count a run's work from its order and the lengths of each split; `train` is among them."""
    evaluated = sum(
        padded(by_length(split, budget.eval_batch_size), split)
        for name, split in lengths.items()
        if name != "train"
    )
    if order is None:
        return Work(0, 0, 0, 0, evaluated)
    steps, epoch = total_steps(budget, order), order.epoch(0)
    share = steps / len(epoch)
    places = padded(epoch, order.lengths)
    return Work(
        steps,
        round(share * int(order.lengths.sum())),
        round(share * places),
        places,
        evaluated * len(evaluation_steps(budget, order)),
    )


def calibrate(job: Job, started: float) -> tuple[Rates, Work]:
    """Time the parts of a run on this machine; `started` is when its process was (time.time())."""
    config, budget = job.config, job.config.settings.budget
    accelerator = make_accelerator(choose_device(config.settings.device), config)
    make_deterministic()
    if not (len(job.data.train) and budget.trains):
        return _calibrate_untrained(job, accelerator, started)
    prepared = prepare(job, accelerator, batches=PREPARING)
    loop = prepared.loop
    loop.start(prepared.encoded)
    work = work_of(budget, loop.order, {k: c.lengths for k, c in prepared.encoded.items()})
    preparing = padded(loop.order.epoch(0)[:PREPARING], loop.order.lengths)
    start = time.time() - started - loop.preparation_seconds
    step, token = _time_steps(loop)
    preparing_token = loop.preparation_seconds / preparing if _prepares(config) else 0.0
    evaluated_token = _time_evaluation(
        prepared.kind, loop.model, prepared.encoded, accelerator, budget.eval_batch_size
    )
    return Rates(start, step, token, preparing_token, evaluated_token), work


def _calibrate_untrained(job: Job, accelerator: Any, started: float) -> tuple[Rates, Work]:
    config, budget = job.config, job.config.settings.budget
    loaded = build_model(job, 0)
    kind = kind_of(config)
    encoded = encode(kind, job, loaded)
    model = loaded.model.to(accelerator.device)
    start = time.time() - started
    token = _time_evaluation(kind, model, encoded, accelerator, budget.eval_batch_size)
    work = work_of(budget, None, {k: c.lengths for k, c in encoded.items()})
    return Rates(start, 0.0, 0.0, 0.0, token), work


def _prepares(config: RunConfig) -> bool:
    return any(type(m).before_training is not Method.before_training for m in config.methods)


def _time_steps(loop: Loop) -> tuple[float, float]:
    """Return seconds of a step and of a padded token, from steps of two sizes."""
    epoch = sorted(loop.order.epoch(0), key=lambda b: padded([b], loop.order.lengths))
    whole = [epoch[round(share * (len(epoch) - 1))] for share in (0.3, 0.7)]
    small = [batch[: max(1, len(batch) // 4)] for batch in whole]
    loop.model.train()
    loop.take_step(loop.batch(whole[0]))  # the first one also makes the optimizer's state
    places, seconds = [], []
    for batch in (*whole, *small):
        begun = time.perf_counter()
        loop.take_step(loop.batch(batch))
        _wait(loop.accelerator)
        seconds.append(time.perf_counter() - begun)
        places.append(padded([batch], loop.order.lengths))
    per_token, per_step = np.polyfit(places, seconds, 1)
    if per_token <= 0 or per_step <= 0:  # the machine was disturbed, or tokens cost nothing beside
        return 0.0, sum(seconds) / sum(places)
    return float(per_step), float(per_token)


def _time_evaluation(
    kind: Kind, model: Any, encoded: Encoded, accelerator: Any, batch_size: int
) -> float:
    """Return seconds of a padded token in evaluation."""
    collate = next(c for name, c in encoded.items() if name != "train")
    batches = by_length(collate.lengths, batch_size)
    indices = batches[len(batches) // 2]
    batch = {k: v.to(accelerator.device) for k, v in collate(indices).items() if k != "labels"}
    model.eval()
    times = []
    with torch.inference_mode(), accelerator.autocast():
        for _ in range(2):
            begun = time.perf_counter()
            kind.answer(model, batch)
            _wait(accelerator)
            times.append(time.perf_counter() - begun)
    return min(times) / padded([indices], collate.lengths)


def _wait(accelerator: Any) -> None:
    if accelerator.device.type == "cuda":
        torch.cuda.synchronize()


def count(job: Job) -> Work:
    """Count a run's work without its model; for kinds that need none to encode."""
    settings, budget = job.config.settings, job.config.settings.budget
    encoded = kind_of(job.config).encode(job, load_tokenizer(job.weights))
    lengths = {name: collate.lengths for name, collate in encoded.items()}
    order = order_of(settings, lengths["train"], encoded["train"].groups)
    return work_of(budget, order, lengths)


def main() -> int:
    """Calibrate and count what standard input asks for; one line of JSON for each row and task."""
    began, share = json.load(sys.stdin)
    imports = time.time() - began
    shelf: dict[str, Any] = {}
    for row, tasks in share:
        rates: Rates | None = None
        for task, composed in tasks:
            job = Job(check(composed), shelf=shelf)
            if rates is None or kind_of(job.config).needs_model:
                rates, work = calibrate(job, time.time() - imports)
            else:
                work = count(job)
            print(json.dumps([row, task, asdict(work), asdict(rates)]), flush=True)
    return 0


def _guarded() -> int:
    try:
        return main()
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(_guarded())
