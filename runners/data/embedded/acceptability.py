"""Embedded cola: agreement, reflexives, auxiliaries, questions, objects and word order."""

from __future__ import annotations

from collections.abc import Callable

from runners.data.embedded.lexicon import ANIMATE, INTRANSITIVE, THINGS, TRANSITIVE, Words, sentence

_NEAR = ["near", "behind", "beside", "next to", "in front of", "with"]


_MALE, _FEMALE = (
    ["Bruno", "David", "Hugo", "Leo", "Paul", "Simon"],
    ["Anna", "Clara", "Elena", "Greta", "Maria", "Rosa"],
)


def _agreement(words: Words, good: bool) -> str:
    """The verb agrees with the head noun, not with the nearer one."""
    head, near = words.two(ANIMATE)
    number = words.rng.randrange(2)  # 0 singular, 1 plural
    verb = words.pick(INTRANSITIVE)
    form = verb[1 - number] if good else verb[number]
    link = words.rng.choice(
        [
            f"{words.rng.choice(_NEAR)} the {near[1 - number]}",
            f"{words.rng.choice(_NEAR)} the {words.pick(THINGS)[1 - number]}",
            f"that the {near[1 - number]} {words.pick(TRANSITIVE)[2]}",
        ]
    )
    return f"the {head[number]} {link} {form}"


def _copula(words: Words, good: bool) -> str:
    head, near = words.pick(THINGS), words.pick(THINGS)
    number = words.rng.randrange(2)
    be = ("is", "are") if words.rng.random() < 0.5 else ("was", "were")
    return (
        f"the {head[number]} {words.rng.choice(_NEAR)} the {near[1 - number]}"
        f" {be[number if good else 1 - number]} old"
    )


def _reflexive(words: Words, good: bool) -> str:
    male = words.rng.random() < 0.5
    name = words.rng.choice(_MALE if male else _FEMALE)
    other = words.pick(ANIMATE)[1]
    right, wrong = ("himself", "herself") if male else ("herself", "himself")
    verb = words.pick(TRANSITIVE)
    return (
        f"{name} {words.rng.choice(['who the ' + other + ' like', 'near the ' + other, ''])}"
        f" {verb[2]} {right if good else wrong}"
    )


def _auxiliary(words: Words, good: bool) -> str:
    subject = words.pick(ANIMATE)[0]
    verb = words.pick(
        [v for v in (*INTRANSITIVE, *TRANSITIVE) if v[3] != v[2]]
        if words.rng.random() < 0.3
        else INTRANSITIVE
    )
    tail = f"the {words.pick(ANIMATE)[0]}" if verb in TRANSITIVE else ""
    auxiliary, right = words.rng.choice(
        [("has", verb[3]), ("will", verb[0]), ("did not", verb[0]), ("can", verb[0])]
    )
    wrong = verb[1] if right == verb[0] else verb[0]
    if not good and auxiliary != "has" and words.rng.random() < 0.5:
        wrong = verb[2]
    return f"the {subject} {auxiliary} {right if good else wrong} {tail}"


def _question(words: Words, good: bool) -> str:
    subject = words.pick(ANIMATE)[words.rng.randrange(2)]
    verb = words.pick(TRANSITIVE)
    if good:
        return f"who did the {subject} {verb[0]} ?"
    extra = words.pick(ANIMATE)[0]
    return words.rng.choice(
        [
            f"who did the {subject} {verb[2]} ?",
            f"who the {subject} did {verb[0]} ?",
            f"who did the {subject} {verb[0]} the {extra} ?",
        ]
    )


def _objects(words: Words, good: bool) -> str:
    subject, other = words.two(ANIMATE)
    number = words.rng.randrange(2)
    if (words.rng.random() < 0.5) == good:
        verb = words.pick(TRANSITIVE)
        return (
            f"the {subject[number]} {verb[2]} the {other[0]}"
            if good
            else f"the {subject[number]} {verb[2]}"
        )
    verb = words.pick(INTRANSITIVE)
    return (
        f"the {subject[number]} {verb[2]}"
        if good
        else f"the {subject[number]} {verb[2]} the {other[0]}"
    )


def _order(words: Words, good: bool) -> str:
    subject, other = words.two(ANIMATE)
    verb = words.pick(TRANSITIVE)[2]
    parts = [
        "the",
        subject[0],
        verb,
        "the",
        other[1],
        words.rng.choice(["yesterday", "again", "in secret"]),
    ]
    if not good:
        i = words.rng.randrange(len(parts) - 2)
        parts[i], parts[i + 1] = parts[i + 1], parts[i]
    return " ".join(parts)


def _determiner(words: Words, good: bool) -> str:
    noun = words.pick((*ANIMATE, *THINGS))
    number = words.rng.randrange(2)
    determiner = words.rng.choice([["this", "every", "one"], ["these", "many", "several"]][number])
    verb = words.pick(TRANSITIVE)[2]
    return (
        f"the {words.pick(ANIMATE)[0]} {verb} {determiner} {noun[number if good else 1 - number]}"
    )


_PHENOMENA: list[tuple[Callable[[Words, bool], str], int]] = [
    (_agreement, 5),
    (_copula, 3),
    (_reflexive, 2),
    (_auxiliary, 2),
    (_question, 2),
    (_objects, 3),
    (_order, 2),
    (_determiner, 2),
]


def cola(words: Words, label: int) -> tuple[str, ...]:
    """Return one sentence; label 1 is acceptable."""
    functions, weights = zip(*_PHENOMENA, strict=True)
    make = words.rng.choices(functions, weights=weights)[0]
    return (sentence(make(words, bool(label))),)
