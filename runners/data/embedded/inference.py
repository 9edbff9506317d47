"""Embedded mnli, ax and rte: quantifiers, negation, hypernyms, conjunction, who did what."""

from __future__ import annotations

from collections.abc import Callable

from runners.data.embedded.lexicon import (
    COLOURS,
    KINDS,
    PEOPLE,
    PERSONAL_EVENTS,
    PLACES,
    REASONS,
    STATES,
    Words,
    article,
    participle,
    plural,
    sentence,
)

ENTAILMENT, NEUTRAL, CONTRADICTION = 0, 1, 2


Pair = tuple[str, str]


def _kinds(words: Words, label: int) -> Pair:
    """A specific thing is a general thing; under negation the direction turns."""
    specific, general = words.pick(KINDS)
    name, place = words.pick(PEOPLE), words.pick(PLACES)
    if words.rng.random() < 0.5:  # upward
        special, broad = f"{name} has {article(specific)}", f"{name} has {article(general)}"
        denied = f"{name} does not have {article(general)}"
        return {
            ENTAILMENT: (special, broad),
            NEUTRAL: (broad, special),
            CONTRADICTION: words.rng.choice([(special, denied), (denied, special)]),
        }[label]
    none_broad, none_special = (
        f"there is no {general} in the {place}",
        f"there is no {specific} in the {place}",
    )
    return {
        ENTAILMENT: (none_broad, none_special),
        NEUTRAL: (none_special, none_broad),
        CONTRADICTION: words.rng.choice(
            [
                (none_broad, f"there is {article(specific)} in the {place}"),
                (f"there is {article(specific)} in the {place}", none_broad),
            ]
        ),
    }[label]


def _quantifiers(words: Words, label: int) -> Pair:
    noun = plural(words.pick(KINDS)[0])
    state, opposite = words.pick(STATES)
    if words.rng.random() < 0.5:
        state, opposite = opposite, state
    place = words.pick(PLACES)
    every = words.rng.choice(["all", "all the"]) + f" {noun} in the {place} are {state}"
    some = f"some {noun} in the {place} are {state}"
    none = f"none of the {noun} in the {place} are {state}"
    not_all = f"not all the {noun} in the {place} are {state}"
    return words.rng.choice(
        {
            ENTAILMENT: [
                (every, some),
                (none, not_all),
                (every, f"no {noun} in the {place} are {opposite}"),
            ],
            NEUTRAL: [(some, every), (not_all, none), (some, not_all)],
            CONTRADICTION: [(every, not_all), (none, some), (some, none), (not_all, every)],
        }[label]
    )


def _states(words: Words, label: int) -> Pair:
    state, opposite = words.pick(STATES)
    if words.rng.random() < 0.5:
        state, opposite = opposite, state
    noun, colour = words.pick(KINDS)[0], words.pick(COLOURS)
    other_state = words.pick([s for s in STATES if state not in s])[0]
    negated = f"the {noun} is not {opposite} but {state}"
    return words.rng.choice(
        {
            ENTAILMENT: [
                (negated, f"the {noun} is {state}"),
                (negated, f"the {noun} is not {opposite}"),
                (
                    f"the {colour} {noun} is {state} and {other_state}",
                    f"the {noun} is {other_state}",
                ),
                (f"the {noun} is {state}", f"the {noun} is not {opposite}"),
            ],
            NEUTRAL: [
                (f"the {noun} is {state}", f"the {noun} is {other_state}"),
                (f"the {noun} is {state} or {other_state}", f"the {noun} is {other_state}"),
                (f"the {noun} is {state}", f"the {noun} is not {other_state}"),
                (
                    f"{words.pick(PEOPLE)} thinks that the {noun} is {state}",
                    f"the {noun} is {state}",
                ),
            ],
            CONTRADICTION: [
                (negated, f"the {noun} is {opposite}"),
                (f"the {noun} is {state}", f"the {noun} is {opposite}"),
                (negated, f"the {noun} is not {state}"),
            ],
        }[label]
    )


def _roles(words: Words, label: int) -> Pair:
    agent, patient = words.two(PEOPLE)
    same, other = words.pick(PERSONAL_EVENTS)
    verb = words.rng.choice(same)
    active, passive = f"{agent} {verb} {patient}", f"{patient} was {participle(verb)} by {agent}"
    event = active if words.rng.random() < 0.5 else passive
    swapped = words.rng.choice(
        [f"{patient} {verb} {agent}", f"{agent} was {participle(verb)} by {patient}"]
    )
    return words.rng.choice(
        {
            ENTAILMENT: [
                (event, passive if event == active else active),
                (event, f"{agent} {verb} someone"),
                (event, f"someone {verb} {patient}"),
                (event, f"{agent} {words.rng.choice(same)} {patient}"),
            ],
            NEUTRAL: [
                (event, swapped),
                (event, f"{agent} {verb} {patient} because {words.pick(REASONS)}"),
                (f"{agent} wanted to see the person that {verb} {patient}", active),
                (event, f"{patient} {other} {agent}"),
            ],
            CONTRADICTION: [
                (event, f"{agent} never {verb} {patient}"),
                (event, f"nobody {verb} {patient}"),
                (f"nobody {verb} {patient}", active),
                (event, f"it is not true that {passive}"),
            ],
        }[label]
    )


def _numbers(words: Words, label: int) -> Pair:
    noun = plural(words.pick(KINDS)[0])
    name = words.pick(PEOPLE)
    low, high = sorted(words.rng.sample(range(2, 12), 2))
    exact = f"{name} owns exactly {high} {noun}"
    return words.rng.choice(
        {
            ENTAILMENT: [
                (exact, f"{name} owns more than {low} {noun}"),
                (exact, f"{name} owns {noun}"),
            ],
            NEUTRAL: [
                (f"{name} owns {noun}", exact),
                (f"{name} owns more than {low} {noun}", f"{name} owns exactly {high + 1} {noun}"),
            ],
            CONTRADICTION: [
                (exact, f"{name} owns exactly {low} {noun}"),
                (exact, f"{name} owns no {noun}"),
                (f"{name} owns no {noun}", f"{name} owns {noun}"),
            ],
        }[label]
    )


def _conjunction(words: Words, label: int) -> Pair:
    first, second = words.two(PEOPLE)
    place = words.pick(PLACES)
    both, either = (
        f"both {first} and {second} went to the {place}",
        f"{first} or {second} went to the {place}",
    )
    one, neither = (
        f"{second} went to the {place}",
        f"neither {first} nor {second} went to the {place}",
    )
    stayed = f"{second} did not go to the {place}"
    return words.rng.choice(
        {
            ENTAILMENT: [(both, one), (one, either), (neither, stayed)],
            NEUTRAL: [(either, one), (one, both), (stayed, neither), (either, stayed)],
            CONTRADICTION: [(both, stayed), (neither, one), (neither, either), (stayed, both)],
        }[label]
    )


_PHENOMENA: list[Callable[[Words, int], Pair]] = [
    _kinds,
    _quantifiers,
    _states,
    _roles,
    _numbers,
    _conjunction,
]


def mnli(words: Words, label: int) -> tuple[str, ...]:
    """Return premise and hypothesis; label 0 entailment, 1 neutral, 2 contradiction."""
    premise, hypothesis = words.rng.choice(_PHENOMENA)(words, label)
    return sentence(premise), sentence(hypothesis)


def rte(words: Words, label: int) -> tuple[str, ...]:
    """Return a text of two sentences and a hypothesis about one of them; label 0 is entailment."""
    relation = ENTAILMENT if label == 0 else words.rng.choice([NEUTRAL, CONTRADICTION])
    premise, hypothesis = words.rng.choice(_PHENOMENA)(words, relation)
    aside, _ = words.rng.choice(_PHENOMENA)(words, words.rng.randrange(3))
    parts = [sentence(premise), sentence(aside)]
    words.rng.shuffle(parts)
    return " ".join(parts), sentence(hypothesis)
