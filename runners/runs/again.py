"""A finished run that is done again for what save= keeps: it must come to its stored result.

It does on one machine. On another, or with other libraries, it comes to other weights, and its
record would tell of these while runs that started from the first ones are of the others.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from results.errors import UserError
from results.record import Record


def other_loss(stored: Sequence[float], now: Sequence[float], start: int = 0) -> str | None:
    """Say which step's loss, from that of index `start` on, first differs from a record's."""
    for step, (before, after) in enumerate(
        zip(stored[start:], now[start:], strict=False), start + 1
    ):
        if before != rounded(after):
            return f"step {step}: loss {before:.9g} in the record, {after:.9g} now"
    return None


def rounded(loss: float) -> float:
    """Return a loss as a record holds it."""
    return float(f"{loss:.9g}")


class Differs(UserError):
    """A run that is done again does not come to its stored result."""


class Again:
    """What is known of a run that is done again; without a `stored` record, of a new one."""

    def __init__(self, stored: Record | None = None) -> None:
        self.stored = stored
        self._seen = 0

    def look(self, losses: Sequence[float]) -> None:
        """Raise Differs at the first loss that is not the record's; each is looked at once."""
        if self.stored is not None and len(losses) > self._seen:
            self._refuse(other_loss(self.stored.losses, losses, self._seen))
            self._seen = len(losses)

    def check(self, record: Record) -> None:
        """Raise Differs where the run has ended with another result than the record's."""
        stored = self.stored
        if stored is None:
            return
        if None not in (stored.trained_sha256, record.trained_sha256):
            same = stored.trained_sha256 == record.trained_sha256
            self._refuse(None if same else "the weights at its end are others")
        self._refuse(_other_answers(stored.predictions or {}, record.predictions or {}))

    def _refuse(self, difference: str | None) -> None:
        if difference is None:
            return
        assert self.stored is not None
        raise Differs(
            f"{self.stored.run}: done again for what save= keeps, it differs from its stored result"
            f" ({difference}), which stays; nothing was saved. It was made on another machine or"
            " with other libraries: name another folder with out=, or replace it with force=true"
        )


def _other_answers(stored: Mapping[str, Any], now: Mapping[str, Any]) -> str | None:
    """Say which of a record's splits is answered otherwise; further ones are nobody's loss."""
    for split, answers in stored.items():
        if split not in now:
            return f"{split} is not scored now"
        if answers != now[split]:
            return f"{split} is answered otherwise"
    return None
