"""A run that is stopped saves where it is, says how it goes on, and comes to the same end."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch

from results.record import read_all
from runners.machine.processes import Stopped, stoppable
from runners.tasks.scoring import Scoring
from runners.training import course
from tests.conftest import ROOT, Cli, tiny
from tests.runners.training.test_checkpoint import outcome

Folder = Callable[[str], Path]


@pytest.fixture(autouse=True)
def _hears_ctrl_c() -> Iterator[None]:
    """A shell's background jobs, this test among them, may ignore it."""
    usual = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, usual)


def _at(step: int, number: int, times: int = 1) -> Callable[[course.Saving], None]:
    """Return what stands for Saving.__call__: it sends this process a signal after a step."""
    every = course.Saving.__call__

    def call(self: course.Saving) -> None:
        every(self)
        if self.course.loop.step == step:
            for _ in range(times):
                signal.raise_signal(number)

    return call


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_stopped_run_goes_on_from_that_very_step_to_the_same_end(
    number: int,
    code: int,
    cli: Cli,
    tiny_folder: Folder,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    """Stopped after step 7 of 12, where no checkpoint is due, and in an evaluation after step 9."""
    given = tiny(tiny_folder("bert"), "task=rte", "budget.steps=12", "budget.evaluate=3")
    cut = [*given, "protocol=select", "log=csv", f"out={tmp_path / 'cut'}"]
    assert cli(*given, "protocol=select", f"out={tmp_path / 'whole'}").code == 0

    def stopped() -> str:
        if number == signal.SIGINT:
            done = cli(*cut)
            assert done.code == code
            return done.err
        with pytest.raises(SystemExit) as end:
            cli(*cut)
        assert end.value.code == code
        return capfd.readouterr().err

    with monkeypatch.context() as patch:
        patch.setattr(course.Saving, "__call__", _at(7, number))
        err = stopped()
    lines = err.strip().splitlines()
    assert lines[-1].startswith(
        "stopped at step 7 of 12, which is in a checkpoint; the same command goes on from there:"
        " python run.py data=embedded"
    )
    assert err.count("stopped at step") == 1
    assert "interrupted" not in err
    assert not (tmp_path / "cut" / ".claims").exists()
    assert len(list((tmp_path / "cut").glob(".checkpoints/*/step-000000007.safetensors"))) == 1
    [log] = (tmp_path / "cut").glob(".logs/*/train.csv")
    assert len(log.read_text().splitlines()) == 8
    score = Scoring.__call__

    def scored(self: Scoring, model: object, names: list[str], step: int) -> object:
        scores = score(self, model, names, step)
        if step == 9:
            torch.rand(5)  # what an evaluation draws is drawn again
            signal.raise_signal(number)
        return scores

    with monkeypatch.context() as patch:
        patch.setattr(Scoring, "__call__", scored)
        err = stopped()
    assert "goes on from the checkpoint of step 7 of 12" in err
    assert "stopped at step 9 of 12" in err
    assert cli(*cut).code == 0
    [whole], [again] = read_all(tmp_path / "whole"), read_all(tmp_path / "cut")
    assert outcome(again) == outcome(whole)
    assert again.resumed == [7, 9]
    assert len(log.read_text().splitlines()) == 13


def test_a_second_signal_ends_at_once(
    cli: Cli, tiny_folder: Folder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = tiny(tiny_folder("bert"), "task=rte", "budget.steps=12")
    monkeypatch.setattr(course.Saving, "__call__", _at(7, signal.SIGINT, times=2))
    done = cli(*given)
    assert (done.code, done.err.splitlines()[-1]) == (130, "interrupted")
    assert list((tmp_path / "runs").iterdir()) == []


def test_a_signal_after_the_last_look_is_not_lost() -> None:
    with pytest.raises(KeyboardInterrupt), stoppable() as stop:
        signal.raise_signal(signal.SIGINT)
    assert stop.number is not None
    with pytest.raises(Stopped), stoppable() as stop:
        signal.raise_signal(signal.SIGINT)
        with stop.at_once():
            pytest.fail("it was to be stopped before")
    with pytest.raises(KeyboardInterrupt), stoppable(wanted=False):
        signal.raise_signal(signal.SIGINT)


def test_a_stopped_sweep_says_one_line_and_goes_on(tiny_folder: Folder, tmp_path: Path) -> None:
    """Its run is a process of its own, which gets the signal too."""
    out = tmp_path / "runs"
    small = tiny(tiny_folder("bert"), f"out={out}", "budget.steps=2000", "threads=1", "task=rte")
    command = [sys.executable, "run.py", "-m", "method=full,bitfit", *small]
    process = subprocess.Popen(
        command, cwd=ROOT, env={**os.environ, "OMP_NUM_THREADS": "1"}, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True,
    )  # fmt: skip
    end = time.monotonic() + 240
    try:
        while not (out / ".logs").exists() and not list(out.glob(".checkpoints/*/*")):
            assert time.monotonic() < end
            assert process.poll() is None
            time.sleep(0.02)
    finally:
        process.terminate()
    out_text, err = process.communicate(timeout=120)
    assert process.returncode == 143, err
