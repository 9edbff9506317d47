"""What methods do to the weights that an optimizer's step left, in our loop and in a Trainer."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from methods.method import Method


def edit_weights(methods: Sequence[Method], model: torch.nn.Module, step: int) -> None:
    """Let all methods edit the weights, then hold some, and then see what is left."""
    for method in methods:
        method.after_step(model, step)
    for method in methods:
        method.hold_weights(model, step)
    for method in methods:
        method.see_weights(model, step)
