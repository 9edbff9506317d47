"""What every kind of task shares."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    pass

if TYPE_CHECKING:
    pass


Scores = dict[str, dict[str, float]]


class Diverged(Exception):
    """Something became nan or infinite, seen at `step` (counted from 1)."""

    def __init__(self, what: str, step: int) -> None:
        super().__init__(f"{what} was not finite at step {step}")
        self.step = step
