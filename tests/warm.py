"""The warm process of the tests: as that of a board, but for compositions, which it remembers."""

from __future__ import annotations

import os

from runners import warm


def main(listener: int, alive: int) -> int:
    """Do what `runners.warm` does, after a first composition."""
    before = dict(os.environ)
    import tests.preloaded  # noqa: F401

    return warm.main(listener, alive, before)
