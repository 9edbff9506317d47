"""What a board still costs: real tokens, and hours on this machine from a short calibration.

A row's first missing task is calibrated: the model is prepared, and a few of its own steps, its
preparation and an evaluation batch are timed. A step costs a + b · padded tokens. The row's other
tasks are counted with their own lengths at those rates. As many processes measure side by side as
the board will have workers, with as many threads each, because they slow each other.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from results.errors import UserError
from runners.boards.plan import Compose, Planned
from runners.config.check import RunConfig, check
from runners.config.settings import Budget
from runners.root import ROOT

PREPARING = 2  # batches that methods see of those they ask for before the first step


@dataclass(frozen=True)
class Work:
    """Steps of one run and its tokens: real ones in training, and padded ones."""

    steps: int
    real: int
    padded: int
    epoch_padded: int
    evaluated_padded: int


@dataclass(frozen=True)
class Rates:
    """Seconds of one run: before the first step, a step and a token, each in its phase."""

    start: float
    step: float
    token: float
    preparing_token: float
    evaluated_token: float

    def seconds(self, work: Work) -> float:
        """Return what a run of so much work takes."""
        return (
            self.start
            + self.preparing_token * work.epoch_padded
            + self.step * work.steps
            + self.token * work.padded
            + self.evaluated_token * work.evaluated_padded
        )


@dataclass(frozen=True)
class Estimate:
    """A board's missing work: runs, real tokens in training, and seconds with all its workers."""

    runs: int
    real_tokens: int
    seconds: float


def padded(batches: Sequence[NDArray[np.int64]], lengths: NDArray[np.int64]) -> int:
    """Return the places that batches of examples have, padding included."""
    return sum(len(batch) * int(lengths[batch].max()) for batch in batches)


def work_of(budget: Budget, order: Any, tokens: dict[str, Any]) -> Work:
    """Count a run's work from its order and the tokens of each split; `train` is among them."""
    from runners.tasks.collate import by_length
    from runners.training.schedule import evaluation_steps, total_steps

    evaluated = sum(
        padded(by_length(split, budget.eval_batch_size), split.lengths)
        for name, split in tokens.items()
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


def calibrate(config: RunConfig, started: float) -> tuple[Rates, Work]:
    """Time the parts of a run on this machine; `started` is when its process was (time.time())."""
    from runners.data.load import load_task_data
    from runners.machine.device import choose_device, make_accelerator, make_deterministic
    from runners.models.build import apply_methods, load_pretrained
    from runners.models.weights import find_weights
    from runners.tasks.kinds import make_collators
    from runners.training.prepare import prepare, trim_vocabulary

    settings = config.settings
    data = load_task_data(settings.task, settings.data, settings.protocol, config.training_text)
    weights = find_weights(settings.model)
    accelerator = make_accelerator(choose_device(settings.device), config)
    make_deterministic()
    if not len(data.train):
        loaded = apply_methods(config, load_pretrained(config, weights), weights, 0)
        collators: Any = make_collators(config, data, loaded, weights)
        model = loaded.model.to(accelerator.device)
        work = work_of(settings.budget, None, {k: c.tokens for k, c in collators.items()})
        start = time.time() - started
        per_token = _time_evaluation(config, model, collators, accelerator)
        return Rates(start, 0.0, 0.0, 0.0, per_token), work
    loop, collators, _ = prepare(config, data, weights, accelerator, preparing=PREPARING)
    if settings.speed.trim_vocabulary:
        trim_vocabulary(loop, collators)
    work = work_of(settings.budget, loop.order, {k: c.tokens for k, c in collators.items()})
    preparing = padded(loop.order.epoch(0)[:PREPARING], loop.order.lengths)
    start = time.time() - started - loop.preparation_seconds
    step, token = _time_steps(loop)
    return (
        Rates(
            start,
            step,
            token,
            loop.preparation_seconds / preparing if _prepares(config) else 0.0,
            _time_evaluation(config, loop.model, collators, accelerator),
        ),
        work,
    )


def _prepares(config: RunConfig) -> bool:
    from methods.method import Method

    return any(type(m).before_training is not Method.before_training for m in config.methods)


def _time_steps(loop: Any) -> tuple[float, float]:
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
    config: RunConfig, model: Any, collators: dict[str, Any], accelerator: Any
) -> float:
    """Return seconds of a padded token in evaluation."""
    import torch

    from runners.config.check import representation_of
    from runners.tasks.collate import by_length

    collate = next(c for name, c in collators.items() if name != "train")
    batches = by_length(collate.tokens, config.settings.budget.eval_batch_size)
    indices = batches[len(batches) // 2]
    batch = {k: v.to(accelerator.device) for k, v in collate(indices).items() if k != "labels"}
    model.eval()
    times = []
    with torch.inference_mode(), accelerator.autocast():
        for _ in range(2):
            begun = time.perf_counter()
            if config.settings.task.kind == "similarity":
                representation_of(config).vectors(model, batch)
            else:
                model(**batch)
            _wait(accelerator)
            times.append(time.perf_counter() - begun)
    return min(times) / padded([indices], collate.tokens.lengths)


def _wait(accelerator: Any) -> None:
    import torch

    if accelerator.device.type == "cuda":
        torch.cuda.synchronize()


def count(config: RunConfig) -> Work:
    """Count a run's work without its model; for tasks of labels and scores."""
    from transformers import AutoTokenizer

    from runners.data.load import load_task_data
    from runners.models.weights import find_weights
    from runners.tasks.tokens import tokenize
    from runners.training.order import Order

    settings, budget = config.settings, config.settings.budget
    data = load_task_data(settings.task, settings.data, settings.protocol, config.training_text)
    weights = find_weights(settings.model)
    tokenizer = AutoTokenizer.from_pretrained(weights.folder, local_files_only=True)
    tokens = {
        name: tokenize(split, tokenizer, weights, budget.max_length)
        for name, split in data.splits().items()
    }
    lengths = tokens["train"].lengths
    return work_of(
        budget,
        Order(settings.seed, lengths, budget.batch_size, budget.length_bucket, budget.buckets),
        tokens,
    )


def estimate(
    runs: Sequence[Planned], compose: Compose, workers: int, environment: dict[str, str]
) -> Estimate:
    """Return what runs cost with so many workers, each in such an environment."""
    cells = Counter((run.slot.row, run.slot.task) for run in runs)
    jobs: dict[int, list[tuple[str, dict[str, Any]]]] = {}
    for run in runs:
        row = jobs.setdefault(run.slot.row, [])
        if run.slot.task not in [task for task, _ in row]:
            row.append((run.slot.task, compose(run.overrides)))
    shares = [list(jobs.items())[i::workers] for i in range(min(workers, len(jobs)))]
    found_from = os.pathsep.join([str(ROOT), *filter(None, [environment.get("PYTHONPATH")])])
    processes = [
        subprocess.Popen(
            [sys.executable, "-m", "runners.boards.estimate"],
            env={**environment, "PYTHONPATH": found_from},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in shares
    ]
    try:
        for process, share in zip(processes, shares, strict=True):
            assert process.stdin is not None
            with process.stdin as stream:
                json.dump([time.time(), share], stream)
        found = [line for p in processes for line in (p.stdout or ()) if line.startswith("[")]
        failed = [p.returncode for p in processes if p.wait()]
    except BaseException:
        for process in processes:
            process.kill()
        raise
    if failed:
        raise UserError("the calibration failed, as told above; estimate=false lists without it")
    real, seconds = 0, 0.0
    for row, task, work, rates in map(json.loads, found):
        real += cells[row, task] * work["real"]
        seconds += cells[row, task] * Rates(**rates).seconds(Work(**work))
    return Estimate(len(runs), real, seconds / workers)


def main() -> int:
    """Calibrate and count what standard input asks for; one line of JSON for each row and task."""
    began, share = json.load(sys.stdin)
    import runners.runs.train  # noqa: F401

    imports = time.time() - began
    for row, tasks in share:
        rates: Rates | None = None
        for task, composed in tasks:
            config = check(composed)
            if rates is None or config.settings.task.kind == "similarity":
                rates, work = calibrate(config, time.time() - imports)
            else:
                work = count(config)
            print(json.dumps([row, task, asdict(work), asdict(rates)]), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
