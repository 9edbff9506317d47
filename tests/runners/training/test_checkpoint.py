"""A killed run goes on from its checkpoint to the same end, to the bit; damage is noticed."""

from __future__ import annotations

import json
import math
import os
import random
import signal
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from results.record import Record, read_all
from runners.machine.warm import Process
from runners.training import checkpoint, course
from runners.training.checkpoint import Checkpoints, flatten, unflatten
from tests import forked
from tests.conftest import EACH_KIND, Cli, in_soak, narrow, task_of, tiny

Folder = Callable[[str], Path]
KILLS = int(os.environ.get("KILLS", "3"))  # make soak asks for more


class Killed(BaseException):
    """Stands for a signal that no handler sees."""


def outcome(record: Record) -> dict[str, Any]:
    """Return what must be equal to the bit."""
    names = (
        "scores",
        "evaluations",
        "predictions",
        "trained_sha256",
        "initial_sha256",
        "losses",
        "selected",
    )
    return {
        n: getattr(record, n)
        for n in (*names, "train_loss", "best_on_dev", "method_reports", "parameters")
    }


def whole_and_cut(
    cli: Cli, given: Sequence[str], folder: Path, monkeypatch: pytest.MonkeyPatch, step: int
) -> tuple[Record, Record]:
    """Return a run's record, and that of the same run killed after a step and begun again."""
    assert cli(*given, f"out={folder / 'whole'}").code == 0
    every = course.Saving.__call__

    def call(self: course.Saving) -> None:
        every(self)
        if self.course.loop.step == step:
            raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(course.Saving, "__call__", call)
        with pytest.raises(Killed):
            cli(*given, "checkpoint.steps=1", f"out={folder / 'cut'}")
    assert cli(*given, f"out={folder / 'cut'}").code == 0
    [whole], [cut] = read_all(folder / "whole"), read_all(folder / "cut")
    return whole, cut


def test_state_comes_back_as_it_was() -> None:
    state = {
        "a": {0: torch.arange(3), 1: (True, None, 2.5, "x")},
        "b": [torch.tensor(7.0), torch.ones(2, 2).to(torch.bfloat16), []],
        "c": torch.get_rng_state(),
        "d": torch.zeros(0, 3).t(),
    }
    tensors: dict[str, torch.Tensor] = {}
    image = json.loads(json.dumps(flatten(state, tensors)))
    back = unflatten(image, tensors)
    assert list(back["a"]) == [0, 1]
    assert back["a"][1] == (True, None, 2.5, "x")
    for ours, theirs in (
        (back["a"][0], state["a"][0]),
        *zip(back["b"][:2], state["b"][:2], strict=True),
        (back["c"], state["c"]),
        (back["d"], state["d"]),
    ):
        assert torch.equal(ours, theirs)
        assert ours.dtype == theirs.dtype
    with pytest.raises(TypeError, match="set"):
        flatten({"s": {1}}, {})


@pytest.mark.parametrize("method", sorted({*EACH_KIND} - {"embedding"}))  # it takes no step
def test_every_method_goes_on_to_the_same_end(
    method: str,
    cli: Cli,
    tiny_folder: Folder,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Interrupted after step 3 of 6, and once more after step 5."""
    steps = ("budget.steps=6", "budget.evaluate=2", f"task={task_of(method, 'sst2')}")
    given = tiny(tiny_folder("bert"), *narrow(method), *steps)
    assert cli(*given, f"out={tmp_path / 'whole'}").code == 0
    every = course.Saving.__call__
    stop = iter((3, 5))
    at = next(stop)

    def call(self: course.Saving) -> None:
        every(self)
        if self.course.loop.step == at:
            raise Killed

    monkeypatch.setattr(course.Saving, "__call__", call)
    for _ in range(2):
        with pytest.raises(Killed):
            cli(*given, "checkpoint.steps=1", f"out={tmp_path / 'cut'}")
        at = next(stop, 0)
    found = cli(*given, "checkpoint.steps=1", f"out={tmp_path / 'cut'}")
    assert found.code == 0
    assert "goes on from the checkpoint of step 5 of 6" in found.err
    [whole], [cut] = read_all(tmp_path / "whole"), read_all(tmp_path / "cut")
    assert outcome(cut) == outcome(whole)
    assert (whole.resumed, cut.resumed) == ([], [3, 5])
    assert cut.run == whole.run
    assert cut.whole_seconds >= cut.train_seconds + cut.startup_seconds  # of all its processes
    assert not (tmp_path / "cut" / ".checkpoints").exists()


@pytest.mark.parametrize(
    "options",
    [
        ("protocol=select",),
        ("optimizer=super_adam",),
        ("method=smart", "method.smart.proximal=1"),
    ],
)
def test_selection_optimizer_and_average_go_on_too(
    options: tuple[str, ...],
    cli: Cli,
    tiny_folder: Folder,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    given = tiny(tiny_folder("bert"), "budget.steps=6", "budget.evaluate=1", *options)
    whole, cut = whole_and_cut(cli, given, tmp_path, monkeypatch, 4)
    assert outcome(cut) == outcome(whole)
    assert cut.train_seconds is not None


def test_a_run_that_began_on_another_kind_of_device_says_so_and_stays_as_it_is(
    cli: Cli, tiny_folder: Folder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = tiny(tiny_folder("bert"), "budget.steps=6", "checkpoint.steps=1")
    described = course.Course.state_dict

    def on_gpu(self: course.Course) -> dict[str, Any]:
        return {**described(self), "device": "cuda"}

    every = course.Saving.__call__

    def call(self: course.Saving) -> None:
        every(self)
        if self.course.loop.step == 3:
            raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(course.Course, "state_dict", on_gpu)
        patch.setattr(course.Saving, "__call__", call)
        with pytest.raises(Killed):
            cli(*given)
    kept = sorted((tmp_path / "runs").glob(".checkpoints/*/*"))
    found = cli(*given)
    assert found.code == 2
    assert "checkpoint of step 3 is from device=cuda, and this is cpu" in found.err
    assert sorted((tmp_path / "runs").glob(".checkpoints/*/*")) == kept
    assert cli(*given, "force=true").code == 0


def _killed(process: Process, after: float | None) -> int:
    """Kill a process after so many seconds, if it then goes on; return its exit code."""
    end = math.inf if after is None else time.monotonic() + after
    while process.poll() is None and time.monotonic() < end:
        time.sleep(0.005)
    if process.poll() is None:
        process.send_signal(signal.SIGKILL)
    return process.wait()


@pytest.mark.usefixtures("forked_runs")
@pytest.mark.parametrize(
    "method",
    ["full", "child_tuning_f", *(pytest.param(m, marks=in_soak)
                                 for m in ("bitfit", "hype", "promptbert"))],
)  # fmt: skip
def test_killed_at_random_moments(method: str, tiny_folder: Folder, tmp_path: Path) -> None:
    """SIGKILL at random moments of a run; every end is the uninterrupted one."""
    given = [
        *tiny(tiny_folder("bert"), f"method={method}", "budget.steps=24", "budget.evaluate=12"),
        *(f"task={task_of(method, 'sst2')}", "checkpoint.steps=3"),
    ]

    def go(out: str, kill_after: float | None = None) -> bool:
        process = forked.start([*given, f"out={tmp_path / out}"], tmp_path / "log")
        code = _killed(process, kill_after)
        assert code in (0, -signal.SIGKILL), (tmp_path / "log").read_text()
        return code != 0

    go("whole")
    start = time.perf_counter()
    go("again")  # the first one also waits for the imports
    seconds = time.perf_counter() - start
    [whole] = read_all(tmp_path / "whole")
    rng = random.Random(method)
    kills, ends, went_on = 0, 0, 0
    while kills < KILLS or (not went_on and kills < 40):
        out = f"cut{ends}"
        while go(out, rng.uniform(0.1, 1.1) * seconds):
            kills += 1
        [cut] = read_all(tmp_path / out)
        assert outcome(cut) == outcome(whole)
        went_on += len(cut.resumed)
        ends += 1
    assert went_on > 0


@pytest.mark.usefixtures("forked_runs")
def test_sweep_killed_at_random_moments(tiny_folder: Folder, tmp_path: Path) -> None:
    """SIGKILL at random moments of a sweep of four runs: each is whole, and once."""
    given = [
        *("-m", "own_process=false", "task=sst2", "method=full,child_tuning_f", "seed=1,2"),
        *tiny(tiny_folder("bert"), "budget.steps=24", "checkpoint.steps=3"),
    ]

    def go(out: str, kill_after: float | None = None) -> bool:
        process = forked.start([*given, f"out={tmp_path / out}"], tmp_path / "log")
        code = _killed(process, kill_after)
        assert code in (0, -signal.SIGKILL), (tmp_path / "log").read_text()
        return code != 0

    go("warm")
    start = time.perf_counter()
    go("whole")
    seconds = time.perf_counter() - start
    whole = {r.run: outcome(r) for r in read_all(tmp_path / "whole")}
    assert len(whole) == 4
    rng = random.Random(7)
    kills, ends, went_on = 0, 0, 0
    while kills < KILLS or (not went_on and kills < 40):
        out, untouched = f"cut{ends}", {}
        while go(out, rng.uniform(0.05, 0.9) * seconds):
            kills += 1
            there = {p.name: p.stat().st_mtime_ns for p in (tmp_path / out).glob("*.json")}
            assert untouched.items() <= there.items()  # what was done was not done again
            untouched = there
        found = read_all(tmp_path / out)
        assert {r.run: outcome(r) for r in found} == whole
        went_on += sum(len(r.resumed) for r in found)
        ends += 1
    assert went_on > 0


def _some_checkpoints(tmp_path: Path, said: list[str]) -> Checkpoints:
    found = Checkpoints(tmp_path, "run", said.append)
    for step in (1, 2, 3):
        assert found.save(step, {"step": step, "weights": torch.full((50,), float(step))})
    return found


def test_a_checkpoint_cut_in_half_is_noticed_and_the_one_before_it_used(tmp_path: Path) -> None:
    said: list[str] = []
    found = _some_checkpoints(tmp_path, said)
    files = sorted(found.folder.iterdir())
    assert [f.name for f in files] == ["step-000000002.safetensors", "step-000000003.safetensors"]
    newest = found.newest()
    assert newest is not None
    assert newest[0] == 3
    assert torch.equal(newest[1]["weights"], torch.full((50,), 3.0))
    assert not said
    whole = files[1].read_bytes()
    for damaged in (
        whole[: len(whole) // 2],
        whole[:5],
        b"",
        whole[:-9] + bytes([whole[-9] ^ 1]) + whole[-8:],
        b"\x80\x04K\x01.",  # a pickle
    ):
        files[1].write_bytes(damaged)
        newest = found.newest()
        assert newest is not None
        assert newest[0] == 2
        assert str(files[1]) in said.pop()
    files[0].write_bytes(b"x")
    assert found.newest() is None
    assert len(said) == 2


def test_a_checkpoint_of_another_run_or_torch_or_format_is_not_used(tmp_path: Path) -> None:
    said: list[str] = []
    found = _some_checkpoints(tmp_path, said)
    other = Checkpoints(tmp_path, "other", said.append)
    found.folder.rename(other.folder)
    assert other.newest() is None
    assert "it belongs to run" in said[0]
    path = sorted(other.folder.iterdir())[1]
    save_file(load_file(path), path, metadata={"format": "pt"})
    assert other.newest() is None
    assert "no checkpoint of this project" in said[2]


def test_what_cannot_be_used_does_not_oust_what_is_saved_later(tmp_path: Path) -> None:
    """Two of later steps were the newest to keep, and each new one was removed at once."""
    said: list[str] = []
    found = _some_checkpoints(tmp_path, said)
    for path in found.folder.iterdir():
        path.write_bytes(b"x")
    assert found.newest() is None
    assert found.save(1, {"step": 1})
    newest = found.newest()
    assert newest is not None
    assert newest[0] == 1
    assert all(found.save(step, {"step": step}) for step in range(2, 6))
    assert len(list(found.folder.iterdir())) == 2


def test_no_room_for_a_checkpoint_is_said_and_harms_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[str] = []
    found = _some_checkpoints(tmp_path, said)
    before = {p: p.read_bytes() for p in found.folder.iterdir()}

    def full(tensors: Any, path: Path, metadata: Any) -> None:
        path.write_bytes(b"part")
        raise OSError(28, os.strerror(28))

    monkeypatch.setattr(checkpoint, "save_file", full)
    assert not found.save(4, {"step": 4})
    assert said == [
        "checkpoint of step 4 not written (No space left on device); the run goes on without"
    ]
    assert {p: p.read_bytes() for p in found.folder.iterdir()} == before


def test_force_begins_anew(cli: Cli, tiny_folder: Folder, tmp_path: Path) -> None:
    given = [*tiny(tiny_folder("bert"), "method=bitfit"), f"out={tmp_path / 'runs'}"]
    assert cli(*given).code == 0
    [record] = read_all(tmp_path / "runs")
    left = Checkpoints(tmp_path / "runs", record.run, lambda line: None)
    left.save(1, {"step": 1})
    assert cli(*given, "force=true").code == 0
    [again] = read_all(tmp_path / "runs")
    assert again.resumed == []
    assert outcome(again) == outcome(record)
    assert not left.folder.exists()


@pytest.mark.parametrize("value", ["checkpoint.steps=0", "checkpoint.minutes=-1"])
def test_wrong_intervals_are_refused(value: str, cli: Cli, tiny_folder: Folder) -> None:
    found = cli(*tiny(tiny_folder("bert"), value))
    assert found.code == 2
    assert value.partition("=")[0] in found.err
