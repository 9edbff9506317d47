"""A label means the same whether it stands in a text file or in a table of the hub."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from results.errors import UserError
from runners.config.task import LocalFiles, Task
from runners.data.labels import hub_labels, local_label

_CLASSES = {"name": "t", "text": ["a"], "labels": ["no", "yes"], "metrics": ["accuracy"]}
_SCORES = {"name": "t", "text": ["a"], "kind": "regression", "metrics": ["pearson"]}
BARE = SimpleNamespace()
NAMED = SimpleNamespace(names=["yes", "no"])  # numbered otherwise than the task's


def task(of: dict[str, Any], **more: Any) -> Task:
    return Task.model_validate({**of, **more})


def files(**names: str) -> LocalFiles:
    return LocalFiles(train="a.tsv", report={"dev": "b.tsv"}, label_names=names)


def test_labels_are_found_by_name_or_by_the_sources_own() -> None:
    classes = task(_CLASSES)
    assert [local_label(t, classes, files(), "x") for t in ("yes", "no")] == [1, 0]
    assert [local_label(t, classes, files(a="no", b="yes"), "x") for t in "ab"] == [0, 1]
    assert hub_labels(["yes", "no"], BARE, classes, "x", "train") == (1, 0)
    assert hub_labels([0, 1, 1], NAMED, classes, "x", "train") == (1, 0, 0)


def test_scores_are_read_to_the_last_bit() -> None:
    scores = task(_SCORES, range=[0, 5])
    values = [0, 5, 1 / 3, 3.8]
    assert hub_labels(values, BARE, scores, "x", "train") == tuple(values)
    assert tuple(local_label(repr(v), scores, files(), "x") for v in values) == tuple(values)


def test_diagnostic_split_without_labels_is_unlabelled() -> None:
    classes = task(_CLASSES, diagnostics={"ax": ["accuracy"]})
    assert hub_labels([-1, -1], NAMED, classes, "x", "ax") is None
    with pytest.raises(UserError, match="row 0: -1 is not a label"):
        hub_labels([-1, -1], NAMED, classes, "x", "train")


@pytest.mark.parametrize(
    ("given", "of", "names", "said"),
    [
        ("maybe", task(_CLASSES), {}, "'maybe' is not a label of this task; known: no, yes"),
        ("yes", task(_CLASSES), {"1": "yes"}, "'yes' is not a label of this task; known: 1"),
        ("6", task(_SCORES, range=[0, 5]), {}, "'6' is not a score from 0 to 5"),
        ("nan", task(_SCORES), {}, "'nan' is not a score"),
        ("1_0", task(_SCORES), {}, "'1_0' is not a score"),
        ("high", task(_SCORES), {}, "'high' is not a score"),
    ],
)
def test_field_that_is_no_label_is_named(
    given: str, of: Task, names: dict[str, str], said: str
) -> None:
    with pytest.raises(UserError) as caught:
        local_label(given, of, files(**names), "a.tsv line 2")
    assert str(caught.value) == f"a.tsv line 2: {said}"


@pytest.mark.parametrize(
    ("given", "feature", "of", "said"),
    [
        (2, NAMED, task(_CLASSES), "2 is not a label of this task; known: ['no', 'yes']"),
        ("x", BARE, task(_CLASSES), "'x' is not a label of this task; known: ['no', 'yes']"),
        (5.5, BARE, task(_SCORES, range=[0, 5]), "5.5 is not a score of this task"),
        (float("nan"), BARE, task(_SCORES), "nan is not a score of this task"),
        (None, BARE, task(_SCORES), "None is not a score of this task"),
    ],
)
def test_cell_that_is_no_label_is_named(given: Any, feature: Any, of: Task, said: str) -> None:
    good = 1 if feature is NAMED else "no" if of.labels else 2.0
    with pytest.raises(UserError) as caught:
        hub_labels([good, given], feature, of, "t/x train", "train")
    assert str(caught.value) == f"t/x train row 1: {said}"
