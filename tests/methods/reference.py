"""Plain fine-tuning written out beside the loop, with places to change it as a paper says."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch

from methods.method import Batch
from runners.jobs.job import Job
from runners.machine.device import make_accelerator, make_deterministic
from runners.models.pretrained import Loaded
from runners.seeds import derive
from runners.training.loop import Loop
from runners.training.prepare import Prepared, prepare
from tests.conftest import configure, tiny

STEPS = 10
SIZE = ("data.train_size=40", "budget.steps=10", "lr=1e-3")

Model = Any
LossOf = Callable[[Model, Batch], torch.Tensor]
Edit = Callable[[Model, int, float], None]


def prepared(folder: Path, *arguments: str, task: str = "mrpc") -> tuple[Loop, Loaded]:
    """Return the loop of a tiny run before its first step, and what was loaded."""
    ready = prepared_run(folder, *arguments, task=task)
    return ready.loop, ready.loaded


def prepared_run(folder: Path, *arguments: str, task: str = "mrpc") -> Prepared:
    """Return a tiny run before its first step."""
    config = configure(*tiny(folder, f"task={task}", *SIZE, *arguments))
    make_deterministic()
    return prepare(Job(config), make_accelerator("cpu", config))


def stream(method: str, seed: int = 42) -> torch.Generator:
    """Return the stream that a method is given."""
    return torch.Generator().manual_seed(derive(seed, f"method {method}"))


def inner_stream(method: str) -> torch.Generator:
    """Return the stream that a method draws from while training."""
    return torch.Generator().manual_seed(int(torch.randint(2**62, (), generator=stream(method))))


def kept(shape: Sequence[int], p: float, draws: torch.Generator) -> torch.Tensor:
    """Return ones with probability p and else zeros: one 64-bit number gives four of them."""
    count = math.prod(shape)
    numbers = torch.empty(-(-count // 4), dtype=torch.int64)
    numbers.random_(-(2**63), None, generator=draws)
    parts = [(number >> shift) % 2**16 for number in numbers.tolist() for shift in (0, 16, 32, 48)]
    dropped = round((1 - p) * 2**16)
    ones = [float((part + 2**15) % 2**16 >= dropped) for part in parts]  # parts are signed
    return torch.tensor(ones[:count]).view(*shape)


def plain_loss(model: Model, batch: Batch) -> torch.Tensor:
    """Return the model's own loss."""
    loss: torch.Tensor = model(**batch).loss
    return loss


def _nothing(model: Model, step: int, lr: float) -> None:
    pass


def train(
    folder: Path,
    *arguments: str,
    task: str = "mrpc",
    start: Callable[[Model, Loaded], None] = lambda model, loaded: None,
    loss_of: LossOf = plain_loss,
    after_backward: Edit = _nothing,
    after_clipping: Edit = _nothing,
    after_step: Edit = _nothing,
    decay: float = 0.0,
) -> dict[str, torch.Tensor]:
    """Train ten steps by hand, with AdamW, linear warm-up and linear decay.

    `start` may change the model first. Returns the trained tensors by name.
    """
    loop, loaded = prepared(folder, "method=full", *arguments, task=task)
    model = loop.model
    start(model, loaded)
    matrices = [p for p in model.parameters() if p.requires_grad and p.ndim > 1]
    vectors = [p for p in model.parameters() if p.requires_grad and p.ndim <= 1]
    groups = [{"params": matrices, "weight_decay": decay}, {"params": vectors, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=1e-3, fused=True)
    torch.manual_seed(derive(42, "dropout"))
    model.train()
    for step, indices in enumerate(loop.order.batches(0, STEPS)):
        warmup = math.ceil(loop.budget.warmup * STEPS)
        share = step / warmup if step < warmup else (STEPS - step) / (STEPS - warmup)
        for group in optimizer.param_groups:
            group["lr"] = 1e-3 * share
        optimizer.zero_grad()
        loss_of(model, loop.collate(indices)).backward()
        after_backward(model, step, 1e-3 * share)
        torch.nn.utils.clip_grad_norm_([*matrices, *vectors], 1.0)
        after_clipping(model, step, 1e-3 * share)
        optimizer.step()
        after_step(model, step, 1e-3 * share)
    return {n: p.detach().clone() for n, p in model.named_parameters() if p.requires_grad}


def trained(folder: Path, *arguments: str, task: str = "mrpc") -> dict[str, torch.Tensor]:
    """Train ten steps by the project's loop; return the trained tensors by name."""
    loop, _ = prepared(folder, *arguments, task=task)
    loop.run(STEPS)
    return {n: p.detach().clone() for n, p in loop.model.named_parameters() if p.requires_grad}


def largest_difference(first: dict[str, torch.Tensor], second: dict[str, torch.Tensor]) -> float:
    """Return the largest difference of any entry; the two must hold the same tensors."""
    assert set(first) == set(second)
    return max(float((first[n] - second[n]).abs().max()) for n in first)
