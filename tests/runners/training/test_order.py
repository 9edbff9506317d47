"""The order in which examples are seen, and what a batch holds."""

from __future__ import annotations

import numpy as np
import pytest

from runners.tasks.collate import Collator, by_length
from runners.tasks.tokens import Tokens
from runners.training.order import Order


def _lengths(rows: int) -> np.ndarray:
    return np.random.default_rng(0).integers(3, 60, rows)


@pytest.mark.parametrize("bucket", [1, 4, 50])
@pytest.mark.parametrize("rows", [1, 31, 33, 1000, 2000])
def test_epoch_visits_every_example_once(bucket: int, rows: int) -> None:
    order = Order(7, _lengths(rows), 32, bucket)
    for epoch in range(3):
        batches = order.epoch(epoch)
        assert len(batches) == order.steps_per_epoch
        assert sorted(np.concatenate(batches).tolist()) == list(range(rows))
        assert max(len(b) for b in batches) <= 32


@pytest.mark.parametrize("bucket", [1, 4])
def test_any_step_can_be_returned_to(bucket: int) -> None:
    order = Order(7, _lengths(500), 8, bucket)
    whole = [b.tolist() for b in order.batches(0, 200)]
    assert len(whole) == 200
    for start, end in ((0, 5), (5, 63), (62, 64), (63, 126), (126, 200)):
        assert [b.tolist() for b in order.batches(start, end)] == whole[start:end]


def test_epochs_seeds_and_batches_are_shuffled() -> None:
    lengths = _lengths(640)
    first, second = (np.concatenate(Order(7, lengths, 32, 4).epoch(e)) for e in (0, 1))
    other_seed = np.concatenate(Order(8, lengths, 32, 4).epoch(0))
    assert not np.array_equal(first, second)
    assert not np.array_equal(first, other_seed)
    means = [lengths[b].mean() for b in Order(7, lengths, 32, 20).epoch(0)]
    assert means != sorted(means)


def test_buckets_keep_padding_low() -> None:
    lengths = _lengths(3200)

    def real_share(order: Order) -> float:
        batches = order.epoch(0)
        return lengths.sum() / sum(len(b) * lengths[b].max() for b in batches)

    assert real_share(Order(0, lengths, 32, 16)) > 0.85 > 0.6 > real_share(Order(0, lengths, 32, 1))
    lengths = _lengths(1000)  # 32 batches
    few, many = Order(0, lengths, 32, 16, 4), Order(0, lengths, 32, 16, 16)
    assert real_share(few) > 0.85 > 0.8 > real_share(many)


def test_small_sets_have_at_least_so_many_buckets_an_epoch() -> None:
    lengths = _lengths(32 * 48)
    for buckets, width in ((16, 3), (4, 12), (48, 1), (100, 1)):
        bounded, narrow = Order(0, lengths, 32, 50, buckets), Order(0, lengths, 32, width)
        assert [b.tolist() for b in bounded.epoch(0)] == [b.tolist() for b in narrow.epoch(0)]


def _tokens() -> Tokens:
    rows = [[2, 9, 3], [2, 8, 8, 8, 3], [2, 3]]
    types = [[0, 0, 1], [0, 0, 1, 1, 1], [0, 0]]
    flat = np.array([i for r in rows for i in r], dtype=np.int32)
    types_flat = np.array([i for r in types for i in r], dtype=np.uint8)
    return Tokens(flat, types_flat, np.array([0, 3, 8, 10]), np.zeros(3, dtype=np.bool_))


def test_batch_is_padded_to_its_longest_example() -> None:
    batch = Collator(_tokens(), np.array([1, 0, 1]), pad_id=7)(np.array([2, 0]))
    assert batch["input_ids"].tolist() == [[2, 3, 7], [2, 9, 3]]
    assert batch["attention_mask"].tolist() == [[1, 1, 0], [1, 1, 1]]
    assert batch["token_type_ids"].tolist() == [[0, 0, 0], [0, 0, 1]]
    assert batch["labels"].tolist() == [1, 1]


def test_left_padding_where_the_tokenizer_pads_left() -> None:
    batch = Collator(_tokens(), None, pad_id=7, pad_left=True)(np.array([2, 0]))
    assert batch["input_ids"].tolist() == [[7, 2, 3], [2, 9, 3]]
    assert batch["attention_mask"].tolist() == [[0, 1, 1], [1, 1, 1]]
    assert "labels" not in batch


def test_evaluation_visits_every_example_once_longest_first() -> None:
    batches = by_length(_tokens().lengths, 2)
    assert [b.tolist() for b in batches] == [[1, 0], [2]]
