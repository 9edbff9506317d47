"""Gives freed memory back to the system."""

from __future__ import annotations

import ctypes
import functools
import sys
from typing import Any


def release_memory() -> None:
    """Give freed memory that glibc's allocator keeps back to the system; nothing elsewhere."""
    trim = getattr(_c_library(), "malloc_trim", None)
    if trim is not None:
        trim(0)


@functools.cache
def _c_library() -> Any:
    return ctypes.CDLL(None) if sys.platform == "linux" else None
