"""Does a record's run again and says whether, and where first, it differs."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from results import record as records
from results.errors import UserError
from results.record import Record, find_record
from results.tables.conditions import harness
from runners.config.check import RunConfig, from_record
from runners.jobs.job import Job
from runners.machine.console import say
from runners.machine.device import set_threads
from runners.runs.attempt import blank_record, train

SAME_MACHINE = ("device", "device_name", "threads", "libraries", "python", "system")


def verify(named: str, command: RunConfig, arguments: Sequence[str]) -> int:
    """Run a record's configuration again, apart from all records; return 0 when its promise held.

    `named` is a record's file, or a run's name in `out=`. Where data lies (data.dir, data.glue_dir,
    data.text) and the device are the command's.
    """
    began = time.perf_counter()
    stored = records.read_copy(named_record(named, Path(command.settings.out), "verify"))
    if stored.status != "finished":
        raise UserError(f"verify={named}: that run is {stored.status}; name a finished one")
    with tempfile.TemporaryDirectory() as apart:
        job = Job(_configuration(stored, command, apart))
        blank = blank_record(job, arguments)
        set_threads(command.settings.threads or stored.environment.get("threads"))
        again = train(job, blank, began)
    if again.status != "finished":
        say(f"verify: the run again is {again.status}: {again.error}")
        return 1
    promise, differing = promised(stored, again)
    print(f"verify {stored.run}")
    print(f"promise: {promise}{f' (differs: {differing})' if differing else ''}")
    where = first_difference(stored, again)
    if where is None:
        print("equal to the bit: data, initial weights, every step's loss, weights, predictions")
        return 0
    print(f"first difference: {where}")
    for split, metrics in again.scores.items():
        for metric, value in metrics.items():
            before = stored.scores[split][metric]
            print(f"{split} {metric}: {100 * before:.2f} in the record, {100 * value:.2f} now")
    if promise.startswith("3"):
        inside, spread = _within(stored, again, Path(command.settings.out))
        print(spread)
        return 0 if inside else 1
    print("promise broken")
    return 1


def named_record(named: str, out: Path, act: str) -> Path:
    """Return a record's file from its path, its run's name in `out`, or the start of one."""
    if Path(named).is_dir():
        wrong = "that is a folder"
    elif set(named) & set("*?["):
        wrong = "that is a pattern"
    elif Path(named).is_absolute() and not Path(named).is_file():
        wrong = "no such file"
    else:
        return find_record(named, out, act)
    raise UserError(f"{act}={named}: {wrong}; name a record's file, or one run of out=FOLDER")


def _configuration(stored: Record, command: RunConfig, out: str) -> RunConfig:
    """Return a record's configuration with the command's places, and its results in `out`."""
    config = from_record(stored.config)
    here = command.settings
    places = {"dir": here.data.dir, "glue_dir": here.data.glue_dir, "text": here.data.text}
    typed = {name: place for name, place in places.items() if place is not None}
    data = config.settings.data.model_copy(update=typed)
    changed = {"data": data, "device": here.device, "checkpoint": here.checkpoint, "out": out}
    return replace(config, settings=config.settings.model_copy(update=changed))


def promised(stored: Record, again: Record) -> tuple[str, str]:
    """Return which of the three promises two environments fall under, and what keeps them apart."""
    before, now = stored.environment, again.environment
    differing = [k for k in SAME_MACHINE if before.get(k) != now.get(k)]
    if differing or stored.run != again.run:
        names = differing + (["the run's own definition"] if stored.run != again.run else [])
        return "3: equal in distribution", ", ".join(names)
    if now["device"] == "cpu":
        return "1: equal to the bit on this machine, CPU, versions and thread count", ""
    return "2: equal to the bit on this GPU type with these versions, deterministic mode", ""


def first_difference(stored: Record, again: Record) -> str | None:
    """Say where two records of one configuration first differ; None when they do not."""
    for name, facts in again.data["splits"].items():
        if stored.data["splits"].get(name, {}).get("sha256") != facts["sha256"]:
            return f"data: the split {name} holds other examples"
    if stored.weights["sha256"] != again.weights["sha256"]:
        return "pretrained weights: other files"
    if stored.initial_sha256 and stored.initial_sha256 != again.initial_sha256:
        return "initial weights: head or method started elsewhere"
    for step, (before, now) in enumerate(zip(stored.losses, again.losses, strict=False), 1):
        if before != now:
            return f"step {step}: loss {before:.9g} in the record, {now:.9g} now"
    if stored.trained_sha256 != again.trained_sha256:
        return "trained weights, with every step's loss equal" if stored.losses else "weights"
    if stored.predictions != again.predictions:
        return "predictions, with equal weights"
    return "scores, with equal predictions" if stored.scores != again.scores else None


def _within(stored: Record, again: Record, out: Path) -> tuple[bool, str]:
    """Compare a score with the record's row: mean ± 2 sd over its seeds, where it has some."""

    def row(record: Record) -> dict[str, Any]:
        config = {k: v for k, v in record.config.items() if k not in ("seed", "device")}
        return config | {"data": record.data["source"], "harness": harness(record)}

    assert again.score is not None
    same = [r for r in records.read_all(out, []) if r.score is not None and row(r) == row(stored)]
    scores = [r.score for r in same if r.score is not None]
    if len(scores) < 2:
        return True, "one seed alone says nothing about the distribution: run more seeds"
    mean = sum(scores) / len(scores)
    sd = (sum((s - mean) ** 2 for s in scores) / (len(scores) - 1)) ** 0.5
    inside = abs(again.score - mean) <= 2 * sd
    side = "inside" if inside else ("better than" if again.score > mean else "worse than")
    return inside, (
        f"score {100 * again.score:.2f} is {side} the row's {100 * mean:.2f} ± 2 × {100 * sd:.2f}"
        f" ({len(scores)} seeds)"
    )
