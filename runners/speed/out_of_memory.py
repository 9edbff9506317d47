"""Tells errors after which a smaller batch is done from others."""

from __future__ import annotations

import torch


def is_out_of_memory(error: Exception) -> bool:
    """Say whether a device, or the machine, could not give the memory asked for."""
    words = ("out of memory", "can't allocate memory", "not enough memory")
    return isinstance(error, torch.OutOfMemoryError) or any(w in str(error) for w in words)


def is_too_large(error: Exception) -> bool:
    """Say whether a device's operation cannot take a batch of so many places, whatever its memory.

    In torch 2.11, LayerNorm whose bias trains and whose weight does not, on CUDA above 65,536
    places.
    """
    return "NativeLayerNormBackward0 returned an invalid gradient" in str(error)
