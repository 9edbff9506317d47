"""Where a run's seconds go, step by step: python -m tests.benchmarks.steps.

Each training step is timed twice: what the host spends on it (making the batch, and asking for the
step), and what passes on the device between one step's first and last operation, by CUDA events
that are read at the end only. On a CPU the two are one. Printed are the first steps, the dearest
ones, the medians of each way of taking a step, and evaluations one after the other, the first of
which also has what is used for the first time. `--set speed.graphs=false`, and other levers, say
what each is worth.
"""

from __future__ import annotations

import argparse
import statistics
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from runners.jobs.job import Job
from runners.machine.device import choose_device, make_accelerator, make_deterministic
from runners.training.prepare import Prepared, prepare
from tests.benchmarks.bench import ROOT
from tests.conftest import configure


@dataclass(frozen=True)
class Taken:
    """A step: its number, the shape of its batch, how it was taken, and milliseconds."""

    number: int
    shape: tuple[int, ...]
    how: str
    batch_ms: float
    host_ms: float
    device_ms: float

    def __str__(self) -> str:
        shape = "x".join(map(str, self.shape))
        return (
            f"{self.number:6}  {shape:>9}  {self.how:9}"
            f"{self.batch_ms:9.2f}{self.host_ms:9.2f}{self.device_ms:9.2f}"
        )


HEAD = f"{'step':>6}  {'shape':>9}  {'how':9}{'batch ms':>9}{'host ms':>9}{'device ms':>10}"


class Mark:
    """A moment on the device, or on the host where that does the work."""

    def __init__(self, device: torch.device) -> None:
        self.event: Any = None
        if device.type == "cuda":
            self.event = torch.cuda.Event(enable_timing=True)
            self.event.record()
        self.host = time.perf_counter()

    def until(self, later: Mark) -> float:
        """Return the milliseconds to a later mark."""
        if self.event is None:
            return 1e3 * (later.host - self.host)
        return float(self.event.elapsed_time(later.event))


def wait(device: torch.device) -> None:
    """Let the device finish."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def take(ready: Prepared, steps: int) -> list[Taken]:
    """Train so many steps and return what each took."""
    loop = ready.loop
    device = loop.accelerator.device
    loop.model.train()
    rows = []
    begun = time.perf_counter()
    for batch in loop._batches(loop.step, loop.step + steps):
        made, repeats = time.perf_counter(), loop.repeats
        before = (repeats.recorded, repeats.repeated) if repeats else (0, 0)
        first = Mark(device)
        loop.take_step(batch)
        loop.levers.after_step(0)
        last = Mark(device)
        after = (repeats.recorded, repeats.repeated) if repeats else (0, 0)
        how = "by itself"
        if after != before:
            how = "captured" if after[0] > before[0] else "replayed"
        shape = tuple(batch["input_ids"].shape)
        rows.append((loop.step, shape, how, 1e3 * (made - begun), first, last))
        begun = time.perf_counter()
    wait(device)
    return [
        Taken(number, shape, how, batch_ms, 1e3 * (last.host - first.host), first.until(last))
        for number, shape, how, batch_ms, first, last in rows
    ]


def evaluated(job: Job, ready: Prepared, times: int) -> list[float]:
    """Return the seconds of evaluations of the report splits, one after the other."""
    evaluation, splits = ready.loop.evaluation(), list(job.data.report.values())
    seconds = []
    for later in reversed(range(times)):
        evaluation.later = later
        begun = time.perf_counter()
        ready.kind.predict(ready.loop.model, ready.encoded, splits, evaluation)
        wait(ready.loop.accelerator.device)
        seconds.append(time.perf_counter() - begun)
    return seconds


def medians(steps: list[Taken]) -> list[str]:
    """Return a line for each way of taking a step."""
    lines = []
    for how in ("by itself", "captured", "replayed"):
        own = [step for step in steps if step.how == how]
        if own:
            parts = zip(*((s.batch_ms, s.host_ms, s.device_ms) for s in own), strict=True)
            middle = [statistics.median(part) for part in parts]
            lines.append(f"{len(own):6}  {'':9}  {how:9}" + "".join(f"{m:9.2f}" for m in middle))
    return lines


def main() -> None:
    """Time a run's steps and evaluations and print them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--task", default="mrpc")
    parser.add_argument("--method", default="full")
    parser.add_argument("--precision", default="fp32", choices=["fp32", "bf16"])
    parser.add_argument("--rows", type=int, default=1000)
    parser.add_argument("--steps", type=int, default=96)
    parser.add_argument("--evaluations", type=int, default=3)
    parser.add_argument("--set", action="append", default=[], help="any other setting")
    parser.add_argument("--data-dir", type=Path, default=ROOT.parent / "shared" / "data" / "glue")
    asked = parser.parse_args()
    chosen = (f"task={asked.task}", f"method={asked.method}", f"precision={asked.precision}")
    data = ("data=local", f"data.dir={asked.data_dir}", f"data.train_size={asked.rows}")
    config = configure(*chosen, *data, f"budget.steps={asked.steps}", *asked.set)
    job = Job(config)
    begun = time.perf_counter()
    accelerator = make_accelerator(choose_device(config.settings.device), config)
    make_deterministic()
    ready = prepare(job, accelerator)
    ready.loop.start(ready.encoded)
    prepared = time.perf_counter() - begun
    begun = time.perf_counter()
    steps = take(ready, asked.steps)
    seconds = time.perf_counter() - begun
    print(f"{accelerator.device}, torch {torch.__version__}; prepared in {prepared:.2f} s")
    print(f"{len(steps)} steps in {seconds:.2f} s\n{HEAD}")
    print(*steps[:12], sep="\n")
    print("the dearest:", *sorted(steps, key=lambda s: -s.host_ms - s.batch_ms)[:8], sep="\n")
    print("medians, of so many:", *medians(steps), sep="\n")
    ready.loop.repeats and print("graphs:", ready.loop.repeats.facts)
    spent = evaluated(job, ready, asked.evaluations)
    print("evaluations:", " ".join(f"{s:.3f}" for s in spent), "s")


if __name__ == "__main__":
    main()
