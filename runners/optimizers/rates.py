"""Learning rates in a device's memory, where what was written down of a step finds them anew."""

from __future__ import annotations

from typing import Any

import torch

from runners.optimizers.adamw_nobc import AdamWNoBC
from runners.optimizers.super_adam import SuperAdam


def capture_hindrance(optimizer: torch.optim.Optimizer) -> str:
    """Return why an optimizer's step cannot be repeated by a device, empty where it can."""
    if type(optimizer) in (torch.optim.AdamW, AdamWNoBC):
        return ""
    if isinstance(optimizer, SuperAdam):
        return "super_adam computes two gradients a step" if optimizer.options.tau else ""
    return f"nobody knows of {type(optimizer).__name__} whether its steps may be captured"


def keep_rates(optimizer: torch.optim.Optimizer, device: torch.device) -> None:
    """Put an optimizer's rates into memory of the device, where a schedule fills in new ones.

    Of one that cannot be repeated they stay on the host.
    """
    if capture_hindrance(optimizer):
        return
    if isinstance(optimizer, SuperAdam):
        optimizer.keep_numbers(device)
    for group in optimizer.param_groups:
        group["lr"] = torch.tensor(float(group["lr"]), dtype=torch.float32, device=device)
        if "capturable" in group:  # torch's own then keeps its count of steps there too
            group["capturable"] = True
    optimizer._warned_capturable_if_run_uncaptured = True


def as_numbers(state: dict[str, Any], *keys: str) -> dict[str, Any]:
    """Return the state of an optimizer or a schedule with its rates, by their keys, as numbers."""
    return {k: _numbers(v) if k in keys else v for k, v in state.items()}


def _numbers(value: Any) -> Any:
    if isinstance(value, torch.Tensor):
        return float(value)
    if isinstance(value, list):
        return [_numbers(one) for one in value]
    if isinstance(value, dict):
        return {k: _numbers(v) for k, v in value.items()}
    return value
