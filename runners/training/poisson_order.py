"""The order of a run whose rows enter each batch independently of each other."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from runners.seeds import derive
from runners.training.order import Order


@dataclass(frozen=True)
class PoissonOrder(Order):
    """Each row is in each batch with probability batch_size / rows, by itself.

    A batch has `batch_size` rows on average, and may have none. An epoch is as many batches as one
    of an order that visits each row once. Lengths and buckets say nothing.
    """

    def epoch(self, epoch: int) -> list[NDArray[np.int64]]:
        """Return the batches of one epoch, counted from 0: example indices, ascending."""
        first = epoch * self.steps_per_epoch
        return [self._drawn(step) for step in range(first, first + self.steps_per_epoch)]

    def _drawn(self, step: int) -> NDArray[np.int64]:
        rows = len(self.lengths)
        rng = np.random.Generator(np.random.PCG64(derive(self.seed, f"poisson {step}")))
        return np.flatnonzero(rng.random(rows) < self.batch_size / rows)
