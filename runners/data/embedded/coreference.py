"""Embedded wnli: whom or what does the pronoun mean? Hard by design, as the task it imitates."""

from __future__ import annotations

from runners.data.embedded.lexicon import ANIMATE, PEOPLE, PLACES, THINGS, Words, sentence

# A text about two parties, the clause about one of them, and whether the first is meant.
_SCHEMAS = [
    ("the {a} did not fit into the {b} because it was too big", "too big", True),
    ("the {a} did not fit into the {b} because it was too small", "too small", False),
    ("the {a} broke the {b} because it was very heavy", "very heavy", True),
    ("the {a} broke the {b} because it was very fragile", "very fragile", False),
    ("the {a} could not be hidden behind the {b} because it was too wide", "too wide", True),
    ("the {a} could not be hidden behind the {b} because it was too narrow", "too narrow", False),
]


_PEOPLE_SCHEMAS = [
    ("{a} thanked {b} because he had received help", "had received help", True),
    ("{a} thanked {b} because he had given help", "had given help", False),
    ("{a} paid {b} after he had got the goods", "had got the goods", True),
    ("{a} paid {b} after he had delivered the goods", "had delivered the goods", False),
    ("{a} beat {b} in the race because he was so fast", "was so fast", True),
    ("{a} beat {b} in the race because he was so slow", "was so slow", False),
    ("{a} asked {b} a question , but he was not answered", "was not answered", True),
    ("{a} asked {b} a question , but he did not answer", "did not answer", False),
]


def wnli(words: Words, label: int) -> tuple[str, ...]:
    """Return a text and a reading of its pronoun; label 1 when the reading is right."""
    things = words.rng.random() < 0.5
    text, clause, first_meant = words.rng.choice(_SCHEMAS if things else _PEOPLE_SCHEMAS)
    if things:
        (a, _), (b, _) = words.two(THINGS)
        text = f"in the {words.pick(PLACES)} , {text}"
        said = {True: f"the {a} was {clause}", False: f"the {b} was {clause}"}
    else:
        a, b = (
            words.two(PEOPLE)
            if words.rng.random() < 0.5
            else words.two([f"the {one}" for one, _ in ANIMATE])
        )
        said = {True: f"{a} {clause}", False: f"{b} {clause}"}
    return sentence(text.format(a=a, b=b)), sentence(said[first_meant == bool(label)])
