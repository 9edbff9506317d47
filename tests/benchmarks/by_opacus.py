"""A private step as Opacus' hooks take it, and what memory a step takes."""

from __future__ import annotations

import copy
import ctypes
import gc
from pathlib import Path
from typing import Any

import torch


class ByOpacus:
    """Takes steps of private fine-tuning of a loop's model: all examples' gradients are made."""

    preparation_seconds = 0.0

    def __init__(self, loop: Any) -> None:
        from opacus import GradSampleModule
        from opacus.optimizers import DPOptimizer

        self.model = GradSampleModule(copy.deepcopy(loop.model), loss_reduction="mean")
        trained = [p for p in self.model.parameters() if p.requires_grad]
        self.optimizer = DPOptimizer(
            torch.optim.AdamW(trained, lr=1e-4, weight_decay=0.0),
            noise_multiplier=1.0,
            max_grad_norm=0.1,
            expected_batch_size=loop.budget.batch_size,
        )

    def take_step(self, batch: dict[str, torch.Tensor]) -> None:
        """Take one step; positions have a row for each example, or their gradients are lost."""
        places = torch.arange(batch["input_ids"].shape[1], device=batch["input_ids"].device)
        self.model(**batch, position_ids=places.expand(len(batch["labels"]), -1)).loss.backward()
        self.optimizer.step()
        self.optimizer.zero_grad()


def step_bytes(loop: Any, batch: dict[str, torch.Tensor]) -> int | None:
    """Return how much more memory a step takes at its peak than there was before it; Linux only."""
    if next(loop.model.parameters()).is_cuda:
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        loop.take_step({k: v.clone() for k, v in batch.items()})
        return torch.cuda.max_memory_allocated() - before
    reset = Path("/proc/self/clear_refs")
    if not reset.exists():
        return None
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)
    reset.write_text("5")  # the peak is then what is resident now
    before = _resident("VmRSS")
    loop.take_step({k: v.clone() for k, v in batch.items()})
    return _resident("VmHWM") - before


def _resident(what: str) -> int:
    [line] = [
        line
        for line in Path("/proc/self/status").read_text().splitlines()
        if line[: len(what)] == what
    ]
    return 1024 * int(line.split()[1])
