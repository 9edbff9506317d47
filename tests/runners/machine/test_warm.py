"""Runs forked from a warm process: the same run, by itself, and not when it would differ."""

from __future__ import annotations

import atexit
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from results.record import Record, read_all
from runners.machine.processes import end
from runners.machine.warm import WARM, Forked, Process, can_fork, start, warm
from tests import forked
from tests.conftest import ROOT, tiny

pytestmark = pytest.mark.skipif(not can_fork(), reason="no process is forked here")
Folder = Callable[[str], Path]
ALIKE = ("run", "losses", "scores", "predictions", "initial_sha256", "trained_sha256", "methods")


class Runs:
    """Starts runs of one tiny model at a warm process, and knows where they write."""

    def __init__(self, address: str, model: Path, folder: Path) -> None:
        self.address, self.model, self.folder = address, model, folder
        self.log = folder / "log"

    def start(self, *more: str, out: str = "runs", **environment: str) -> Process:
        given = tiny(self.model, "task=rte", f"out={self.folder / out}", *more)
        with self.log.open("ab") as stream:
            kept = {k: v for k, v in os.environ.items() if k != "MKL_NUM_THREADS"}
            return start(given, {**kept, WARM: self.address, **environment}, stream.fileno())

    def fresh(self, *more: str, out: str = "fresh", **environment: str) -> Process:
        return self.start(*more, out=out, **{**environment, WARM: str(self.folder / "nowhere")})

    def until_claimed(self, out: str = "runs") -> int:
        """Return the process that does a run, once there is one that trains."""
        stop = time.monotonic() + 120
        while time.monotonic() < stop:
            time.sleep(0.02)
            if list((self.folder / out).glob(".checkpoints/*/step*")):
                [claim] = (self.folder / out).glob(".claims/*.claim")
                return int(json.loads(claim.read_text())["pid"])
        raise AssertionError(self.log.read_text())


@pytest.fixture
def runs(forked_runs: None, tiny_folder: Folder, tmp_path: Path) -> Runs:
    """Start runs at the warm process of all tests."""
    return Runs(os.environ[WARM], tiny_folder("bert"), tmp_path)


def _alike(first: Record, second: Record) -> None:
    for name in ALIKE:
        assert getattr(first, name) == getattr(second, name), name


def test_a_forked_run_is_the_run_of_a_fresh_process(runs: Runs) -> None:
    given = ("method=hype", "budget.steps=3", "speed.onednn=false")  # else it is timed anew
    forked = runs.start(*given, OMP_NUM_THREADS="2")
    assert isinstance(forked, Forked)
    assert forked.wait() == 0, runs.log.read_text()
    assert forked.forks
    fresh = runs.fresh(*given, OMP_NUM_THREADS="2")
    assert isinstance(fresh, subprocess.Popen)
    assert fresh.wait() == 0
    [one], [other] = read_all(runs.folder / "runs"), read_all(runs.folder / "fresh")
    _alike(one, other)
    assert one.environment == other.environment
    assert one.environment["threads"] == 2
    assert one.command.replace("/runs", "/fresh") == other.command


def test_a_forked_run_says_and_returns_what_a_fresh_one_does(runs: Runs) -> None:
    said = []
    for begin in (runs.start, runs.fresh):
        runs.log.unlink(missing_ok=True)
        process = begin("lr=-1")
        assert process.wait() == 2
        assert process.wait() == 2  # asked again, it says so again
        assert process.poll() == 2
        said.append(runs.log.read_text())
    assert said[0] == said[1]
    assert "lr=-1" in said[0]


def test_what_it_says_reaches_a_pipe(runs: Runs) -> None:
    """The warm process may have begun where a file took what it said."""
    reading, writing = os.pipe()
    process = start(["lr=-1"], {**os.environ, WARM: runs.address}, writing)
    assert process.wait() == 2
    os.close(writing)
    with os.fdopen(reading) as stream:
        assert stream.read() == "error: lr=-1 (must be > 0)\n"


class _TornDown:
    """Says so where the interpreter takes its modules apart."""

    def __del__(self) -> None:
        os.write(1, b"torn down\n")


_left: list[object] = []


def _leaves_work_for_its_end() -> None:
    def late() -> None:
        time.sleep(0.2)
        sys.stdout.write("thread\n")

    _left.append(_TornDown())
    atexit.register(sys.stdout.write, "end")  # which nothing flushes
    threading.Thread(target=late).start()
    print("act")


def test_a_forked_process_does_what_is_due_at_its_end_and_is_not_taken_apart(runs: Runs) -> None:
    """To take thousands of modules apart took about as long as a tiny run."""
    assert forked.call(runs.log, _leaves_work_for_its_end).wait() == 0
    assert runs.log.read_text() == "act\nthread\nend"


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no device here is full")
def test_a_forked_process_whose_last_words_have_no_place_says_so(runs: Runs) -> None:
    with Path("/dev/full").open("wb") as full:
        process = start(["--help"], {**os.environ, WARM: runs.address}, full.fileno())
        assert process.wait() == 120  # an interpreter's code for it


def _has_used_a_gpu() -> None:
    import torch

    torch.cuda.is_initialized = partial(bool, True)  # a function of here would keep this module
    _left.append(_TornDown())


def test_a_forked_process_that_used_a_gpu_ends_as_any_other(runs: Runs) -> None:
    """The driver's own work at the end is due too; under MPS others share its server."""
    assert forked.call(runs.log, _has_used_a_gpu).wait() == 0
    assert runs.log.read_text() == "torn down\n"


def test_a_signal_reaches_one_run_and_no_other(runs: Runs) -> None:
    first = runs.start("budget.steps=4000", "checkpoint.steps=2", out="first")
    second = runs.start("budget.steps=4000", "checkpoint.steps=2", "seed=9", out="second")
    crashed = runs.until_claimed("first")
    os.kill(crashed, signal.SIGSEGV)
    assert first.wait() == -signal.SIGSEGV
    runs.until_claimed("second")
    assert second.poll() is None
    end([second])
    assert second.wait() == 143
    assert not list((runs.folder / "second").glob(".claims/*.claim"))
    second.terminate()  # it is nobody's any more


def test_a_run_ends_with_the_process_that_asked_for_it(runs: Runs) -> None:
    given = tiny(runs.model, "task=rte", f"out={runs.folder / 'runs'}", "budget.steps=4000",
                 "checkpoint.steps=2")  # fmt: skip
    code = (
        "import os, sys; from runners.machine.warm import start;"
        " start(sys.argv[1:], os.environ, 1).wait()"
    )
    asker = subprocess.Popen(
        [sys.executable, "-c", code, *given], cwd=ROOT, env={**os.environ, WARM: runs.address},
        stdout=runs.log.open("ab"),
    )  # fmt: skip
    run = runs.until_claimed()
    asker.kill()
    _until_gone(run)
    assert not list((runs.folder / "runs").glob(".claims/*.claim"))


def _until_gone(process: int) -> None:
    stop = time.monotonic() + 60
    while Path(f"/proc/{process}").exists():
        assert time.monotonic() < stop
        time.sleep(0.02)


@pytest.mark.parametrize("other", ["HF_HOME", "PYTHONWARNINGS", "MKL_NUM_THREADS"])
def test_what_is_read_at_import_is_not_taken_from_another_process(other: str, runs: Runs) -> None:
    process = runs.start("lr=-1", **{other: "3" if "THREADS" in other else "ignore"})
    assert isinstance(process, Forked)
    assert process.wait() == 2
    assert not process.forks


def test_nothing_begins_before_the_first_run_is_asked_for(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv(WARM, raising=False)
    began: list[object] = []
    monkeypatch.setattr("runners.machine.warm.subprocess.Popen", lambda *a, **k: began.append(a))
    with warm():
        address = Path(os.environ[WARM])
        assert address.is_socket()
        with warm():  # one that is there is used
            assert os.environ[WARM] == str(address)
    assert not began
    assert not address.exists()
    with warm(wanted=False):
        assert WARM not in os.environ


def test_without_a_place_for_a_socket_runs_are_fresh_processes(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv(WARM, raising=False)
    long = tmp_path / ("x" * 100)
    long.mkdir()
    for place in (long, tmp_path / "nowhere"):
        monkeypatch.setattr("tempfile.tempdir", str(place))
        with warm():
            assert WARM not in os.environ
    assert not list(long.iterdir())


def test_a_warm_process_with_a_changed_file_and_one_that_is_killed_cost_time_only(
    runs: Runs, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """At a warm process as users have it, among whose imported files is one that changes."""
    file = tmp_path / "own" / "sitecustomize.py"
    file.parent.mkdir()
    file.write_text("imported = True\n")
    before = file.stat()
    monkeypatch.delenv(WARM)
    with monkeypatch.context() as patched:
        patched.setenv("PYTHONPATH", str(file.parent))
        with warm():
            own = Runs(os.environ[WARM], runs.model, runs.folder)
            first = own.start("lr=-1")
            assert first.wait() == 2
            assert isinstance(first, Forked)
            assert first.forks
            file.write_text("imported = 'anew'\n")
            changed = own.start("lr=-1")
            assert changed.wait() == 2
            assert isinstance(changed, Forked)
            assert not changed.forks
            file.write_text("imported = True\n")
            os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))
            _goes_on_elsewhere(own)
        assert WARM not in os.environ
    assert runs.start("budget.steps=60", out="other").wait() == 0
    [one], [other] = read_all(runs.folder / "runs"), read_all(runs.folder / "other")
    assert one.resumed
    _alike(one, other)


def _goes_on_elsewhere(own: Runs) -> None:
    """Kill the warm process of a run; see the run end, and go on in a fresh process."""
    given = ("budget.steps=60", "checkpoint.steps=2")
    process = own.start(*given)
    run = own.until_claimed()
    parent = int(Path(f"/proc/{run}/stat").read_text().rpartition(")")[2].split()[1])
    assert b"runners.warm" in Path(f"/proc/{parent}/cmdline").read_bytes()
    os.kill(parent, signal.SIGKILL)
    code = process.wait()
    while code == 3:  # the run that was forked saves where it is
        code = own.start(*given).wait()
    assert code == 0, own.log.read_text()
