"""Made-up towns, what is true of them, and the sentences that state, compare and choose.

Nothing in a sentence but a town's name, what is asked of it and which of two is named says which
answer is right: facts are facts because `VALUES` says so.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import TypeVar

T = TypeVar("T")


TOWNS = """\
Barlow Dalton Fletcher Harper Mercer Palmer Tucker Walsh Bennett Jenkins Ramsey Sutton
""".split()


@dataclass(frozen=True)
class Attribute:
    """A number that every town has, and how one speaks of it.

    The town at rank r has `lowest + r * step`. `facts` are a question and a claim each, the last
    one unseen in training. `comparatives` are for more of it and for less; `things` mean more.
    """

    name: str
    lowest: int
    step: int
    facts: tuple[tuple[str, str], ...]
    comparatives: tuple[str, str]
    things: tuple[str, ...]

    def value(self, rank: int) -> int:
        """Return what a town of this rank has."""
        return self.lowest + rank * self.step


ATTRIBUTES = (
    Attribute(
        "warmth",
        *(7, 3),
        (
            ("How warm is {town}?", "{value} degrees."),
            ("The temperature of {town}?", "It has {value} degrees."),
            ("What does the thermometer of {town} show?", "It shows {value} degrees."),
        ),
        ("warmer", "colder"),
        ("heat", "warm days"),
    ),
    Attribute(
        "size",
        *(8, 8),
        (
            ("How big is {town}?", "{value} thousand people."),
            ("The population of {town}?", "It has {value} thousand people."),
            ("Who lives in {town}?", "About {value} thousand people do."),
        ),
        ("bigger", "smaller"),
        ("big towns", "crowds"),
    ),
)


# What two towns are compared by: a question and a claim each.
COMPARISONS = (
    ("Which is {word}, {first} or {second}?", "{claimed}."),
    ("{first} or {second}, which one is {word}?", "It is {claimed}."),
    ("Compare {first} and {second}.", "{claimed} is {word}."),
    ("There are {first} and {second}.", "{claimed} is the {word} one."),
)
COMPARISONS_UNSEEN = (
    ("Name the {word} one: {first} or {second}?", "That is {claimed}."),
    ("We saw {first} and {second}.", "{claimed} was {word}."),
)


# A wish for something, and for its absence; of the first, second and third person.
WISHES = (
    ("I like {thing}.", "I don't like {thing}."),
    ("I would choose {thing}.", "I would avoid {thing}."),
    ("You like {thing}.", "You don't like {thing}."),
    ("You enjoy {thing}.", "You never enjoy {thing}."),
    ("She likes {thing}.", "She does not like {thing}."),
    ("They want {thing}.", "They do not want {thing}."),
)
WISHES_UNSEEN = (
    ("I am fond of {thing}.", "I am not fond of {thing}."),
    ("You would enjoy {thing}.", "You would not enjoy {thing}."),
    ("He loves {thing}.", "He never loves {thing}."),
)


CHOICES = (
    ("{first} or {second}?", "{claimed}."),
    ("Go to {first} or {second}?", "Go to {claimed}."),
    ("There are {first} and {second}.", "{claimed} is the right one."),
)
CHOICES_UNSEEN = (
    ("Shall it be {first} or {second}?", "Let it be {claimed}."),
    ("Visit {first} or {second}?", "Visit {claimed}."),
)


def shuffled(items: Sequence[T], key: str) -> list[T]:
    """Return the items in an order that their places and `key` decide, whatever the version."""
    places = range(len(items))
    return [items[i] for i in sorted(places, key=lambda i: sha256(f"{key} {i}".encode()).digest())]


def ranks(key: str) -> dict[str, dict[str, int]]:
    """Return for each attribute the rank of each town, from 0; no two towns share one."""
    return {
        attribute.name: {
            town: rank for rank, town in enumerate(shuffled(TOWNS, f"{key} {attribute.name}"))
        }
        for attribute in ATTRIBUTES
    }
