"""Gives freed memory back to the system."""

from __future__ import annotations

import ctypes
import functools
import sys
from typing import Any

from runners.speed.lever import Lever

EVERY = 2**14  # padded places; batches of other lengths leave holes in the heap


def release_memory() -> None:
    """Give freed memory that glibc's allocator keeps back to the system; nothing elsewhere."""
    trim = getattr(_c_library(), "malloc_trim", None)
    if trim is not None:
        trim(0)


@functools.cache
def _c_library() -> Any:
    return ctypes.CDLL(None) if sys.platform == "linux" else None


class ReleaseMemory(Lever):
    """speed.release_memory, on a CPU."""

    released = 0  # padded places when memory was last given back

    def after_step(self, places: int) -> None:
        if self.device == "cpu" and places - self.released >= EVERY:
            release_memory()
            self.released = places
