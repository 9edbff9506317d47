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
from results.plain_file import is_file, is_folder
from results.record import INSTEAD, Record, find_record, record_path
from results.tables.conditions import harness
from runners.config.check import RunConfig, from_record
from runners.config.places import portable_all
from runners.config.settings import Start
from runners.jobs.job import Job
from runners.machine.console import say, show
from runners.machine.device import set_threads
from runners.machine.environment import SAME_MACHINE
from runners.models.predecessor import as_started
from runners.runs.again import other_loss
from runners.runs.attempt import blank_record, train

Metrics = dict[str, float]


def verify(named: str, command: RunConfig, arguments: Sequence[str]) -> int:
    """Run a record's configuration again, apart from all records; return 0 when its promise held.

    `named` is a record's file, or a run's name in `out=`. Where data lies (data.dir, data.glue_dir,
    data.text) and the device are the command's.
    """
    began = time.perf_counter()
    path = named_record(named, Path(command.settings.out), "verify")
    stored = records.read_copy(path)
    if stored.status != "finished":
        raise UserError(f"verify={named}: that run is {stored.status}; name a finished one")
    with tempfile.TemporaryDirectory() as apart:
        job = Job(_configuration(stored, command, apart, path.parent))
        blank = blank_record(job, arguments)
        set_threads(command.settings.threads or stored.environment.get("threads"))
        again = train(job, blank, began)
    if again.status != "finished":
        say(f"verify: the run again is {again.status}: {again.error}")
        return 1
    promise, differing = promised(stored, again)
    show(f"verify {stored.run}")
    show(f"promise: {promise}{f' (differs: {differing})' if differing else ''}")
    where = first_difference(stored, again)
    if where is None:
        show("equal to the bit: data, initial weights, every step's loss, weights, predictions")
        return 0
    show(f"first difference: {where}")
    for split in {**stored.scores, **again.scores}:
        show(_scores(split, stored.scores.get(split), again.scores.get(split)))
    if where.startswith(INPUTS):
        show("another input is another run: give it what the record was made from")
        return 1
    if promise.startswith("3"):
        inside, spread = _within(stored, again, path.parent)
        show(spread)
        return 0 if inside else 1
    show("promise broken")
    return 1


INPUTS = ("data: ", "pretrained weights: ")  # the differences that are no run's


def _scores(split: str, before: Metrics | None, now: Metrics | None) -> str:
    """Say in a line each what a split scored then and now."""
    if before is None or now is None:
        return f"{split}: {'not in the record' if before is None else 'not here'}"
    return "\n".join(
        f"{split} {metric}: {100 * before[metric]:.2f} in the record, {100 * value:.2f} now"
        for metric, value in now.items()
        if metric in before
    )


def named_record(named: str, out: Path, act: str, instead: str = INSTEAD) -> Path:
    """Return a record's file from its path, its run's name in `out`, or the start of one.

    `instead` ends the sentence where there is none.
    """
    if is_folder(Path(named)):
        wrong = "that is a folder"
    elif set(named) & set("*?["):
        wrong = "that is a pattern"
    else:
        return find_record(named, out, act, instead)
    raise UserError(f"{act}={named}: {wrong}; {instead}")


def _configuration(stored: Record, command: RunConfig, out: str, beside: Path) -> RunConfig:
    """Return a record's configuration with the command's places, and its results in `out`.

    The runs that it starts from, or is taught by, are looked for `beside` it, then in `out=`.
    """
    config = from_record(stored.config)
    here = command.settings
    places = {"dir": here.data.dir, "glue_dir": here.data.glue_dir, "text": here.data.text}
    typed = {name: place for name, place in places.items() if place is not None}
    data = config.settings.data.model_copy(update=typed)
    if (teacher := data.teacher) is not None:
        data = data.taught_by(_record_file(teacher, beside, Path(here.out)))
    changed: dict[str, Any] = {"data": data, "device": here.device, "out": out}
    changed["checkpoint"] = here.checkpoint
    if config.settings.start.run is not None:
        changed["start"] = _start(stored, config.settings.start, beside, Path(here.out))
    return replace(config, settings=config.settings.model_copy(update=changed))


def _start(stored: Record, start: Start, beside: Path, out: Path) -> Start:
    """Return a stored run's start with the place of what it started from."""
    first = Path(_record_file(str(start.run), beside, out))
    run = str(as_started(first, stored.weights.get("start") or {}))
    return start.model_copy(update={"run": run})


def _record_file(run: str, beside: Path, out: Path) -> str:
    """Return the file of a run's record, from one folder or, where it has none, the other."""
    own = record_path(beside, run)
    return str(own if is_file(own) else find_record(run, out))


def promised(stored: Record, again: Record) -> tuple[str, str]:
    """Return which of the three promises two environments fall under, and what keeps them apart."""
    before, now = stored.environment, again.environment
    differing = [k for k in SAME_MACHINE if before.get(k) != now.get(k)]
    changed = [k for k in before.get("changed") or {} if k != "beside"]  # which costs time alone
    differing += [f"{k}, which changed as the record's run went on" for k in changed]
    if differing or stored.run != again.run:
        names = differing + (["the run's own definition"] if stored.run != again.run else [])
        return "3: equal in distribution", ", ".join(names)
    if now["device"] == "cpu":
        return "1: equal to the bit on this machine, CPU, versions and thread count", ""
    return "2: equal to the bit on this GPU type with these versions, deterministic mode", ""


def first_difference(stored: Record, again: Record) -> str | None:
    """Say where two records of one configuration first differ; None when they do not."""
    splits, known = again.data["splits"], stored.data["splits"]
    for name in {**known, **splits}:
        if name not in splits or name not in known:
            return f"data: the split {name} is {'not here' if name in known else 'new'}"
        if known[name]["sha256"] != splits[name]["sha256"]:
            return f"data: the split {name} holds other examples"
    own = _inputs(again)
    for what, sha256 in _inputs(stored).items():
        if sha256 not in (None, own[what]):
            return what
    if stored.initial_sha256 and stored.initial_sha256 != again.initial_sha256:
        return "initial weights: head or method started elsewhere"
    if (loss := other_loss(stored.losses, again.losses)) is not None:
        return loss
    if stored.trained_sha256 != again.trained_sha256:
        return "trained weights, with every step's loss equal" if stored.losses else "weights"
    if stored.predictions != again.predictions:
        return "predictions, with equal weights"
    return "scores, with equal predictions" if stored.scores != again.scores else None


def _inputs(record: Record) -> dict[str, Any]:
    """Return hashes of what a run is made from beside its splits, by what is said of others."""
    weights = record.weights
    start = weights.get("start") or {}
    added = record.data.get("pseudo") or record.data.get("generated") or {}
    teacher, generator = added.get("teacher") or {}, added.get("generator") or {}
    return {
        "pretrained weights: other files": weights["sha256"],
        "pretrained weights: other configuration or tokenizer": weights.get("files_sha256"),
        "pretrained weights: the run that it starts from left others": start.get("sha256"),
        "data: the teacher is another": teacher.get("sha256"),
        "data: the generator is another": generator.get("sha256"),
        "data: the generator has another configuration or tokenizer": generator.get("files_sha256"),
    }


def _within(stored: Record, again: Record, out: Path) -> tuple[bool, str]:
    """Compare a score with the record's row: mean ± 2 sd over its seeds, where it has some."""

    def row(record: Record) -> dict[str, Any]:
        config = {k: v for k, v in record.config.items() if k not in ("seed", "device")}
        config = {k: portable_all(v) for k, v in config.items()}
        return config | {"data": record.data["source"], "harness": harness(record)}

    assert again.score is not None
    kept = records.read_all(out, []) if out.is_dir() else []
    same = [r for r in kept if r.score is not None and row(r) == row(stored)]
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
