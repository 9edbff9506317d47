"""Where a paper's own numbers for a sentence stand: a CSV of this folder, and lines of it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Printed:
    """The lines of a published table that a sentence is about.

    They are those of `paper`.csv with this `place`, `model` and `train`, one for each of `tasks`.
    `method` and `above` give the rows by name, each with its options as the lines have them; the
    best average counts. With no `above`, the lines are differences already, `turned` where they are
    of what the sentence has below to what it has above. `above_place` is where the rows to beat
    stand, if elsewhere.
    """

    paper: str
    place: str
    model: str
    method: dict[str, str]
    above: dict[str, str]
    tasks: list[str]
    train: str | int = "all"
    above_place: str = ""
    turned: bool = False
