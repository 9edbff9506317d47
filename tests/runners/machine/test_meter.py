"""A run's bar on a terminal says how it goes; elsewhere nothing but the lines of evaluations."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from runners.machine import console
from runners.machine.console import Meter

ENTRY = {"step": 4, "epoch": 1.0, "train_loss": 0.5, "scores": {"dev": {"accuracy": 0.75}}}


def _go(meter: Meter) -> None:
    meter.step(3)
    meter.seen(0.512345, 2e-5)
    meter.step(4)
    meter.scored(0.75, 0.8)
    meter.evaluated(ENTRY)
    meter.step(5)
    meter._bar.refresh()
    meter.close()


def test_elsewhere_there_are_only_the_lines(capsys: pytest.CaptureFixture[str]) -> None:
    _go(Meter(10, 2))
    assert capsys.readouterr().err == "step 4/10  epoch 1  loss 0.5000  dev accuracy 0.7500\n"


def test_a_bar_has_loss_rate_scores_and_time(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    _go(Meter(10, 2))
    drawn = [part for part in capsys.readouterr().err.replace("\n", "\r").split("\r") if part]
    assert any("2/10 steps" in part for part in drawn)  # where the run goes on
    assert any(
        "5/10 steps" in part
        and "left, loss 0.5123, rate 2.00e-05, score 0.7500, best 0.8000]" in part
        for part in drawn
    )
    assert "step 4/10  epoch 1  loss 0.5000  dev accuracy 0.7500" in drawn


def test_a_boards_run_says_how_far_it_is_now_and_then(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = tmp_path / "progress"
    monkeypatch.setenv(console.PROGRESS, str(place))
    clock = [10.0]
    monkeypatch.setattr(console.time, "monotonic", lambda: clock[0])
    meter = Meter(10, 2)
    meter.step(3)
    assert json.loads(place.read_text()) == {"step": 3, "steps": 10}
    meter.seen(0.5, 1e-3)
    meter.step(4)
    assert json.loads(place.read_text())["step"] == 3
    clock[0] += console.EVERY
    meter.step(5)
    assert json.loads(place.read_text()) == {"step": 5, "steps": 10, "loss": 0.5, "rate": 1e-3}
    place.unlink()
    tmp_path.chmod(0o500)
    monkeypatch.setenv(console.PROGRESS, str(tmp_path / "no" / "folder"))
    other = Meter(10)
    other.step(1)  # a board whose folder is gone costs no run
    tmp_path.chmod(0o700)
