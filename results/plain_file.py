"""Reads plain files that may be anything: in bounded time and memory, or not at all."""

from __future__ import annotations

import os
import stat
from pathlib import Path


def read_plain(path: Path, most: int) -> bytes:
    """Return a file's bytes; an OSError says that it is no file, or larger than `most` bytes.

    A pipe, a device or a socket is not even opened: that alone may wait for ever.
    """
    if not stat.S_ISREG(path.stat().st_mode):
        raise OSError(None, "it is no file")
    # One that takes its place in between is not waited for either.
    descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0))
    with os.fdopen(descriptor, "rb") as stream:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise OSError(None, "it is no file")
        content = stream.read(most + 1)
    if len(content) > most:
        raise OSError(None, f"it is larger than {most:,} bytes")
    return content
