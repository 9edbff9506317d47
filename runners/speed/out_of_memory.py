"""Tells an error of too little memory from others."""

from __future__ import annotations

import torch


def is_out_of_memory(error: Exception) -> bool:
    """Say whether a device, or the machine, could not give the memory asked for."""
    words = ("out of memory", "can't allocate memory", "not enough memory")
    return isinstance(error, torch.OutOfMemoryError) or any(w in str(error) for w in words)
