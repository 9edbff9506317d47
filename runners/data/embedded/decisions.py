"""Embedded facts, comparisons and decisions: a target whose answers its text does not hold.

After Bursztyn et al. 2022, compositional fine-tuning: a decision between two towns needs a
comparison, and a comparison two facts. All labels come from one table of ranks.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TypeVar

from runners.data.embedded.towns import (
    ATTRIBUTES,
    CHOICES,
    CHOICES_UNSEEN,
    COMPARISONS,
    COMPARISONS_UNSEEN,
    TOWNS,
    WISHES,
    WISHES_UNSEEN,
    Attribute,
    ranks,
    shuffled,
)
from runners.data.split import Split

WRONG, RIGHT = 0, 1
GAP = 3  # ranks, at least, between two towns that are compared and between a fact and what is false
DEV_PAIRS_OF_A_TOWN = 4  # at most, of 11: never together in training
MORE = (True, True, False)  # more of an attribute is asked for twice as often as less of it
COMPARISON_BLOCKS = 32  # of 24 rows
DECISION_BLOCKS = 24  # of 24 rows
MORE_BLOCKS = 60  # as many rows as facts, comparisons and decisions
DEV_BLOCKS = 10  # with half of the rows from unseen templates

T = TypeVar("T")
Row = tuple[tuple[str, ...], int]
Pair = tuple[str, str]
Templates = tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class World:
    """What is true, and which pairs of towns training never sees; `key` decides both."""

    key: str

    @functools.cached_property
    def ranks(self) -> dict[str, dict[str, int]]:
        return ranks(self.key)

    @functools.cached_property
    def dev_pairs(self) -> frozenset[Pair]:
        chosen: list[Pair] = []
        for pair in shuffled(list(itertools.combinations(TOWNS, 2)), f"{self.key} pairs"):
            used = [town for other in chosen for town in other]
            if all(used.count(town) < DEV_PAIRS_OF_A_TOWN for town in pair):
                chosen.append(pair)
        return frozenset(chosen)

    def pairs(self, attribute: Attribute, dev: bool, use: str) -> Iterator[Pair]:
        """Yield pairs far enough apart, the town with less first, again and again in new orders."""
        rank = self.ranks[attribute.name]
        far = [
            (a, b) if rank[a] < rank[b] else (b, a)
            for a, b in itertools.combinations(TOWNS, 2)
            if ((a, b) in self.dev_pairs) == dev and abs(rank[a] - rank[b]) >= GAP
        ]
        for again in itertools.count():
            yield from shuffled(far, f"{self.key} {use} {attribute.name} {again}")


def facts(world: World, dev: bool) -> list[Row]:
    """Return each fact in each template, right once and once with a number that is wrong.

    Each number is right once and wrong once.
    """
    rows: list[Row] = []
    for attribute in ATTRIBUTES:
        templates = attribute.facts[-1:] if dev else attribute.facts[:-1]
        for place, (question, claim) in enumerate(templates):
            # From GAP to len(TOWNS) - GAP: as far apart the other way round.
            shift = GAP + 2 * place + (4 if dev else 0)
            for town, rank in world.ranks[attribute.name].items():
                for label in (RIGHT, WRONG):
                    stated = rank if label == RIGHT else (rank + shift) % len(TOWNS)
                    value = attribute.value(stated)
                    texts = question.format(town=town), claim.format(value=value)
                    rows.append((texts, label))
    return rows


def comparisons(world: World, blocks: int, dev: bool = False) -> list[Row]:
    """Return claims that one of two towns has more, or less; each block holds every case once.

    In each case, both labels and both orders of the towns share a template.
    """
    pairs = {a.name: world.pairs(a, dev, "comparisons") for a in ATTRIBUTES}
    pools = [COMPARISONS, COMPARISONS_UNSEEN] if dev else [COMPARISONS]
    rows: dict[tuple[str, ...], int] = {}
    cases = itertools.product(range(blocks), pools, ATTRIBUTES, enumerate(MORE))
    for block, pool, attribute, (place, more) in cases:
        template = _one(pool, f"{world.key} {attribute.name} {place} {len(pool)}", block)
        word = attribute.comparatives[0 if more else 1]
        _add_cases(rows, template, {"word": word}, pairs[attribute.name], more)
    return list(rows.items())


def decisions(world: World, blocks: int, dev: bool = False) -> list[Row]:
    """Return claims of where to go, after a wish; each block holds every case once.

    Fewer blocks are the first rows of more.
    """
    pairs = {a.name: world.pairs(a, dev, "decisions") for a in ATTRIBUTES}
    pools: list[tuple[Templates, Templates]] = [(WISHES, CHOICES)]
    pools += [(WISHES_UNSEEN, CHOICES_UNSEEN)] if dev else []
    rows: dict[tuple[str, ...], int] = {}
    cases = itertools.product(range(blocks), pools, ATTRIBUTES, enumerate(MORE))
    for block, (wishes, choices), attribute, (place, more) in cases:
        key = f"{world.key} {attribute.name} {place} {len(wishes)}"
        wish = _one(wishes, f"{key} wish", block)[0 if more else 1]
        thing = _one(attribute.things, f"{key} thing", block)
        choice, claim = _one(choices, f"{key} choice", block)
        context = f"{wish.format(thing=thing)} {choice}"
        _add_cases(rows, (context, claim), {}, pairs[attribute.name], more)
    return list(rows.items())


def _one(items: Sequence[T], key: str, turn: int) -> T:
    """Return an item by turns: each round has all of them, in an order of its own."""
    again, place = divmod(turn, len(items))
    return shuffled(items, f"{key} {again}")[place]


def _add_cases(
    rows: dict[tuple[str, ...], int],
    template: tuple[str, str],
    words: dict[str, str],
    pairs: Iterator[Pair],
    more: bool,
) -> None:
    """Add a row for each label and for the claimed town in first and in second place.

    Each has a pair of its own, of which it is right to name the town with more of the attribute, or
    with less.
    """
    for label, claimed_first in itertools.product((WRONG, RIGHT), (True, False)):
        while True:
            less_town, more_town = next(pairs)
            claimed, other = less_town, more_town
            if (label == RIGHT) == more:
                claimed, other = more_town, less_town
            first, second = (claimed, other) if claimed_first else (other, claimed)
            texts = tuple(
                part.format(first=first, second=second, claimed=claimed, **words)
                for part in template
            )
            if texts not in rows:
                break
        rows[texts] = label


PARTS = {
    "cft_facts": "F",
    "cft_comparisons": "C",
    "cft_decisions": "D",
    "cft_more": "M",
    "cft_fd": "FD",
    "cft_fcd": "FCD",
}


def component_rows(task: str, key: str) -> tuple[list[Row], list[Row]]:
    """Return a task's rows of training and of dev, each in an order of its own.

    Dev is the decisions', but for a component alone.
    """
    world = World(key)
    make = {
        "F": lambda: facts(world, dev=False),
        "C": lambda: comparisons(world, COMPARISON_BLOCKS),
        "D": lambda: decisions(world, DECISION_BLOCKS),
        "M": lambda: decisions(world, MORE_BLOCKS),
    }
    train = [row for part in PARTS[task] for row in make[part]()]
    if task == "cft_facts":
        dev = facts(world, dev=True)
    elif task == "cft_comparisons":
        dev = comparisons(world, DEV_BLOCKS, dev=True)
    else:
        dev = decisions(world, DEV_BLOCKS, dev=True)
    return shuffled(train, f"{key} {task} train"), shuffled(dev, f"{key} dev")


def component_splits(task: str, key: str, names: Sequence[str]) -> tuple[Split, dict[str, Split]]:
    """Return a task's splits; `names` are its labels, of which wrong and right are used."""
    numbers = {WRONG: names.index("wrong"), RIGHT: names.index("right")}
    train, dev = (
        Split(name, tuple(t for t, _ in rows), tuple(numbers[label] for _, label in rows))
        for name, rows in zip(("train", "validation"), component_rows(task, key), strict=True)
    )
    return train, {"validation": dev}
