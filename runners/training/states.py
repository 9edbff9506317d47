"""Tensors inside the state of a run: copied, and put where they belong."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch


def copied(value: Any) -> Any:
    """Copy tensors inside nested dicts and lists."""
    if isinstance(value, torch.Tensor):
        return value.detach().clone()
    if isinstance(value, dict):
        return {k: copied(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(copied(v) for v in value)
    return value


def beside(kept: Any, own: Mapping[str, torch.Tensor]) -> Any:
    """Return what a method kept, with tensors under a parameter's name where that one lies."""
    if not isinstance(kept, dict):
        return kept
    return {
        k: v.to(own[k].device) if isinstance(v, torch.Tensor) and k in own else beside(v, own)
        for k, v in kept.items()
    }
