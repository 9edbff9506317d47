"""Copies of weights, layers computed twice and graphs meet; Replay stands in for CUDA graphs."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from runners.contract.guard import as_on_a_gpu
from runners.contract.replay import Replay, equal, flattened
from runners.jobs.job import Job
from runners.machine.device import make_accelerator
from runners.speed import repeat
from runners.training.loop import Loop
from runners.training.prepare import prepare
from tests.conftest import configure, tiny

SETS = ("task=rte", "data.train_size=32", "budget.batch_size=8", "budget.steps=8")


@pytest.fixture(autouse=True)
def _as_on_gpu(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setitem(repeat.CAPTURES, "cpu", Replay)
    with as_on_a_gpu():
        yield


def _trained(folder: Path, *more: str) -> tuple[Loop, dict[str, Any]]:
    """Train and predict three times; return the loop, and its state with what was predicted."""
    config = configure(*tiny(folder, *SETS, "budget.max_length=16", *more))
    job = Job(config)
    ready = prepare(job, make_accelerator("cpu", config))
    loop, evaluation = ready.loop, ready.loop.evaluation()
    loop.start(ready.encoded)
    evaluation.later = 3
    torch.manual_seed(7)
    splits, predicted = list(job.data.report.values()), []
    for until in (4, 6, 8):
        loop.run(until)
        predicted.append(ready.kind.predict(loop.model, ready.encoded, splits, evaluation))
    return loop, flattened({**loop.state_dict(), "predicted": predicted})


@pytest.mark.parametrize("method", ["full", "lora", "mixout", "rdrop"])
def test_replayed_steps_and_evaluations_take_the_copies_as_they_are_now(
    method: str, tiny_folder: Callable[[str], Path]
) -> None:
    given = (tiny_folder("bert"), f"method={method}", "precision=bf16")
    _, plain = _trained(*given, "speed.graphs=false", "speed.bf16_copy=false")
    loop, ours = _trained(*given)
    assert loop.repeats is not None
    assert loop.repeats.repeated > 0
    assert loop.levers.facts(loop.model)["graphs"]["evaluation"]["replayed"] > 0
    assert [name for name in plain if not equal(plain[name], ours[name])] == []


def test_layers_computed_twice_are_not_captured(tiny_folder: Callable[[str], Path]) -> None:
    """They set streams back, which no graph does; the record says why."""
    method = ("method=hype", "precision=fp32")
    _, plain = _trained(tiny_folder("bert"), *method, "speed.graphs=false")
    loop, ours = _trained(tiny_folder("bert"), *method, "speed.gradient_checkpointing=true")
    said = loop.levers.facts(loop.model)["graphs"]["training"]
    assert said["replayed"] == 0
    assert said["hindrance"] == "layers computed twice set random streams back"
    assert [name for name in plain if not equal(plain[name], ours[name])] == []
