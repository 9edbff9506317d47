"""Gradients at weights that a first gradient moved uphill."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch

from methods.surgery.streams import global_streams, set_global_streams

Named = Sequence[tuple[str, torch.nn.Parameter]]
Climb = Callable[[Named], Sequence[torch.Tensor]]


def above(
    model: Any, once: Callable[[], torch.Tensor], climb: Climb, same_dropout: bool
) -> torch.Tensor:
    """Leave in `.grad` the gradients at the weights plus what `climb` says; return the loss before.

    `once` adds up gradients and returns the loss at the weights that it finds. `climb` is given
    the parameters that have a gradient, with their names, and returns a move for each. Afterwards
    the weights are as they were, to the bit. Under `same_dropout` torch's own streams are set back
    between the passes.
    """
    device = next(model.parameters()).device
    streams = global_streams(device) if same_dropout else None
    loss = once()
    named = [(n, p) for n, p in model.named_parameters() if p.grad is not None]
    reached = [p for _, p in named]
    with torch.no_grad():
        weights = [p.clone() for p in reached]
        moves = climb(named)
        for parameter in reached:
            parameter.grad = None
    try:
        with torch.no_grad():
            torch._foreach_add_(reached, list(moves))
        # Casts of the weights are now old; torch does not count that while operations are watched.
        torch.autograd.graph.increment_version(reached)
        if streams is not None:
            set_global_streams(streams, device)
        once()
    finally:
        with torch.no_grad():
            torch._foreach_copy_(reached, weights)
        torch.autograd.graph.increment_version(reached)
    return loss


def norm_of(tensors: Sequence[torch.Tensor]) -> torch.Tensor:
    """Return the norm of all entries of tensors, a scalar where they are."""
    norm: torch.Tensor = torch.linalg.vector_norm(torch.stack(torch._foreach_norm(list(tensors))))
    return norm
