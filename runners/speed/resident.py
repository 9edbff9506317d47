"""Lets the tokens of a split lie on a GPU as a whole."""

from __future__ import annotations

from runners.speed.lever import Lever
from runners.speed.repeat import repeats_on

MOST = 2**28  # bytes of one split; GLUE's largest, mnli's, has 90 million in a BERT's tokens


class Resident(Lever):
    """speed.resident, for a GPU: a split that is small enough lies there."""

    def lies_on_device(self, size: int) -> bool:
        return repeats_on(self.device) and size <= MOST
