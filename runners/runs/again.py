"""A finished run that is done again for what save= keeps: it must come to its stored result.

It does on one machine, with as many threads. On another, or with other libraries, it comes to other
weights, and its record would tell of these while runs that started from the first ones are of the
others.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from results.errors import UserError
from results.record import Record
from runners.config.check import RunConfig
from runners.machine.environment import SAME_MACHINE


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


def as_it_ran(config: RunConfig, stored: Record) -> RunConfig:
    """Return a configuration without those levers of speed.* that its record does not know of.

    They were not there when it ran, and may round otherwise.
    """
    speed = config.settings.speed
    off = dict.fromkeys(set(speed.switches) - set(stored.config.get("speed") or {}), False)
    settings = config.settings.model_copy(update={"speed": speed.model_copy(update=off)})
    return replace(config, settings=settings)


class Differs(UserError):
    """A run that is done again does not come to its stored result."""


class Again:
    """What is known of a run that is done again; without a `stored` record, of a new one.

    `blank` is the record that is filled in now.
    """

    def __init__(self, stored: Record | None = None, blank: Record | None = None) -> None:
        self.stored, self.blank = stored, blank
        self._seen = 0

    @property
    def threads(self) -> int | None:
        """How many threads the result was come to with; None where that is not known."""
        return None if self.stored is None else self.stored.environment.get("threads")

    def with_logits(self, record: Record) -> Record:
        """Return a record that came to the stored result, with the logits that this one has."""
        if self.stored is None or record.status != "finished" or record.logits_sha256 is not None:
            return record
        return replace(record, logits_sha256=self.stored.logits_sha256)

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
            f" ({difference}), which stays; nothing was saved. {self._apart(self.stored)}: name"
            " another folder with out=, or replace it with force=true"
        )

    def _apart(self, stored: Record) -> str:
        """Say what the two were made with that is not the same, as far as records tell it."""
        before, here = _conditions(stored), _conditions(self.blank or stored)
        apart = [
            f"{name} {value} (now {here[name]})"
            for name, value in before.items()
            if value is not None and here.get(name, value) != value
        ]
        changed = stored.environment.get("changed") or {}
        apart += [f"{name} that changed as it ran" for name in changed]
        if not apart:
            return "Nothing that is known of how it was made differs"
        return f"It was made with {', '.join(apart)}"


def _conditions(record: Record) -> dict[str, Any]:
    """Return what no run's name tells and a result may depend on, to the last digit."""
    environment, config = record.environment, record.config
    keys = (key for key in SAME_MACHINE if key != "libraries")
    batch = (config.get("budget") or {}).get("eval_batch_size")
    return {
        **{key: environment.get(key) for key in keys},
        **(environment.get("libraries") or {}),
        **{f"speed.{key}": on for key, on in (config.get("speed") or {}).items()},
        "budget.eval_batch_size": batch,
    }


def _other_answers(stored: Mapping[str, Any], now: Mapping[str, Any]) -> str | None:
    """Say which of a record's splits is answered otherwise; further ones are nobody's loss."""
    for split, answers in stored.items():
        if split not in now:
            return f"{split} is not scored now"
        if answers != now[split]:
            return f"{split} is answered otherwise"
    return None
