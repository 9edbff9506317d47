"""Embedded tastes: what a remark means hangs on the table, and on neither by itself."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator

import numpy as np
import pytest
from scipy.sparse import hstack
from sklearn.feature_extraction.text import CountVectorizer
from sklearn.linear_model import LogisticRegression

from results.errors import UserError
from runners.data.attributes import known_values
from runners.data.embedded.splits import read_embedded
from runners.data.split import Split
from tests.conftest import configure

HOT = "hot spicy fiery peppery".split()
LOUD = "loud noisy lively busy".split()
OF_DISHES = {*HOT, *"mild bland gentle plain".split()}
LIKE_HOT = {*"anna bruno chloe dan edith franz greta hugo ines jonas ulla viktor wanda".split()}
WANT_LOUD = {*"birthday carnival promotion wedding".split()}


def _read(*typed: str) -> tuple[Split, Split]:
    train, report = read_embedded(configure("task=tastes", *typed).settings.task)
    return train, report["validation"]


def _labels_by(split: Split, keys: Iterator[object]) -> dict[object, list[float]]:
    by_key = defaultdict(list)
    for key, label in zip(keys, split.labels or (), strict=True):
        by_key[key].append(label)
    return by_key


def test_labels_are_those_of_the_tables_taste() -> None:
    for split in _read():
        assert split.attributes is not None
        assert split.labels is not None
        for (text,), (guests, [occasion]), label in zip(
            split.texts, split.attributes, split.labels, strict=True
        ):
            words = set(text.split())
            tastes = {guest in LIKE_HOT for guest in guests}
            assert len(tastes) == 1
            if words & OF_DISHES:
                praise = bool(words & set(HOT)) == tastes.pop()
            else:
                praise = bool(words & set(LOUD)) == (occasion in WANT_LOUD)
            assert label == int(praise)


def test_neither_text_nor_attributes_alone_say_anything_of_the_label() -> None:
    for split in _read():
        assert split.attributes is not None
        for keys in (iter(split.texts), iter(split.attributes)):
            counts = [(len(of), sum(of)) for of in _labels_by(split, keys).values()]
            assert all(2 * right == rows for rows, right in counts)


def test_guests_are_several_and_half_of_dev_has_one_that_train_has_not() -> None:
    train, dev = _read()
    known = known_values(configure("task=tastes").settings.task, train)
    assert [len(values) for values in known.values()] == [20, 8]
    assert dev.attributes is not None
    new = [not set(guests) <= set(known["guests"]) for guests, _ in dev.attributes]
    assert sum(new) == 200
    assert all(occasion in known["occasion"] for _, [occasion] in dev.attributes)
    assert {len(guests) for guests, _ in dev.attributes} == {1, 2, 3}
    assert len({*train.read, *dev.read}) == len(train) + len(dev)


def test_counting_words_and_values_learns_nothing_and_their_products_do() -> None:
    """A sum of what text and attributes say is at chance; of seen guests, products are enough."""
    train, dev = _read()

    def cells(split: Split) -> list[str]:
        return [" ".join((*guests, *occasion)) for guests, occasion in split.attributes or ()]

    words, values = CountVectorizer(binary=True), CountVectorizer(binary=True)
    x = [words.fit_transform([t for (t,) in train.texts]), values.fit_transform(cells(train))]
    y = [words.transform([t for (t,) in dev.texts]), values.transform(cells(dev))]
    labels = np.asarray(dev.labels)
    added = LogisticRegression(max_iter=500).fit(hstack(x), train.labels)
    assert abs(added.score(hstack(y), labels) - 0.5) < 0.06

    def products(parts: list[object]) -> np.ndarray:
        one, other = (part.toarray() for part in parts)  # type: ignore[attr-defined]
        return np.einsum("iw,iv->iwv", one, other).reshape(len(one), -1)

    known = set(values.get_feature_names_out())
    seen = np.asarray([set(cell.split()) <= known for cell in cells(dev)])
    joint = LogisticRegression(max_iter=500, C=10).fit(products(x), train.labels)
    assert joint.score(products(y)[seen], labels[seen]) > 0.9


def test_columns_may_be_fewer_but_no_others() -> None:
    whole, _ = _read()
    fewer, _ = _read("task.attributes=[occasion]")
    none, _ = _read("task.attributes=[]")
    assert whole.attributes is not None
    assert fewer.attributes == tuple((occasion,) for _, occasion in whole.attributes)
    assert none.attributes is None
    assert whole.texts == fewer.texts == none.texts
    with pytest.raises(UserError, match="generated data of tastes has no attribute weather"):
        _read("task.attributes=[weather]")
