"""The script that times steps tells those by themselves, captured ones and replays apart."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from runners.contract.guard import as_on_a_gpu
from runners.contract.replay import Replay
from runners.jobs.job import Job
from runners.machine.device import make_accelerator
from runners.speed import repeat
from runners.training.prepare import prepare
from tests.benchmarks.steps import evaluated, medians, take
from tests.conftest import configure, tiny


def test_each_way_of_taking_a_step_has_its_line(
    tiny_folder: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(repeat.CAPTURES, "cpu", Replay)
    sizes = ("budget.max_length=16", "budget.steps=7", "task=rte")
    job = Job(configure(*tiny(tiny_folder("bert"), *sizes)))
    with as_on_a_gpu():
        ready = prepare(job, make_accelerator("cpu", job.config))
        steps = take(ready, 7)
        seconds = evaluated(job, ready, 3)
    assert [step.how for step in steps] == ["by itself", "captured", *["replayed"] * 5]
    assert [step.number for step in steps] == [1, 2, 3, 4, 5, 6, 7]
    assert all(step.shape == (8, 16) and step.host_ms > 0 for step in steps)
    assert all(step.device_ms == step.host_ms for step in steps)  # there is no other device
    assert [line.split()[0] for line in medians(steps)] == ["1", "1", "5"]
    assert len(seconds) == 3
