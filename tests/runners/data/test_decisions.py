"""Facts, comparisons and decisions: labels follow from what the facts' own sentences say."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from functools import cache

import numpy as np
import pytest
from sklearn.feature_extraction.text import CountVectorizer
from sklearn.linear_model import LogisticRegression

from results.errors import UserError
from runners.config.settings import Data
from runners.data.corpus import glue_tasks
from runners.data.embedded.splits import read_embedded
from runners.data.sources import choose_source
from runners.data.split import Split
from tests.conftest import configure

ARMS = ("cft_decisions", "cft_more", "cft_fd", "cft_fcd")
TASKS = ("cft_facts", "cft_comparisons", *ARMS)
COMPOSED = tuple(task for task in TASKS if task != "cft_facts")
UNITS = {"degree": "warmth", "thousand": "size"}
# What is asked for by a comparison or a wish: more of an attribute, or less.
SENSES = {
    "warmer": ("warmth", 1), "colder": ("warmth", -1), "heat": ("warmth", 1), "warm": ("warmth", 1),
    "bigger": ("size", 1), "smaller": ("size", -1), "big": ("size", 1), "crowds": ("size", 1),
}  # fmt: skip
NEGATION = re.compile(r"\bnot\b|n't\b|\bnever\b|\bavoid\b")
QUARTER = 0.25  # of an attribute's range, which two towns that are compared lie apart

Row = tuple[tuple[str, ...], str]


@cache
def _splits(name: str) -> tuple[Split, Split]:
    train, report = read_embedded(configure(f"task={name}").settings.task)
    assert list(report) == ["validation"]
    return train, report["validation"]


def _rows(split: Split) -> list[Row]:
    assert split.labels is not None
    return [(t, ("wrong", "right")[int(k)]) for t, k in zip(split.texts, split.labels, strict=True)]


def _fact(texts: tuple[str, ...]) -> tuple[str, str, int]:
    """Read a town, an attribute and a number from a statement of fact."""
    question, claim = texts
    [attribute] = [name for unit, name in UNITS.items() if unit in claim]
    [town] = re.findall(r"\b[A-Z][a-z]+\b", question[1:])
    [number] = re.findall(r"\d+", claim)
    return town, attribute, int(number)


@cache
def _known() -> dict[str, dict[str, int]]:
    """Each attribute's number of each town, as the right statements of training say it."""
    known: dict[str, dict[str, int]] = defaultdict(dict)
    for texts, label in _rows(_splits("cft_facts")[0]):
        town, attribute, number = _fact(texts)
        if label == "right":
            assert known[attribute].setdefault(town, number) == number
    return dict(known)


def _towns(text: str) -> list[str]:
    return [word for word in re.findall(r"\w+", text) if word in _known()["warmth"]]


def _masked(texts: tuple[str, ...]) -> tuple[str, ...]:
    names = "|".join(_known()["warmth"])
    return tuple(re.sub(rf"\b({names})\b", "TOWN", text) for text in texts)


def _skeletons(texts: tuple[str, ...]) -> list[str]:
    """The sentences of an example without towns and without what is asked of them."""
    masked = re.sub(r"\b(" + "|".join(SENSES) + r")\b", "SENSE", "\n".join(_masked(texts)))
    masked = re.sub(r"SENSE (days|towns)\b", "SENSE", masked)
    return re.split(r"\n|(?<=\.) ", masked)


def _pair(texts: tuple[str, ...]) -> frozenset[str]:
    first, second = _towns(texts[0])
    return frozenset((first, second))


def _composed(split: Split) -> list[Row]:
    """A split's comparisons and decisions: what names two towns."""
    return [row for row in _rows(split) if len(_towns(row[0][0])) == 2]


def test_facts_are_one_table() -> None:
    known = _known()
    assert set(known) == {"warmth", "size"}
    assert len({frozenset(numbers) for numbers in known.values()}) == 1
    for numbers in known.values():
        assert len(set(numbers.values())) == len(numbers) == 12
    for split in _splits("cft_facts"):
        stated: dict[tuple[str, int], Counter[str]] = defaultdict(Counter)
        for texts, label in _rows(split):
            town, attribute, number = _fact(texts)
            numbers = known[attribute]
            apart = abs(number - numbers[town]) / (max(numbers.values()) - min(numbers.values()))
            assert apart == 0 if label == "right" else apart >= QUARTER
            stated[attribute, number][label] += 1
        assert len(stated) == 24
        assert all(counts["right"] == counts["wrong"] for counts in stated.values())


@pytest.mark.parametrize("name", COMPOSED)
def test_every_label_follows_from_the_facts(name: str) -> None:
    for split in _splits(name):
        for_more = 0
        for texts, label in _composed(split):
            context, claim = texts
            asked = " ".join(texts)
            senses = {SENSES[m] for m in re.findall(r"\b(?:" + "|".join(SENSES) + r")\b", asked)}
            [(attribute, sign)] = senses
            sign = -sign if NEGATION.search(context) else sign
            numbers = _known()[attribute]
            [claimed] = _towns(claim)
            [other] = _pair(texts) - {claimed}
            gap = numbers[claimed] - numbers[other]
            for_more += sign > 0
            assert ("right" if gap * sign > 0 else "wrong") == label, texts
            width = max(numbers.values()) - min(numbers.values())
            assert abs(gap) / width >= QUARTER
            assert not re.search(r"\d", asked)
        assert for_more == len(_composed(split)) * 2 / 3


def test_devs_pairs_are_unseen_and_half_of_its_templates() -> None:
    trained = [row for name in TASKS for row in _composed(_splits(name)[0])]
    for name in ("cft_decisions", "cft_comparisons"):
        dev = _rows(_splits(name)[1])
        assert not {_pair(t) for t, _ in dev} & {_pair(t) for t, _ in trained}
        assert len({_pair(t) for t, _ in dev}) >= 20
        known = {skeleton for texts, _ in trained for skeleton in _skeletons(texts)}
        new = [{skeleton not in known for skeleton in _skeletons(texts)} for texts, _ in dev]
        assert new.count({True}) == new.count({False}) == len(dev) / 2
    for name in TASKS:
        train, dev_split = _splits(name)
        assert len(set(train.texts)) == len(train)
        assert not set(train.texts) & set(dev_split.texts)


def test_arms_are_made_of_the_components_and_share_one_dev() -> None:
    rows = {name: Counter(_rows(_splits(name)[0])) for name in TASKS}
    facts, comparisons, decisions = (
        rows[f"cft_{part}"] for part in ("facts", "comparisons", "decisions")
    )
    assert rows["cft_fd"] == facts + decisions
    assert rows["cft_fcd"] == facts + comparisons + decisions
    assert decisions <= rows["cft_more"]
    assert rows["cft_more"].total() == rows["cft_fcd"].total()
    assert [c.total() for c in (facts, comparisons, decisions)] == [96, 768, 576]
    assert len({_splits(arm)[1].sha256 for arm in ARMS}) == 1
    assert len({tuple(configure(f"task={t}").settings.task.labels) for t in TASKS}) == 1
    for name in TASKS:
        sizes = configure(f"task={name}").settings.task.rows
        train, dev = _splits(name)
        assert sizes == {"train": len(train), "validation": len(dev)}


@pytest.mark.parametrize("name", TASKS)
def test_without_names_every_text_is_as_often_right_as_wrong(name: str) -> None:
    """So are the claims of the town that is named first, and whatever depends on it."""
    for split in _splits(name):
        counts: dict[object, Counter[str]] = defaultdict(Counter)
        for texts, label in _composed(split):
            first = _towns(texts[0])[0] == _towns(texts[1])[0]
            counts[_masked(texts), first][label] += 1
        assert all(c["right"] == c["wrong"] for c in counts.values())
        labels = Counter(label for _, label in _rows(split))
        assert labels["right"] == labels["wrong"]


@pytest.mark.parametrize("name", ["cft_decisions", "cft_fcd"])
def test_counting_words_decides_nothing(name: str) -> None:
    """Logistic regression on words and word pairs: half right without names, little more with."""
    train, dev = _splits(name)
    for masked in (True, False):
        parts = [
            [" | ".join(_masked(t) if masked else t) for t in split.texts] for split in (train, dev)
        ]
        counter = CountVectorizer(ngram_range=(1, 2))
        x = counter.fit_transform(parts[0])
        model = LogisticRegression(max_iter=2000, C=0.3).fit(x, train.labels)
        right = float(np.mean(model.predict(counter.transform(parts[1])) == dev.labels))
        assert right == 0.5 if masked else abs(right - 0.5) < 0.1


def test_no_towns_name_is_cut_into_pieces() -> None:
    from transformers import AutoTokenizer

    from runners.models.weights import find_weights

    folder = find_weights(configure("task=cft_facts").settings.model).folder
    tokenizer = AutoTokenizer.from_pretrained(folder)
    pieces = {town: tokenizer.tokenize(town) for town in _known()["warmth"]}
    assert pieces == {town: [town.lower()] for town in pieces}


def test_what_is_generated_only_needs_no_files_and_no_network() -> None:
    task = configure("task=cft_fcd").settings.task
    assert choose_source(task, Data(source="auto", dir="anywhere"))[0] == "embedded"
    for source in ("local", "hub"):
        with pytest.raises(UserError, match=f"data={source}: task cft_fcd has no such source; use"):
            choose_source(task, Data(source=source))  # type: ignore[arg-type]
    other = task.model_copy(update={"name": "cft_fdc"})
    with pytest.raises(UserError, match=r"generated for a task called 'cft_fdc'; did you mean cft"):
        choose_source(other, Data(source="embedded"))


def test_what_is_generated_only_is_not_among_glues_texts() -> None:
    """Vectors of sentences are trained on the training sets of GLUE."""
    assert [t.name for t in glue_tasks()] == sorted(
        ["cola", "sst2", "mrpc", "stsb", "qqp", "mnli", "qnli", "rte", "wnli"]
    )
