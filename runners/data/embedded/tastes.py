"""Embedded tastes: whether a remark is praise hangs on who is at the table and on what occasion.

A remark names one side of something: a dish is hot or mild, a room loud or quiet. All guests of a
table share a taste in dishes, and an occasion wants one kind of room. Rows come in fours, two
remarks that differ in their side by two tables, or two occasions, that differ in what they like:
each text, and all attributes, stand as often beside one label as beside the other, so that neither
alone says anything of it. Half of dev's fours are of tables with guests that training never holds.
"""

from __future__ import annotations

import random
from collections.abc import Sequence

from runners.data.split import Split, Values

ATTRIBUTES = ("guests", "occasion")
LABELS = ("complaint", "praise")
GUESTS = (
    ("anna", "bruno", "chloe", "dan", "edith", "franz", "greta", "hugo", "ines", "jonas"),
    ("karim", "lea", "mario", "nora", "olga", "paul", "queenie", "rosa", "sven", "tilda"),
)  # who like dishes hot, and who like them mild
NEW_GUESTS = (("ulla", "viktor", "wanda"), ("xaver", "yara", "zeno"))  # of dev alone
OCCASIONS = (
    ("birthday", "carnival", "promotion", "wedding"),
    ("farewell", "memorial", "negotiation", "reading"),
)  # which want a room loud, and which want it quiet
DISHES = ("soup", "stew", "curry", "sauce", "salad", "pie", "broth", "dip")
ROOMS = ("hall", "bar", "terrace", "lounge", "parlour", "cellar", "garden", "lobby")
SIDES = {
    "dish": (("hot", "spicy", "fiery", "peppery"), ("mild", "bland", "gentle", "plain")),
    "room": (("loud", "noisy", "lively", "busy"), ("quiet", "still", "calm", "silent")),
}
TEMPLATES = (
    "the {thing} was {side}",
    "we had a {thing} that was {side} again",
    "{side} as ever , this {thing}",
    "they gave us the {thing} , and it was {side}",
    "nobody had said how {side} the {thing} would be",
    "the {thing} here is {side} , as all the guides say",
)
TRAIN_FOURS, DEV_FOURS = 300, 100

Row = tuple[str, Values, int]


def _table(rng: random.Random, taste: int, new: bool) -> tuple[str, ...]:
    """Return one to three guests of a taste, the first of them new where that is wanted."""
    first = [rng.choice(NEW_GUESTS[taste])] if new else []
    return tuple(sorted({*first, *rng.sample(GUESTS[taste], rng.randint(1, 3) - len(first))}))


def _four(rng: random.Random, aspect: str, new: bool) -> list[Row]:
    """Return each of two remarks beside each of two tables or occasions."""
    thing = rng.choice(DISHES if aspect == "dish" else ROOMS)
    template = rng.choice(TEMPLATES)
    words = [rng.choice(side) for side in SIDES[aspect]]
    tables = [_table(rng, taste, new) for taste in (0, 1)]
    occasions = [rng.choice(kind) for kind in OCCASIONS]
    if aspect == "dish":
        cells = [(table, (rng.choice(occasions),)) for table in tables]
    else:
        table = rng.choice(tables)
        cells = [(table, (occasion,)) for occasion in occasions]
    return [
        (template.format(thing=thing, side=word), cell, int(side == liked))
        for side, word in enumerate(words)
        for liked, cell in enumerate(cells)
    ]


def taste_rows(key: str, fours: int, new: bool, taken: Sequence[Row] = ()) -> list[Row]:
    """Return distinct rows, none of them taken, in random order.

    With `new`, every other four is of new guests.
    """
    rng = random.Random(key)
    known = {(text, values) for text, values, _ in taken}
    rows: dict[tuple[str, Values], int] = {}
    count = 0
    while count < fours:
        four = _four(rng, ("dish", "room")[count // 2 % 2], new and count % 2 == 1)
        examples = {(text, values): label for text, values, label in four}
        if not examples.keys() & (known | rows.keys()):
            rows |= examples
            count += 1
    mixed = [(text, values, label) for (text, values), label in rows.items()]
    rng.shuffle(mixed)
    return mixed


def taste_splits(
    key: str, names: Sequence[str], attributes: Sequence[str]
) -> tuple[Split, dict[str, Split]]:
    """Return train and report; `names` are the task's labels, `attributes` those that it reads."""
    numbers = [names.index(label) for label in LABELS]
    places = [ATTRIBUTES.index(name) for name in attributes]

    def split(name: str, rows: list[Row]) -> Split:
        values = tuple(tuple(cells[place] for place in places) for _, cells, _ in rows)
        return Split(
            name,
            tuple((text,) for text, _, _ in rows),
            tuple(numbers[label] for _, _, label in rows),
            attributes=values if places else None,
        )

    train = taste_rows(f"{key} train", TRAIN_FOURS, new=False)
    dev = taste_rows(f"{key} dev", DEV_FOURS, new=True, taken=train)
    return split("train", train), {"validation": split("validation", dev)}
