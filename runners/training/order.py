"""Which examples share a batch, and in which order."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from runners.config.settings import Budget
from runners.seeds import derive


@dataclass(frozen=True)
class Order:
    """The training order: a function of seed and lengths, so any step can be returned to.

    Every epoch visits each example once. A fresh permutation is cut into buckets of `bucket`
    batches; inside a bucket, examples of like length share a batch, and the batches of the epoch
    are then shuffled. An epoch has at least `buckets` buckets, so that small sets too mix their
    batches anew in each epoch; `bucket` 1 is plain random order. `lengths` is in tokens, [rows];
    one batch of an epoch may be smaller than `batch_size`.
    """

    seed: int
    lengths: NDArray[np.int64]
    batch_size: int
    bucket: int = 1
    buckets: int = 1

    @classmethod
    def of(cls, seed: int, lengths: NDArray[np.int64], budget: Budget) -> Order:
        """Return the order of a run under a budget."""
        return cls(seed, lengths, budget.batch_size, budget.length_bucket, budget.buckets)

    @property
    def steps_per_epoch(self) -> int:
        return -(-len(self.lengths) // self.batch_size)

    def epoch(self, epoch: int) -> list[NDArray[np.int64]]:
        """Return the batches of one epoch, counted from 0: example indices, each exactly once."""
        rng = np.random.Generator(np.random.PCG64(derive(self.seed, f"order {epoch}")))
        permutation = rng.permutation(len(self.lengths))
        bucket = min(self.bucket, self.steps_per_epoch // self.buckets)
        if bucket > 1:
            wide = bucket * self.batch_size
            buckets = [permutation[i : i + wide] for i in range(0, len(permutation), wide)]
            permutation = np.concatenate(
                [b[np.argsort(self.lengths[b], kind="stable")] for b in buckets]
            )
        starts = range(0, len(permutation), self.batch_size)
        batches = [permutation[i : i + self.batch_size] for i in starts]
        return [batches[i] for i in rng.permutation(len(batches))] if bucket > 1 else batches

    def batches(self, first_step: int, last_step: int) -> Iterator[NDArray[np.int64]]:
        """Yield the example indices of the steps in [first_step, last_step), counted from 0."""
        step = first_step
        while step < last_step:
            epoch, start = divmod(step, self.steps_per_epoch)
            for batch in self.epoch(epoch)[start : start + last_step - step]:
                yield batch
                step += 1
