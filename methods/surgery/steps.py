"""An optimizer's step, changed once it was taken, whichever optimizer took it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import torch

Parameters = Mapping[str, torch.nn.Parameter]


class Steps:
    """The weights at which a step begins, in the same memory at each step.

    Weight decay is no part of a step. What other methods do to the weights between `remember` and
    `taken` is. Parameters without a gradient, which no optimizer moves, are left alone.
    """

    def __init__(self, optimizer: torch.optim.Optimizer) -> None:
        self.optimizer = optimizer
        self.before: dict[str, torch.Tensor] = {}

    def remember(self, parameters: Parameters) -> None:
        """Copy the parameters that are about to move."""
        moving = {n: p.detach() for n, p in parameters.items() if p.grad is not None}
        for name, parameter in moving.items():
            if name not in self.before:
                self.before[name] = torch.empty_like(parameter)
        if moving:
            torch._foreach_copy_([self.before[n] for n in moving], list(moving.values()))

    def taken(
        self, parameters: Parameters
    ) -> Iterator[tuple[str, torch.nn.Parameter, torch.Tensor, Any]]:
        """Yield each parameter's name, itself, where its step began, and its learning rate."""
        groups = {id(p): group for group in self.optimizer.param_groups for p in group["params"]}
        for name, parameter in parameters.items():
            if parameter.grad is None or id(parameter) not in groups:
                continue
            start, group = self.before[name], groups[id(parameter)]
            if group["weight_decay"]:
                start.mul_(1 - group["lr"] * group["weight_decay"])
            yield name, parameter, start, group["lr"]
