"""A run that is stopped saves where it is, says how it goes on, and comes to the same end."""

from __future__ import annotations

import os
import pkgutil
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch

from results.record import read_all
from results.tables.collect import device
from runners.machine import environment
from runners.machine.processes import Stopped, stoppable, stopped_together
from runners.machine.trackers import Trackers, Values
from runners.runs.verify import promised
from runners.tasks.scoring import Scoring
from runners.training import course
from tests.conftest import ROOT, Cli, tiny
from tests.runners.training.test_checkpoint import outcome

Folder = Callable[[str], Path]
WRITTEN = "runners.runs.train.save_delta"


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


def test_a_run_stopped_after_its_last_evaluation_has_its_predictions(
    cli: Cli, tiny_folder: Folder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The signal comes when the scores are logged."""
    given = tiny(tiny_folder("bert"), "task=rte", "budget.steps=4", "save=logits")
    cut = [*given, "log=csv", f"out={tmp_path / 'cut'}"]
    assert cli(*given, f"out={tmp_path / 'whole'}").code == 0
    logged = Trackers.scores

    def told(self: Trackers, step: int, scores: Mapping[str, Values]) -> None:
        logged(self, step, scores)
        signal.raise_signal(signal.SIGINT)

    with monkeypatch.context() as patch:
        patch.setattr(Trackers, "scores", told)
        done = cli(*cut)
    assert done.code == 130
    assert "stopped at step 4 of 4, which is in a checkpoint" in done.err
    done = cli(*cut)
    assert (done.code, done.err.count("warning")) == (0, 0)
    [whole], [again] = read_all(tmp_path / "whole"), read_all(tmp_path / "cut")
    assert again.predictions
    assert outcome(again) == outcome(whole)
    assert again.logits_sha256 == whole.logits_sha256
    assert again.resumed == [4]
    [log] = (tmp_path / "cut").glob(".logs/*/validation.csv")
    assert [line[:2] for line in log.read_text().splitlines()[1:]] == ["4,"]


@pytest.mark.parametrize("where", ["runners.training.course.Course.result", WRITTEN])
def test_a_run_stopped_after_its_last_step_has_its_record(
    where: str, cli: Cli, tiny_folder: Folder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the selected weights are scored, or written: all that was trained would be lost."""
    given = tiny(tiny_folder("bert"), "task=rte", "budget.steps=4", "budget.evaluate=2")
    cut = [*given, "protocol=select", "save=delta", f"out={tmp_path / 'cut'}"]
    assert cli(*given, "protocol=select", f"out={tmp_path / 'whole'}").code == 0
    act = pkgutil.resolve_name(where)

    def stopped(*arguments: Any) -> Any:
        signal.raise_signal(signal.SIGINT)
        return act(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(where, stopped)
        done = cli(*cut)
    assert done.code == 130
    assert "record: " in done.out
    [whole], [cut_short] = read_all(tmp_path / "whole"), read_all(tmp_path / "cut")
    assert outcome(cut_short) == outcome(whole)
    assert not list((tmp_path / "cut").glob(".c*"))
    assert "stored result" in cli(*cut).out


def test_a_stopped_run_that_was_forced_says_that_its_command_begins_anew(
    cli: Cli, tiny_folder: Folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was told to go on from the checkpoint, which force=true throws away."""
    given = tiny(tiny_folder("bert"), "task=rte", "budget.steps=4")
    with monkeypatch.context() as patch:
        patch.setattr(course.Saving, "__call__", _at(2, signal.SIGINT))
        done = cli(*given, "force=true")
    assert done.err.splitlines()[-1] == (
        "stopped at step 2 of 4, which is in a checkpoint; the same command begins anew, as"
        " force=true says; without it, where no result is stored, it goes on from there"
    )
    assert "goes on from the checkpoint of step 2 of 4" in cli(*given).err
    for typed, how in (("force=true", "begins anew"), ("seed=1", "goes on from there")):
        with pytest.raises(KeyboardInterrupt, match=how), stopped_together([typed]):
            raise KeyboardInterrupt


def test_a_run_that_goes_on_with_other_code_says_all_of_it(
    cli: Cli, tiny_folder: Folder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was begun by changed code, and its record named the commit that ended it, unchanged."""
    given = tiny(tiny_folder("bert"), "task=rte", "budget.steps=4")
    codes = [{"commit": "a", "dirty": True}, {"commit": "b", "dirty": False}]
    for code, step in zip([*codes, codes[1]], (1, 2, None), strict=True):
        with monkeypatch.context() as patch:
            patch.setattr(environment, "commit", lambda code=code: code)
            if step is not None:
                patch.setattr(course.Saving, "__call__", _at(step, signal.SIGINT))
            assert cli(*given).code == (0 if step is None else 130)
    [record] = read_all(tmp_path / "runs")
    assert record.resumed == [1, 2]
    assert record.environment["commits"] == ["a", "b"]
    assert (record.environment["commit"], record.environment["dirty"]) == ("b", True)


def test_a_run_that_goes_on_elsewhere_says_so_and_is_promised_no_bits(
    cli: Cli, tiny_folder: Folder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The record named the last machine alone, and `verify=` called a promise broken."""
    given = [a for a in tiny(tiny_folder("bert"), "budget.steps=4") if not a.startswith("threads")]
    with monkeypatch.context() as patch:
        patch.setattr(course.Saving, "__call__", _at(2, signal.SIGINT))
        assert cli(*given, "threads=1").code == 130
    assert cli(*given, "threads=2").code == 0
    [record] = read_all(tmp_path / "runs")
    # What oneDNN is worth is measured by each process, and may be another with two threads.
    assert record.environment["changed"]["threads"] == [1, 2]
    promise, why = promised(record, record)
    assert promise[0] == "3"
    assert "threads, which changed as the record's run went on" in why
    assert cli(*given, "seed=2", "threads=1").code == 0
    [other] = [one for one in read_all(tmp_path / "runs") if one.seed == 2]
    assert "changed" not in other.environment
    assert device(record).endswith(", changed as a run went on")


def test_a_run_that_goes_on_with_other_switches_says_so(
    cli: Cli, tiny_folder: Folder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They are in no name and change last digits; `verify=` called a promise broken."""
    given = tiny(tiny_folder("bert"), "budget.steps=8", "threads=1")
    with monkeypatch.context() as patch:
        patch.setattr(course.Saving, "__call__", _at(4, signal.SIGINT))
        assert cli(*given).code == 130
    assert cli(*given, "speed.first_token=false").code == 0
    [record] = read_all(tmp_path / "runs")
    assert record.environment["changed"] == {"speed.first_token": [True, False]}
    promise, why = promised(record, record)
    assert promise[0] == "3"
    assert "speed.first_token, which changed as the record's run went on" in why
    assert environment.of_machines([{"threads": 1}, {"threads": 1, "speed.graphs": True}]) == {}
    before, now = {"speed.graphs": True}, {"speed.graphs": True, "speed.skip_padding": True}
    assert environment.of_machines([before, now]) == {
        "changed": {"speed.skip_padding": [False, True]}
    }


def test_seconds_of_a_run_that_had_others_beside_for_a_while_are_none(
    cli: Cli, tiny_folder: Folder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A board was stopped and went on with fewer workers: its record told of the last alone."""
    given = tiny(tiny_folder("bert"), "task=rte", "budget.steps=4")
    with monkeypatch.context() as patch:
        patch.setenv("TUNEBENCH_RUNS_BESIDE", "3")
        patch.setattr(course.Saving, "__call__", _at(2, signal.SIGINT))
        assert cli(*given).code == 130
    assert cli(*given).code == 0
    [record] = read_all(tmp_path / "runs")
    assert record.environment["changed"] == {"beside": [3, 0]}
    assert device(record).endswith(", changed as a run went on")
    assert promised(record, record)[0][0] == "1"


def test_on_a_shared_gpu_it_does_not_matter_how_many_others_there_are() -> None:
    on = {"device": "cuda", "shared_device": True}
    alike = [environment.machine_of({**on, "runs_beside": n}) for n in (3, 1)]
    assert environment.of_machines(alike) == {}
    alone = environment.machine_of({"device": "cuda", "shared_device": False, "runs_beside": 0})
    told = environment.of_machines([*alike, alone])
    assert told == {"changed": {"beside": ["shared", "shared", 0]}}
    before = {key: value for key, value in alone.items() if key != "beside"}
    assert environment.of_machines([before, alone]) == {}  # of an older checkpoint


def test_a_stopped_run_that_has_diverged_does_not_go_on(
    cli: Cli, tiny_folder: Folder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Losses are looked at each ten steps; what is kept at a stop has finite ones."""
    given = tiny(tiny_folder("bert"), "task=rte", "budget.steps=12", "budget.warmup=0", "lr=1e38")
    monkeypatch.setattr(course.Saving, "__call__", _at(5, signal.SIGINT))
    assert cli(*given).code == 1
    [record] = read_all(tmp_path / "runs")
    assert record.status == "diverged"
    assert record.error is not None
    assert "the training loss was not finite at step 2" in record.error["message"]


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

    def in_an_evaluation() -> None:
        with stoppable() as stop:
            signal.raise_signal(signal.SIGINT)
            stop.at_once(lambda: pytest.fail("it was to be stopped before"))

    with pytest.raises(Stopped):
        in_an_evaluation()
    with pytest.raises(KeyboardInterrupt), stoppable(wanted=False):
        signal.raise_signal(signal.SIGINT)


@pytest.mark.usefixtures("forked_runs")
def test_a_stopped_sweep_says_one_line_and_its_run_saves_where_it_is(
    tiny_folder: Folder, tmp_path: Path
) -> None:
    """The run is a process of its own, which the sweep ends."""
    out = tmp_path / "runs"
    small = tiny(tiny_folder("bert"), f"out={out}", "budget.steps=40000", "log=csv", "task=rte")
    typed = ["-m", "method=full,bitfit", *small]
    process = subprocess.Popen(
        [sys.executable, "run.py", *typed], cwd=ROOT, text=True, start_new_session=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    end = time.monotonic() + 240
    try:
        while not any(len(p.read_bytes()) > 600 for p in out.glob(".logs/*/train.csv")):
            assert time.monotonic() < end
            assert process.poll() is None
            time.sleep(0.02)
    finally:
        process.terminate()
    _, err = process.communicate(timeout=120)
    assert process.returncode == 143, err
    first, *_, last = [line for line in err.splitlines() if "DATA: EMBEDDED" not in line]
    assert first == "run 1 of 2: method=full"
    assert last.startswith("stopped; runs that were training left a checkpoint each, and the same")
    assert last.endswith(shlex.join(["python", "run.py", *typed]))
    assert err.count("stopped; ") == 1
    kept, logs = list(out.glob(".checkpoints/*/step-*")), list(out.glob(".logs/*/train.csv"))
    assert (len(kept), len(logs)) == (1, 1), (kept, logs, err)
    assert logs[0].read_text().splitlines()[-1].startswith(f"{int(kept[0].stem[-9:])},")
    assert not list(out.glob(".claims/*"))
