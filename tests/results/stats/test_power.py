"""Power is told from the spread of paired differences, in points."""

from __future__ import annotations

import math
import re
from pathlib import Path

import pytest

from results.__main__ import main
from results.record import write
from results.stats.compare import judge
from results.stats.power import pooled_sd, power
from results.tables.collect import tables
from tests.results.simulated import grid
from tests.results.tables.test_collect import _record

FULL = {1: 0.80, 2: 0.82, 3: 0.84}


def test_spread_is_that_of_differences_by_seed() -> None:
    scores = {
        "full": FULL,
        "a": {1: 0.79, 2: 0.83, 3: 0.84, 4: 0.1},  # differences -.01, .01, 0: variance 1e-4
        "b": {1: 0.80, 2: 0.86},  # 0, .04: variance 8e-4
        "c": {3: 0.9},
    }
    sd, methods = pooled_sd(scores)
    assert methods == 2
    assert sd == pytest.approx(math.sqrt(4.5e-4))
    assert pooled_sd({"a": FULL}) == (None, 0)


def test_power_is_printed_for_each_task(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["power", str(tmp_path)]) == 0
    assert "spread of the differences is unknown" in capsys.readouterr().out
    for seed, score in FULL.items():
        write(_record("full", seed=seed, score=score), tmp_path)
        write(_record("bitfit", seed=seed, score=score - 0.01 * (seed % 2)), tmp_path)
    assert main(["power", str(tmp_path)]) == 0
    printed = capsys.readouterr().out
    # Differences -.01, 0, -.01: sd .577 points; six seeds must all agree, at 1.79 times that.
    assert "mrpc: sd of a seed's difference 0.58 points (1 methods)" in printed
    assert "alone             3: none  5: none  6: 1.0" in printed
    assert "among" not in printed
    assert power([]).startswith("no method shares")


def test_a_table_with_more_comparisons_needs_a_larger_difference() -> None:
    records = grid({"full": 0, "bitfit": -0.02, "adapter": 0.01}, ["mrpc", "rte"], 3)
    printed = power(records)
    comparisons = len(judge(tables(records)[0]).differences)
    assert comparisons == 6  # two rows, two tasks and their average
    alone, among = (
        [line for line in printed.splitlines() if line.startswith(f"  {word} ")]
        for word in ("alone", "among 6 shown")
    )
    assert len(alone) == len(among) == 2
    for one, other in zip(alone, among, strict=True):
        by_seeds = [
            dict(re.findall(r"(\d+): (none|[\d.]+)", line.partition("  ")[2]))
            for line in (one, other)
        ]
        assert all(found["3"] == found["5"] == "none" for found in by_seeds)
        for n in ("6", "8", "10", "20"):
            assert float(by_seeds[0][n]) < float(by_seeds[1][n])
