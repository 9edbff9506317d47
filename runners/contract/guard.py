"""Says on a CPU whether a training step may be captured as a CUDA graph and replayed.

What a capture forbids, and what a replay would miss, is looked for in `runners.speed.operations`.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any
from unittest import mock

import torch

from methods.method import Batch
from methods.surgery.streams import generators_of
from runners.speed.operations import Operations, faults, written_down
from runners.training.loop import Loop

# What is for a CPU only.
AS_ON_A_GPU = (
    *("speed.fast_dropout=false", "speed.onednn=false", "speed.first_token=false"),
    "speed.skip_padding=false",
)


def hindrances(loop: Loop, batch: Batch) -> list[str]:
    """Return what keeps a prepared loop's step from being captured; three steps are taken.

    The first one makes what methods make once. The optimizer is left out: torch says of its own
    which may be captured. Its learning rates are tensors, as an optimizer in a graph has them.
    Operations are compared on one batch, so that what depends on the number of the step shows.
    """
    loop.model.train()
    for group in loop.optimizer.param_groups:
        group["lr"] = torch.tensor(group["lr"])
    with as_on_a_gpu():
        loop.take_step(batch)
    return faults(_taken(loop, batch), _taken(loop, batch))


def _taken(loop: Loop, batch: Batch) -> Operations:
    generators = generators_of(loop.methods)
    with as_on_a_gpu(), written_down(generators) as step, _without_optimizer(loop, step):
        loop.take_step(batch)
    return step


@contextlib.contextmanager
def as_on_a_gpu() -> Iterator[None]:
    """Take what is done on a GPU, and let libraries believe that they are captured.

    They then leave out what reads numbers and only spares time.
    """
    with (
        mock.patch("methods.surgery.streams.is_on_host", return_value=False),
        mock.patch("torch.cuda.is_current_stream_capturing", return_value=True),
    ):
        yield


@contextlib.contextmanager
def _without_optimizer(loop: Loop, step: Operations) -> Iterator[None]:
    """Let a step not be written down in its optimizer, its schedule and what no replay holds."""

    def unheard(act: Callable[..., Any]) -> Callable[..., Any]:
        def acting(*args: Any, **kwargs: Any) -> Any:
            step.listens = False
            try:
                return act(*args, **kwargs)
            finally:
                step.listens = True

        return acting

    with (
        mock.patch.object(loop.optimizer, "step", unheard(loop.optimizer.step)),
        mock.patch.object(loop.schedule, "step", unheard(loop.schedule.step)),
        mock.patch.object(loop.averages, "take", unheard(loop.averages.take)),
    ):
        yield
