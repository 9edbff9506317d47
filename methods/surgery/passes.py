"""Which of a step's passes through the model is under way, where a method takes several."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from contextvars import ContextVar

_CLEAN: ContextVar[bool] = ContextVar("clean pass", default=False)


@contextlib.contextmanager
def clean_pass() -> Iterator[None]:
    """Take the passes of a block for those that a moved one is compared with."""
    before = _CLEAN.set(True)
    try:
        yield
    finally:
        _CLEAN.reset(before)


def is_clean_pass() -> bool:
    """Say whether the pass under way is such a one."""
    return _CLEAN.get()
