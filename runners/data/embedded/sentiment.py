"""Embedded sst2: a review's verdict, decided by negation and contrast."""

from __future__ import annotations

from runners.data.embedded.lexicon import BAD, FILM_PARTS, GOOD, Words, fix_articles

_ADVERBS = ["", "quite", "really", "truly", "rather", "simply", "surprisingly", "utterly"]


# {x} carries the verdict, {y} is a word of the opposite side; {n}, {m} name parts of a film.
_PLAIN = [
    "the {n} is {a} {x}",
    "a {x} {n} with a {w} {m}",
    "what {a} {x} {n} this is",
    "the {m} makes the {n} {a} {x}",
]


_NEGATED = [
    "the {n} is not {y}",
    "the {n} is not {y} and not {z} either",
    "there is nothing {y} about the {n}",
    "nobody could call the {n} {y}",
    "the {n} is anything but {y}",
    "the {n} is never {y} , not even when the {m} turns {z}",
    "i cannot say that the {n} or the {m} is {y}",
    "the {n} is far from {y}",
    "hardly a {y} {n}",
]


_CONTRAST = [
    "the {m} is {y} , but the {n} is {x}",
    "although the {m} is {y} , i found the {n} {a} {x}",
    "the {n} is {x} even though the {m} is {y}",
    "the {n} seems {y} at first and proves {x} in the end",
    "i expected a {y} {n} and got a {x} one",
    "they promised something {y} ; the {n} they delivered is {x}",
    "despite a {y} {m} , this remains a {x} {n}",
    "critics called it {y} , and they were wrong : the {n} is {x}",
    "the {n} that looked so {y} in the trailer is {x}",
    "the {m} is {y} and {z} , yet the {n} stays {x}",
]


_TWISTED = [
    "the {m} may not be {x} , but the {n} is not {y} at all",
    "it would be wrong to call the {n} {y} just because the {m} is {z}",
    "the {n} is not {y} ; it is {x}",
    "less {y} than the {m} suggests , the {n} is {x}",
    "whoever says the {n} is {y} has not understood it",
]


def sst2(words: Words, label: int) -> tuple[str, ...]:
    """Return one review sentence, lower case and tokenised as in SST-2; label 1 is positive."""
    same, other = (GOOD, BAD) if label else (BAD, GOOD)
    templates = words.rng.choices([_PLAIN, _NEGATED, _CONTRAST, _TWISTED], weights=[1, 3, 4, 2])[0]
    n, m = words.two(FILM_PARTS)
    y, z = words.two(other)
    x, w = words.two(same)
    text = words.rng.choice(templates).format(
        n=n, m=m, x=x, w=w, y=y, z=z, a=words.rng.choice(_ADVERBS)
    )
    return (fix_articles(text) + " .",)
