"""What a step of each method costs beside full fine-tuning: python -m tests.benchmarks.overhead.

Both train in one process on the same batches in turns, so that whatever slows the machine slows
both. Printed are the median of the pairs' ratios with their quartiles, the limit that the method's
arithmetic sets, and the seconds of its preparation. After dp stands the same step as Opacus' hooks
take it, and what both steps' memory is of full fine-tuning's. `full --set speed.first_token=false`
says what full fine-tuning costs without a lever.
"""

from __future__ import annotations

import argparse
import statistics
import time
from pathlib import Path
from typing import Any

from runners.jobs.job import Job
from runners.machine.device import make_accelerator
from runners.training.prepare import prepare
from tests.benchmarks.bench import ROOT
from tests.benchmarks.by_opacus import ByOpacus, step_bytes
from tests.conftest import EACH_KIND, configure

# Passes through the model, or the share that bookkeeping may add to one step.
LIMITS = {
    "rdrop": 2.0,
    "smart": 3.0,
    "child_tuning_f": 1.10,
    "hype": 1.03,
    "pats_provisional": 1.15,
}
OTHER = ("attributes", "embedding", "promptbert", "simcse")  # not of every task of labels


def make_loop(method: str, asked: argparse.Namespace, *more: str) -> Any:
    """Return a prepared loop of a method, with more settings, on the task's first rows."""
    config = configure(
        f"method={method}",
        f"task={asked.task}",
        "data=local",
        f"data.dir={asked.data_dir}",
        f"data.train_size={asked.rows}",
        f"precision={asked.precision}",
        *more,
    )
    ready = prepare(Job(config), make_accelerator("cpu", config))
    ready.loop.start(ready.encoded)
    return ready.loop


def seconds(loop: Any, batch: Any) -> float:
    """Time one step."""
    begun = time.perf_counter()
    loop.take_step({k: v.clone() for k, v in batch.items()})
    loop.levers.after_step(0)
    return time.perf_counter() - begun


def main() -> None:
    """Measure the methods named, or all, and print one line each."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("method", nargs="*")
    parser.add_argument("--task", default="mrpc")
    parser.add_argument("--rows", type=int, default=640)
    parser.add_argument("--pairs", type=int, default=12)
    parser.add_argument("--precision", default="fp32", choices=["fp32", "bf16"])
    parser.add_argument("--set", action="append", default=[], help="a setting, of the methods only")
    parser.add_argument("--data-dir", type=Path, default=ROOT.parent / "shared" / "data" / "glue")
    asked = parser.parse_args()
    full = make_loop("full", asked)
    batches = [full.batch(i) for i in full.order.batches(0, asked.pairs)]
    full.model.train()
    seconds(full, batches[0])
    print(f"{'method':18}{'of full':>8}  quartiles     limit  preparation")
    for name in asked.method or [m for m in sorted(EACH_KIND) if m not in OTHER]:
        private = ["method.dp.noise=1"] if name == "dp" else []
        loop = make_loop(name, asked, *private, *asked.set)
        compare(name, full, loop, batches)
        if private:
            theirs = ByOpacus(full)
            compare("dp by Opacus", full, theirs, batches)
            longest = max(batches, key=lambda batch: batch["input_ids"].numel())
            took = [step_bytes(each, longest) for each in (full, loop, theirs)]
            if None not in took:
                ours, others = (f"{took[i] / took[0]:.2f}" for i in (1, 2))
                print(f"{'dp, memory':18}{ours:>8}  of {took[0] / 2**20:.0f} MiB; Opacus {others}")


def compare(name: str, full: Any, loop: Any, batches: list[Any]) -> None:
    """Print what a loop's steps take beside full fine-tuning's, in turns."""
    loop.model.train()
    seconds(loop, batches[0])  # makes the optimizer's state
    ratios = []
    for i, batch in enumerate(batches):
        turns = [full, loop] if i % 2 == 0 else [loop, full]
        took = {id(each): seconds(each, batch) for each in turns}
        ratios.append(took[id(loop)] / took[id(full)])
    low, middle, high = statistics.quantiles(ratios, n=4)
    limit = LIMITS.get(name)
    said = "" if limit is None else f"{limit:.2f}" + (" over" if middle > limit else "")
    print(
        f"{name:18}{middle:8.2f}  {low:.2f} to {high:.2f}  {said:>9}"
        f"  {loop.preparation_seconds:.1f} s",
        flush=True,
    )


if __name__ == "__main__":
    main()
