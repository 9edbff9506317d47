"""Ours against the Trainer, side by side: python -m tests.benchmarks.bench [WORK …].

Each pair runs both in processes of their own, one after the other; which goes first alternates.
Printed are medians and the median of the pairs' ratios, with their range. With --without
speed.LEVER=false the other side is ours without that lever.
"""

from __future__ import annotations

import argparse
import functools
import json
import statistics
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from results.record import read_all
from tests.benchmarks.fresh import process

ROOT = Path(__file__).resolve().parent.parent.parent
Figures = dict[str, float]


@dataclass(frozen=True)
class Work:
    """One line of the comparison: what trains on what, and how the peer pads."""

    method: str
    task: str
    precision: str
    train_size: int | None = None
    padding: str = "longest"
    measure: str = "examples_per_second"


WORKS = {
    "full-rte-fp32": Work("full", "rte", "fp32"),
    "full-mrpc-fp32": Work("full", "mrpc", "fp32"),
    "full-sst2-fp32": Work("full", "sst2", "fp32", 8000),
    "full-rte-bf16": Work("full", "rte", "bf16"),
    "full-mrpc-bf16": Work("full", "mrpc", "bf16"),
    "full-sst2-bf16": Work("full", "sst2", "bf16", 8000),
    "full-sst2-fp32-padded": Work("full", "sst2", "fp32", 1000, "max"),
    "bitfit-mrpc-fp32": Work("bitfit", "mrpc", "fp32"),
    "lora-mrpc-fp32": Work("lora", "mrpc", "fp32"),
    "process-bitfit-rte": Work("bitfit", "rte", "fp32", 500, measure="whole_seconds"),
    "eval-qnli-fp32": Work("full", "qnli", "fp32", 64, measure="eval_seconds"),
}


def ours(work: Work, seed: int, data_dir: Path, *settings: str) -> Figures:
    """Run run.py once, with more settings, and return what its record says."""
    size = [f"data.train_size={work.train_size}"] if work.train_size else []
    with tempfile.TemporaryDirectory() as out:
        began = time.perf_counter()
        _process(
            "run.py",
            f"method={work.method}",
            f"task={work.task}",
            f"precision={work.precision}",
            "data=local",
            f"data.dir={data_dir}",
            *size,
            "budget.epochs=1",
            f"seed={seed}",
            f"out={out}",
            *settings,
        )
        whole = time.perf_counter() - began
        [record] = read_all(Path(out))
    assert record.score is not None
    assert record.train_seconds
    assert record.eval_seconds is not None
    assert record.peak_bytes is not None
    assert record.startup_seconds is not None
    assert record.whole_seconds is not None
    rows = record.data["splits"]["train"]["rows"]
    return {
        "examples_per_second": rows / record.train_seconds,
        "tokens_per_second": record.tokens_per_second or 0.0,
        "eval_seconds": record.eval_seconds,
        "score": record.score,
        "peak_bytes": record.peak_bytes,
        # All before the record's own clock, and the little after it.
        "seconds_to_first_step": whole - record.whole_seconds + record.startup_seconds,
        "whole_seconds": whole,
    }


def theirs(work: Work, seed: int, data_dir: Path) -> Figures:
    """Run the baseline once and return what it prints."""
    size = ["--train-size", str(work.train_size)] if work.train_size else []
    with tempfile.TemporaryDirectory() as out:
        began = time.perf_counter()
        printed = _process(
            "-m", "tests.benchmarks.baseline",
            "--task", work.task, "--method", work.method, "--precision", work.precision,
            "--padding", work.padding, "--seed", str(seed), "--out", out,
            "--data-dir", str(data_dir), "--began", str(time.time()), *size,
        )  # fmt: skip
        whole = time.perf_counter() - began
    found: Figures = json.loads(printed.strip().splitlines()[-1])
    return found | {"whole_seconds": whole}


def _ours_without(setting: str, work: Work, seed: int, data_dir: Path) -> Figures:
    return ours(work, seed, data_dir, setting)


def _process(*arguments: str) -> str:
    try:
        return process(arguments)
    except RuntimeError as error:
        raise SystemExit(f"{' '.join(arguments)} failed:\n{error}") from None


def product_rate(precision: str) -> float:
    """Return the machine's own rate of the encoder's typical product, in floating operations/s."""
    import torch

    kind = torch.bfloat16 if precision == "bf16" else torch.float32
    left, right = torch.randn(4096, 384).to(kind), torch.randn(1536, 384).to(kind)
    for _ in range(3):
        torch.nn.functional.linear(left, right)
    began = time.perf_counter()
    for _ in range(30):
        torch.nn.functional.linear(left, right)
    return 30 * 2 * 4096 * 1536 * 384 / (time.perf_counter() - began)


def main() -> None:
    """Measure the works named, or all, and print one line each."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("work", nargs="*", choices=[[], *WORKS], default=[])
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--data-dir", type=Path, default=ROOT.parent / "shared" / "data" / "glue")
    parser.add_argument("--train-size", type=int, help="fewer rows, for a quick look")
    parser.add_argument(
        "--without",
        metavar="SETTING",
        help="compare with ours under this setting, as speed.first_token=false, not the Trainer",
    )
    asked = parser.parse_args()
    peer = functools.partial(_ours_without, asked.without) if asked.without else theirs
    named = "without" if asked.without else "Trainer"
    print(f"{'work':24}{'ours':>10}{named:>10}{'ratio':>8}  range of ratios, details")
    for name in asked.work or WORKS:
        work = WORKS[name]
        if asked.train_size:
            work = Work(**{**vars(work), "train_size": asked.train_size})
        pairs, rate = [], 0.0
        for i in range(asked.pairs):
            sides = [ours, peer] if i % 2 == 0 else [peer, ours]
            found = {side: side(work, 42 + i, asked.data_dir) for side in sides}
            pairs.append((found[ours], found[peer]))
            rate = max(rate, product_rate(work.precision))  # one alone may have been disturbed
        _tell(name, work, pairs, rate)


def _tell(name: str, work: Work, pairs: list[tuple[Figures, Figures]], rate: float) -> None:
    slower_is_more = work.measure.endswith("seconds")
    ratios = [
        (b[work.measure] / a[work.measure] if slower_is_more else a[work.measure] / b[work.measure])
        for a, b in pairs
    ]

    def median(side: int, key: str) -> float:
        return statistics.median(pair[side][key] for pair in pairs)

    operations = 2 * 3 * 10_646_784  # forward and backward of minilm's encoder, for one token
    share = median(0, "tokens_per_second") * operations / rate
    print(
        f"{name:24}{median(0, work.measure):10.2f}{median(1, work.measure):10.2f}"
        f"{statistics.median(ratios):8.2f}  {min(ratios):.2f} to {max(ratios):.2f};"
        f" score {100 * median(0, 'score'):.1f} / {100 * median(1, 'score'):.1f},"
        f" peak {median(0, 'peak_bytes') / 2**20:.0f} / {median(1, 'peak_bytes') / 2**20:.0f} MiB,"
        f" start {median(0, 'seconds_to_first_step'):.1f} /"
        f" {median(1, 'seconds_to_first_step'):.1f} s,"
        f" {median(0, 'tokens_per_second'):.0f} tokens/s"
        + (f", {share:.2f} of {rate / 1e9:.0f} GFLOP/s" if work.method == "full" else ""),
        flush=True,
    )


if __name__ == "__main__":
    main()
