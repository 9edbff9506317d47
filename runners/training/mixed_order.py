"""The order of a run whose batches are of one group of examples each, as of a mixture's tasks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from methods.method import Batches, Method
from runners.config.settings import Settings
from runners.data.split import Split
from runners.seeds import derive
from runners.training.order import Order
from runners.training.poisson_order import PoissonOrder


@dataclass(frozen=True)
class MixedOrder(Order):
    """Each group has an order of its own, whose batches are taken one after the other.

    An epoch has as many batches as all groups have. With `power` 1 these are all of them, shuffled:
    each example once. Else the group of each batch is drawn, in proportion to the group's number
    of examples to that power, and a group that is at its end begins anew.
    """

    groups: NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, dtype=np.int64))
    power: float = 1.0

    @cached_property
    def _each(self) -> list[tuple[NDArray[np.int64], Order]]:
        """The examples of each group, and the group's order among them."""
        each = []
        for group in np.unique(self.groups):
            rows = np.flatnonzero(self.groups == group)
            seed = derive(self.seed, f"group {group}")
            own = Order(seed, self.lengths[rows], self.batch_size, self.bucket, self.buckets)
            each.append((rows, own))
        return each

    @property
    def steps_per_epoch(self) -> int:
        return sum(order.steps_per_epoch for _, order in self._each)

    def epoch(self, epoch: int) -> list[NDArray[np.int64]]:
        """Return the batches of one epoch, counted from 0: example indices, of one group each."""
        if self.power == 1:
            batches = [rows[b] for rows, order in self._each for b in order.epoch(epoch)]
            rng = self._rng(epoch)
            return [batches[i] for i in rng.permutation(len(batches))]
        drawn = [np.bincount(self._drawn(e), minlength=len(self._each)) for e in range(epoch)]
        taken = np.sum(drawn, axis=0) if drawn else np.zeros(len(self._each), dtype=np.int64)
        epochs: dict[tuple[int, int], list[NDArray[np.int64]]] = {}
        batches = []
        for group in self._drawn(epoch):
            rows, order = self._each[group]
            of_group, place = divmod(int(taken[group]), order.steps_per_epoch)
            if (group, of_group) not in epochs:
                epochs[group, of_group] = order.epoch(of_group)
            batches.append(rows[epochs[group, of_group][place]])
            taken[group] += 1
        return batches

    def _drawn(self, epoch: int) -> NDArray[np.int64]:
        """Return the group of each batch of an epoch."""
        weights = np.array([float(len(rows)) ** self.power for rows, _ in self._each])
        return self._rng(epoch).choice(
            len(weights), size=self.steps_per_epoch, p=weights / weights.sum()
        )

    def _rng(self, epoch: int) -> np.random.Generator:
        return np.random.Generator(np.random.PCG64(derive(self.seed, f"mix {epoch}")))


def batches_of(methods: Sequence[Method]) -> Batches:
    """Return how rows come into batches with these methods."""
    return next((m.batches for m in methods if "gradient" in m.owns), "by length")


def order_of(
    settings: Settings,
    lengths: NDArray[np.int64],
    groups: NDArray[np.int64] | None = None,
    batches: Batches = "by length",
) -> Order:
    """Return the order of a run, over groups where its examples have some."""
    plain = Order.of(settings.seed, lengths, settings.budget)
    if batches == "poisson":
        return PoissonOrder(plain.seed, plain.lengths, plain.batch_size)
    if batches == "random":
        plain = replace(plain, bucket=1)
    mixture = settings.task.mixture
    if groups is None or mixture is None:
        return plain
    own = (plain.seed, plain.lengths, plain.batch_size, plain.bucket, plain.buckets)
    return MixedOrder(*own, groups, mixture.power)


def steps_order(settings: Settings, train: Split) -> Order:
    """Return an order that has as many steps as a run's; lengths are not known, and not needed."""
    alike = np.ones(len(train), dtype=np.int64)
    groups = None
    if train.subsets is not None:
        groups = np.unique(np.asarray(train.subsets), return_inverse=True)[1].astype(np.int64)
    return order_of(settings, alike, groups)
