"""What only a GPU shows: graphs do what eager steps do, to the bit again and again.

Skipped where torch has no GPU to use; `make gpu-check` runs them where it has.
"""

from __future__ import annotations

import gc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from runners.config.settings import Speed
from runners.jobs.job import Job
from runners.machine.device import make_accelerator, make_deterministic
from runners.models.build import trained_sha256
from runners.training.prepare import prepare
from tests.conftest import EACH_KIND, configure, narrow, task_of, tiny

pytestmark = pytest.mark.gpu

DEVICE = "cuda:0"
STEPS = 20
GRAPHS = "graphs" in Speed.model_fields
needs_graphs = pytest.mark.skipif(not GRAPHS, reason="this version has no speed.graphs")
CAPTURABLE = [
    name
    for name, cls in EACH_KIND.items()
    if not cls.hinders_capture and "training" not in cls.owns
]
# Five passes over 64 rows, so that padded lengths come again.
SIZE = (
    *("data.train_size=64", "budget.batch_size=16", f"budget.steps={STEPS}", "budget.warmup=0"),
    f"device={DEVICE}",
)


def _loop(folder: Path, *arguments: str, task: str = "mrpc") -> Any:
    config = configure(*tiny(folder, f"task={task}"), *SIZE, *arguments)
    make_deterministic()
    ready = prepare(Job(config), make_accelerator(DEVICE, config))
    ready.loop.start(ready.encoded)
    return ready.loop


def _trained(folder: Path, *arguments: str, task: str = "mrpc", steps: int = STEPS) -> Any:
    loop = _loop(folder, *arguments, task=task)
    loop.run(steps)
    return loop


def _reserved() -> int:
    """Give back what no tensor is in; return the bytes that torch keeps of the device."""
    gc.collect()
    torch.cuda.empty_cache()
    return torch.cuda.memory_reserved()


def _switched(on: bool) -> list[str]:
    return [f"speed.graphs={str(on).lower()}"] if GRAPHS else []


@needs_graphs
@pytest.mark.parametrize("method", CAPTURABLE)
def test_losses_of_graphs_are_those_of_eager_steps(
    method: str, tiny_folder: Callable[[str], Path]
) -> None:
    task, folder = task_of(method, "mrpc"), tiny_folder("bert")
    alike = ["precision=fp32", "budget.max_length=16"]  # texts of few lengths
    eager, graphs = (
        _trained(folder, *narrow(method), *_switched(on), *alike, task=task) for on in (False, True)
    )
    said = graphs.levers.facts(graphs.model)["graphs"]["training"]
    assert said["replayed"] > 0, said
    torch.testing.assert_close(
        torch.tensor(graphs.progress.losses),
        torch.tensor(eager.progress.losses),
        rtol=1e-5,
        atol=0,
        msg=lambda text: f"{said}: {text}",
    )


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("method", ["full", "mixout", "rdrop"])
def test_an_equal_configuration_gives_equal_bits(
    method: str, precision: str, tiny_folder: Callable[[str], Path]
) -> None:
    arguments = (f"method={method}", f"precision={precision}", *_switched(True))
    one, other = (_trained(tiny_folder("bert"), *arguments) for _ in range(2))
    assert one.progress.losses == other.progress.losses
    assert trained_sha256(one.model) == trained_sha256(other.model)


@pytest.mark.parametrize("method", ["full", "mixout"])
def test_a_resumed_run_is_the_uninterrupted_one(
    method: str, tiny_folder: Callable[[str], Path]
) -> None:
    arguments = (f"method={method}", *_switched(True))
    whole = _trained(tiny_folder("bert"), *arguments)
    state = _trained(tiny_folder("bert"), *arguments, steps=STEPS // 2).state_dict()
    again = _loop(tiny_folder("bert"), *arguments)
    again.load_state_dict(state)
    again.run(STEPS)
    assert trained_sha256(again.model) == trained_sha256(whole.model)


def test_a_batch_that_does_not_fit_is_taken_in_parts(
    tiny_folder: Callable[[str], Path],
) -> None:
    """Memory for half of what a second step takes: parts, and the same losses but for rounding."""
    large = (
        *("data.train_size=1024", "budget.batch_size=1024", "budget.steps=6", "budget.dropout=0"),
        "precision=fp32",
    )
    whole = _trained(tiny_folder("bert"), *large, *_switched(False), steps=1)
    before = torch.cuda.memory_allocated()
    torch.cuda.reset_peak_memory_stats()
    whole.run(2)
    needed, losses = torch.cuda.max_memory_allocated() - before, whole.progress.losses
    del whole
    parts = _trained(tiny_folder("bert"), *large, *_switched(True), steps=1)  # with cuBLAS' own
    total = torch.cuda.get_device_properties(DEVICE).total_memory
    torch.cuda.set_per_process_memory_fraction((_reserved() + 0.5 * needed) / total)
    try:
        parts.run(2)
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
    assert parts.micro_batch is not None
    assert parts.micro_batch < 1024
    torch.testing.assert_close(
        torch.tensor(parts.progress.losses), torch.tensor(losses), rtol=1e-4, atol=0
    )


@pytest.mark.parametrize("method", ["full", "bitfit", "rdrop"])
def test_copies_of_weights_train_as_autocast_within_bf16s_rounding(
    method: str, tiny_folder: Callable[[str], Path]
) -> None:
    on, off = (
        _trained(tiny_folder("bert"), f"method={method}", "precision=bf16", f"speed.bf16_copy={v}")
        for v in ("true", "false")
    )
    assert on.levers.facts(on.model)["bf16_copies"] >= 28
    torch.testing.assert_close(
        torch.tensor(on.progress.losses), torch.tensor(off.progress.losses), rtol=2e-2, atol=0
    )


def test_layers_computed_twice_train_as_layers_computed_once(
    tiny_folder: Callable[[str], Path],
) -> None:
    key = "speed.gradient_checkpointing"
    on, off = (
        _trained(tiny_folder("bert"), "method=hype", "precision=fp32", f"{key}={v}")
        for v in ("true", "false")
    )
    torch.testing.assert_close(
        torch.tensor(on.progress.losses), torch.tensor(off.progress.losses), rtol=1e-4, atol=0
    )
