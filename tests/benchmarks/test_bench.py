"""Pairs of the benchmark, with sides that take no time: order, settings, the ratio's direction."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tests.benchmarks import bench

SETTING = "speed.first_token=false"


@pytest.mark.parametrize("name", ["full-rte-bf16", "process-bitfit-rte"])
def test_without_compares_ours_with_ours_under_that_setting(
    name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A lever that makes twice as fast prints 2.00, whether speed or seconds are measured."""
    asked: list[tuple[int, tuple[str, ...]]] = []

    def ours(work: bench.Work, seed: int, data_dir: Path, *settings: str) -> bench.Figures:
        asked.append((seed, settings))
        seconds = 20.0 if settings else 10.0
        return {
            "examples_per_second": 100 / seconds,
            "tokens_per_second": 1000 / seconds,
            "eval_seconds": seconds,
            "score": 0.5,
            "peak_bytes": 2.0**20,
            "seconds_to_first_step": 1.0,
            "whole_seconds": seconds,
        }

    monkeypatch.setattr(bench, "ours", ours)
    monkeypatch.setattr(bench, "product_rate", lambda precision: 1e9)
    monkeypatch.setattr(sys, "argv", ["bench", name, "--pairs", "3", "--without", SETTING])
    bench.main()
    assert asked == [
        *((42, ()), (42, (SETTING,))),
        *((43, (SETTING,)), (43, ())),  # which goes first alternates
        *((44, ()), (44, (SETTING,))),
    ]
    head, line = capsys.readouterr().out.splitlines()
    assert head.split()[:3] == ["work", "ours", "without"]
    assert line.split()[0] == name
    assert line.split()[3] == "2.00"
