"""Which methods of a run edit the weights that an optimizer's step left."""

from __future__ import annotations

from collections.abc import Sequence

from methods.method import Method


def edited_behind(method: Method, methods: Sequence[Method]) -> bool:
    """Say whether a method named behind one edits the weights of a step, or holds some.

    What saw or held them in `after_step` once, and not in a hook behind it, did so too early there.
    """
    behind = methods[methods.index(method) + 1 :]
    return any(
        type(m).after_step is not Method.after_step or getattr(m, "holds", False) for m in behind
    )
