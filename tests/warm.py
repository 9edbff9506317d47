"""The warm process of the tests: as that of a board, but for compositions, which it remembers."""

from __future__ import annotations

import contextlib

from tests.composing import remember_compositions


def main(listener: int, alive: int) -> int:
    """Do what `runners.warm` does, after a first composition."""
    remember_compositions()
    from runners.config.compose import compose
    from runners.warm import main as serve

    with contextlib.suppress(Exception):  # only time would be lost
        compose(("task=rte", "data=embedded", "budget=smoke"))
    return serve(listener, alive)
