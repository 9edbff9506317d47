"""Subsets are seeded, balanced and nested; contents decide a split's hash."""

from __future__ import annotations

from collections import Counter

import pytest

from results.errors import UserError
from runners.config.settings import Protocol
from runners.data.load import load_task_data
from runners.data.split import Split, count_overlap, cut_selection, draw
from tests.conftest import configure

TASK = configure("task=mnli").settings.task


def _split(counts: tuple[int, ...]) -> Split:
    labels = tuple(label for label, n in enumerate(counts) for _ in range(n))
    return Split("train", tuple((f"a{i}", "b") for i in range(len(labels))), labels)


def test_subset_is_balanced_where_possible() -> None:
    drawn = draw(_split((500, 300, 5)), 60, 0, TASK, "data.train_size")
    assert sorted(Counter(drawn.labels or ()).values()) == [5, 27, 28]
    assert (
        sorted(Counter(draw(_split((500, 300, 200)), 60, 0, TASK, "k").labels or ()).values())
        == [20] * 3
    )


def test_subset_depends_on_its_seed_alone_and_smaller_ones_are_inside_larger_ones() -> None:
    split = _split((50, 50, 50))
    small, large = (set(draw(split, k, 3, TASK, "k").texts) for k in (15, 60))
    assert small < large
    assert set(draw(split, 15, 3, TASK, "k").texts) == small
    assert set(draw(split, 15, 4, TASK, "k").texts) != small


def test_hash_is_of_content_and_order() -> None:
    split = _split((3, 3, 3))
    assert split.sha256 == _split((3, 3, 3)).sha256
    assert split.sha256 != split.take([1, 0, *range(2, 9)]).sha256
    assert Split("x", (("ab", "c"),), (0,)).sha256 != Split("x", (("a", "bc"),), (0,)).sha256
    assert Split("x", (("a",),), (0,)).sha256 != Split("x", (("a",),), (1,)).sha256


def test_selection_part_is_cut_from_train_by_class_and_overlaps_nothing() -> None:
    train, part = cut_selection(_split((100, 50, 10)), 0.1, 0, TASK)
    assert Counter(part.labels or ()) == {0: 10, 1: 5, 2: 1}
    assert not set(train.texts) & set(part.texts)
    assert len(train) + len(part) == 160


def test_selection_that_empties_a_class_is_refused() -> None:
    with pytest.raises(UserError, match=r"protocol.fraction=0.9 leaves too little"):
        cut_selection(_split((20, 20, 1)), 0.9, 0, TASK)


def test_a_smaller_fraction_is_advised_only_where_it_helps() -> None:
    with pytest.raises(UserError, match=r"\(1 of contradiction\); use more rows or protocol=final"):
        cut_selection(_split((20, 2, 1)), 0.9, 0, TASK)
    with pytest.raises(UserError, match=r"\(3 of neutral\); use a smaller fraction"):
        cut_selection(_split((20, 3, 20)), 0.9, 0, TASK)
    scores = TASK.model_copy(update={"kind": "regression", "labels": []})
    with pytest.raises(UserError, match=r"4 training examples; use a smaller fraction"):
        cut_selection(_split((2, 2)), 0.99, 0, scores)


def test_attributes_of_a_set_are_nothing_to_a_run_without_any() -> None:
    """Its rows were never found among those that are trained on."""
    train = Split("train", (("a  b",), ("c",)), (0, 1))
    users = ((("ann",),), (("bob",),), (("ann",),))
    further = Split("further", (("a b",), ("d",), ("c",)), (0, 1, 1), attributes=users)
    assert count_overlap(further, [train]).also_in_train == 2
    assert count_overlap(further, [train]).attributes == users
    known = Split("train", train.texts, (0, 1), attributes=users[:2])
    assert count_overlap(further, [known]).also_in_train == 1


def test_every_run_seed_gets_the_same_subset() -> None:
    hashes = set()
    for seed in (1, 2):
        settings = configure(
            "task=rte", "data=embedded", "data.train_size=20", f"seed={seed}"
        ).settings
        data = load_task_data(settings.task, settings.data, Protocol(name="final"))
        hashes.add(data.train.sha256)
        assert data.complete == {"train": False, "validation": False}
    assert len(hashes) == 1
