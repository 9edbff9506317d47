"""What is to be seen on a GPU, in at most eight minutes: python -m tests.gpu.check [OUT].

Step by step: the tests marked `gpu`; ours against the best-set Trainer, in fresh processes; the
first 72 runs of board low1k. Each step leaves a file in OUT, so that the same command goes on where
one was ended, and does again what failed. The table printed at the end can go into docs/speed.md.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
import xml.etree.ElementTree as ET
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from results.record import read_all
from results.whole import whole
from runners.machine.environment import describe_environment
from tests.benchmarks.fresh import process

ROOT = Path(__file__).resolve().parent.parent.parent
Result = dict[str, Any]


@dataclass(frozen=True)
class Place:
    """Where a check finds GLUE and writes its results, and by which command and settings."""

    out: Path
    glue: Path
    device: str = "cuda:0"
    warm: int = 50  # steps that no step's time is taken of
    settings: tuple[str, ...] = ()  # of ours, besides


@dataclass(frozen=True)
class Step:
    """A part of the check that is done whole or not at all.

    `seconds` is what it may take; it is not begun where less is left.
    """

    name: str
    seconds: float
    act: Callable[[Place, float], Result]


@dataclass(frozen=True)
class Pair:
    """Ours beside the Trainer: a model's name, precision, task, rows (None: all) and epochs."""

    model: str
    precision: str
    task: str
    rows: int | None
    epochs: int

    @property
    def key(self) -> str:
        """A name for files and steps."""
        return f"{self.model}-{self.precision}-{self.task}"

    @property
    def title(self) -> str:
        """What a reader is told of it."""
        rows = "" if self.rows is None else f" ({self.rows:,} rows)"
        return f"{self.model}, {self.precision}, {self.task}{rows}, {self.epochs} epoch(s)"


# The bars' own first: what is not reached is left for the next call.
PAIRS = tuple(
    Pair(model, precision, task, rows, epochs)
    for precision in ("bf16", "fp32")
    for task, rows, epochs in (("mrpc", None, 3), ("sst2", 8000, 1))
    for model in ("bertbase", "minilm")
)
BERTBASE = "bertbase"


def run_tests(place: Place, seconds: float) -> Result:
    """Run the tests that need a GPU; failures are a result, not the end."""
    report = place.out / "tests.xml"
    arguments = ["-m", "pytest", "-m", "gpu", "tests/gpu", f"--junitxml={report}", "-q"]
    arguments += ["-n", "8"] if find_spec("xdist") else []
    try:
        process(arguments, seconds)
    except RuntimeError:
        if not report.is_file():
            raise
    return outcome(report)


def outcome(report: Path) -> Result:
    """Return the counts of pytest's report, and the names of tests that failed, with why."""
    suite = next(ET.parse(report).getroot().iter("testsuite"))
    counts = {key: int(suite.get(key, 0)) for key in ("tests", "failures", "errors", "skipped")}
    failed = {
        str(case.get("name")): " ".join((fault.get("message") or "").split())[:300]
        for case in suite.iter("testcase")
        for fault in (*case.findall("failure"), *case.findall("error"))
    }
    bad = counts["failures"] + counts["errors"]
    passed = counts["tests"] - bad - counts["skipped"]
    return {"passed": passed, "failed": bad, "skipped": counts["skipped"], "why": failed}


def make_bertbase(place: Place, seconds: float) -> Result:
    """Save BERT-base with random weights and minilm's tokenizer."""
    from transformers import AutoTokenizer, BertConfig

    from runners.contract.tiny import save_random
    from runners.models.weights import find_weights
    from tests.conftest import configure

    folder = place.out / BERTBASE
    minilm = find_weights(configure("task=rte", "data=embedded").settings.model)
    AutoTokenizer.from_pretrained(minilm.folder).save_pretrained(folder)
    save_random(BertConfig(), folder)
    return {"folder": str(folder)}


def compare(pair: Pair, place: Place, seconds: float) -> Result:
    """Time ours and the Trainer on a pair's work, one after the other."""
    began = time.monotonic()
    ours = _ours(pair, place, seconds)
    theirs = _theirs(pair, place, seconds - (time.monotonic() - began))
    return {"ours": ours, "trainer": theirs}


def _ours(pair: Pair, place: Place, seconds: float) -> Result:
    records = place.out / "records" / pair.key
    arguments = [
        *("-m", "tests.gpu.timed", str(place.warm), "method=full", f"task={pair.task}"),
        *(f"precision={pair.precision}", "data=local", f"data.dir={place.glue}"),
        *(f"budget.epochs={pair.epochs}", "budget.evaluate=end", f"device={place.device}"),
        *([f"data.train_size={pair.rows}"] if pair.rows else []),
        *([f"model.name_or_path={place.out / BERTBASE}"] if pair.model == BERTBASE else []),
        *(f"out={records}", "force=true", *place.settings),
    ]
    began = time.perf_counter()
    printed = process(arguments, seconds)
    whole = time.perf_counter() - began
    [record] = read_all(records)
    kept = ("graphs", "padded_to", "bf16_copies")
    return {
        **json.loads(printed.strip().splitlines()[-1]),
        "whole_seconds": whole,
        "train_seconds": record.train_seconds,
        "eval_seconds": record.eval_seconds,
        "batch_size": record.config["budget"]["batch_size"],
        "environment": {k: v for k, v in record.environment.items() if k in kept},
    }


def _theirs(pair: Pair, place: Place, seconds: float) -> Result:
    arguments = [
        *("-m", "tests.benchmarks.baseline", "--task", pair.task, "--precision", pair.precision),
        *("--epochs", str(pair.epochs), "--warm", str(place.warm), "--data-dir", str(place.glue)),
        *("--out", str(place.out / "trainer"), "--began", str(time.time())),
        *(["--train-size", str(pair.rows)] if pair.rows else []),
        *(["--model", str(place.out / BERTBASE)] if pair.model == BERTBASE else []),
    ]
    began = time.perf_counter()
    printed = process(arguments, seconds)
    found: Result = json.loads(printed.strip().splitlines()[-1])
    return found | {"whole_seconds": time.perf_counter() - began}


def run_board(place: Place, seconds: float, workers: int = 15, more: Sequence[str] = ()) -> Result:
    """Do the runs of board low1k's first seed, several at once on the one GPU."""
    records = place.out / "board"
    arguments = [
        *("run.py", "board=low1k", "board.seeds=[1]", f"data.dir={place.glue}", f"out={records}"),
        *(f"workers={workers}", "share_device=true", *more),
    ]
    kind, _, number = place.device.partition(":")
    arguments += [] if number else [f"device={kind}"]
    one = {"CUDA_VISIBLE_DEVICES": number} if number else {}  # as a board refuses device=cuda:0
    began, why = time.perf_counter(), ""
    try:
        process(arguments, seconds, one)
    except RuntimeError as error:  # a run that failed does not stop the others
        why = str(error)
    taken = time.perf_counter() - began
    done = read_all(records) if records.is_dir() else []
    if not done:
        raise RuntimeError(why or "the board left no record")
    finished = [record for record in done if record.status == "finished"]
    return {
        "seconds": taken,
        "runs": len(done),
        "failed": len(done) - len(finished),
        "workers": workers,
        "mps": any(record.environment.get("mps") for record in done),
        "why": why,
    }


STEPS = (
    Step("tests", 120, run_tests),
    Step("bertbase", 40, make_bertbase),
    *(Step(pair.key, 60, partial(compare, pair)) for pair in PAIRS[:2]),
    Step("board", 120, run_board),
    *(Step(pair.key, 60, partial(compare, pair)) for pair in PAIRS[2:]),
)


def follow(
    steps: Sequence[Step],
    place: Place,
    seconds: float,
    clock: Callable[[], float] = time.monotonic,
) -> dict[str, Result]:
    """Do the steps that have left no result yet, as far as the time goes; return all results.

    A step that failed is told and left for the next call.
    """
    end = clock() + seconds
    results: dict[str, Result] = {}
    for step in steps:
        path = place.out / f"{step.name}.json"
        if path.is_file():
            results[step.name] = json.loads(path.read_text())
            print(f"{step.name}: done before", flush=True)
            continue
        left = end - clock()
        if left < step.seconds:
            print(f"{step.name}: left for the next call", flush=True)
            continue
        try:
            result = step.act(place, min(left, 2 * step.seconds))
        except (OSError, RuntimeError, subprocess.TimeoutExpired, ValueError) as error:
            print(f"{step.name}: failed: {error}", flush=True)
            continue
        _write(path, json.dumps(result, indent=1))
        results[step.name] = result
        print(f"{step.name}: done, {end - clock():.0f} s left", flush=True)
    return results


def _write(path: Path, text: str) -> None:
    with whole(path) as temporary:
        temporary.write_text(text + "\n")


def table(results: dict[str, Result], pairs: Sequence[Pair], heading: str) -> str:
    """Return the results in Markdown; a dash stands for what was not measured."""
    lines = [heading, "", "| | ours | Trainer | ratio |", "|---|---:|---:|---:|"]
    for pair in pairs:
        found = results.get(pair.key)
        for what, figure in (
            ("examples/s after the first steps", _rate),
            ("whole run, s", lambda side, _: side["whole_seconds"]),
            ("evaluation, s", lambda side, _: side["eval_seconds"]),
        ):
            sides = ("ours", "trainer")
            size = found["ours"]["batch_size"] if found else 0
            values = [figure(found[side], size) if found else None for side in sides]
            lines.append(f"| {pair.title}: {what} | {_row(values, more_is_better=figure is _rate)}")
    board, tests = results.get("board"), results.get("tests")
    if board:
        through = ", through MPS" if board["mps"] else ", without MPS"
        what = f"board low1k, {board['runs']} runs, {board['workers']} at once{through}: s"
        lines.append(f"| {what} | {board['seconds']:.0f}, {board['failed']} failed | | |")
    if tests:
        counts = f"{tests['passed']} passed, {tests['failed']} failed, {tests['skipped']} skipped"
        lines.append(f"| tests marked `gpu` | {counts} | | |")
    return "\n".join(lines)


def _rate(side: Result, batch_size: int) -> float | None:
    return batch_size / side["seconds_a_step"] if side.get("seconds_a_step") else None


def _row(values: Sequence[float | None], more_is_better: bool) -> str:
    ours, theirs = values
    if ours is None or theirs is None:
        return " | ".join([*("–" if v is None else f"{v:.4g}" for v in values), "– |"])
    ratio = ours / theirs if more_is_better else theirs / ours
    return f"{ours:.4g} | {theirs:.4g} | {ratio:.2f} |"


def heading(device: str) -> str:
    """Return a line on the device, the date, the commit and torch's version."""
    facts = describe_environment(device, "bf16")
    commit = str(facts.get("commit"))[:7] + (", changed" if facts.get("dirty") else "")
    versions = facts["libraries"]
    day = time.strftime("%Y-%m-%d", time.gmtime())
    return f"{facts.get('device_name')}, {day}, commit {commit}, torch {versions['torch']}:"


def main() -> None:
    """Do what is not done yet, print the table, and end with 1 where something failed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path, nargs="?", default=ROOT / "outputs" / "gpu-check")
    parser.add_argument("--data-dir", type=Path, default=ROOT.parent / "shared" / "data" / "glue")
    parser.add_argument("--minutes", type=float, default=8)
    asked = parser.parse_args()
    import torch

    if not torch.cuda.is_available():
        raise SystemExit("gpu-check: torch sees no GPU here; run it on a machine that has one")
    asked.out.mkdir(parents=True, exist_ok=True)
    place = Place(asked.out.resolve(), asked.data_dir.resolve())
    results = follow(STEPS, place, 60 * asked.minutes)
    shown = table(results, PAIRS, heading(place.device))
    _write(asked.out / "table.md", shown)
    print(f"\n{shown}")
    why = results.get("tests", {}).get("why", {})
    for name, message in why.items():
        print(f"{name}: {message}")
    unfinished = [step.name for step in STEPS if step.name not in results]
    if unfinished:
        print(f"not measured yet: {'; '.join(unfinished)}; the same command goes on")
    sys.exit(1 if unfinished or why else 0)


if __name__ == "__main__":
    main()
