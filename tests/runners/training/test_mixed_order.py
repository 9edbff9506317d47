"""Mixed orders: one group a batch, in the proportions that are asked for, from any step."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from scipy.stats import chisquare

from runners.training.mixed_order import MixedOrder
from runners.training.order import Order

SIZES = (500, 90, 10)
GROUPS = np.repeat(np.arange(3), SIZES)


def _order(power: float, seed: int = 7, bucket: int = 4) -> MixedOrder:
    lengths = np.random.default_rng(0).integers(3, 60, sum(SIZES))
    return MixedOrder(seed, lengths, 8, bucket, 2, GROUPS, power)


@pytest.mark.parametrize("power", [1.0, 0.5, 0.0])
def test_each_batch_is_of_one_group(power: float) -> None:
    order = _order(power)
    assert order.steps_per_epoch == 63 + 12 + 2
    for epoch in (0, 3):
        batches = order.epoch(epoch)
        assert len(batches) == order.steps_per_epoch
        assert all(len(set(GROUPS[batch])) == 1 for batch in batches)


def test_in_proportion_every_example_comes_once_an_epoch() -> None:
    order = _order(1.0)
    for epoch in range(3):
        assert sorted(np.concatenate(order.epoch(epoch))) == list(range(sum(SIZES)))
    groups = [int(GROUPS[batch[0]]) for batch in order.epoch(0)]
    assert groups != sorted(groups)
    assert groups != [int(GROUPS[batch[0]]) for batch in order.epoch(1)]


@pytest.mark.parametrize("power", [0.5, 0.0])
def test_groups_are_drawn_as_often_as_declared(power: float) -> None:
    order = _order(power)
    drawn = [int(GROUPS[b[0]]) for e in range(130) for b in order.epoch(e)]  # 10,010 batches
    weights = np.array(SIZES, dtype=float) ** power
    expected = len(drawn) * weights / weights.sum()
    assert chisquare(np.bincount(drawn, minlength=3), expected).pvalue > 0.01


@pytest.mark.parametrize("power", [0.5, 0.0])
def test_a_group_begins_anew_when_all_its_examples_have_come(power: float) -> None:
    order = _order(power)
    seen = Counter(int(i) for e in range(4) for b in order.epoch(e) for i in b)
    for group, size in enumerate(SIZES):
        times = [seen[i] for i in np.flatnonzero(group == GROUPS)]
        assert len(times) == size
        assert max(times) - min(times) <= 1
    # A group's batches are those of an order of its own rows.
    rows = np.flatnonzero(GROUPS == 2)
    own = [b for e in range(4) for b in order.epoch(e) if GROUPS[b[0]] == 2]
    assert all(len(b) in (8, 2) for b in own)
    assert {int(i) for b in own[:2] for i in b} == set(rows.tolist())


@pytest.mark.parametrize("power", [1.0, 0.5, 0.0])
def test_any_step_can_be_returned_to(power: float) -> None:
    order = _order(power)
    whole = [b.tolist() for b in order.batches(0, 200)]
    assert [b.tolist() for b in _order(power).batches(150, 200)] == whole[150:]
    assert [b.tolist() for b in _order(power, seed=8).batches(0, 200)] != whole


def test_one_group_has_the_batches_of_a_plain_order_of_its_seed() -> None:
    lengths = np.arange(40) % 9 + 1
    mixed = MixedOrder(1, lengths, 8, 4, 2, np.zeros(40, dtype=np.int64), 0.0)
    [(_, own)] = mixed._each
    plain = Order(own.seed, lengths, 8, 4, 2)
    assert [b.tolist() for b in mixed.epoch(1)] == [b.tolist() for b in plain.epoch(1)]
