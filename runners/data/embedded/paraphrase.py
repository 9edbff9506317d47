"""Embedded mrpc, qqp and stsb: one event told twice, or another in nearly the same words."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from runners.data.embedded.lexicon import (
    CITIES,
    COMPANIES,
    CORPORATE_EVENTS,
    DAYS,
    MONTHS,
    PEOPLE,
    PERSONAL_EVENTS,
    Words,
    participle,
    sentence,
)


@dataclass(frozen=True)
class Event:
    """Who did what to whom, where and when; `other_verb` is another deed than `verbs`."""

    agent: str
    patient: str
    verbs: tuple[str, ...]
    other_verb: str
    place: str
    time: str


def draw_event(words: Words) -> Event:
    """Draw an event between two people or two companies."""
    people = words.rng.random() < 0.5
    agent, patient = words.two(PEOPLE if people else COMPANIES)
    verbs, other = words.pick(PERSONAL_EVENTS if people else CORPORATE_EVENTS)
    time = (
        f"on {words.rng.choice(DAYS)}"
        if words.rng.random() < 0.5
        else f"in {words.rng.choice(MONTHS)}"
    )
    return Event(agent, patient, verbs, other, f"in {words.pick(CITIES)}", time)


def tell(words: Words, event: Event, shape: str | None = None, verb: str | None = None) -> str:
    """Put an event into words: active, passive or cleft, adjuncts in either place."""
    verb = verb or words.rng.choice(event.verbs)
    shape = shape or words.rng.choice(["active", "passive", "cleft"])
    core = {
        "active": f"{event.agent} {verb} {event.patient}",
        "passive": f"{event.patient} was {participle(verb)} by {event.agent}",
        "cleft": f"it was {event.agent} that {verb} {event.patient}",
    }[shape]
    if words.rng.random() < 0.5:
        return sentence(f"{event.time} , {core} {event.place}")
    return sentence(f"{core} {event.place} {event.time}")


def _other_verb(words: Words, event: Event) -> Event:
    events = PERSONAL_EVENTS if event.agent in PEOPLE else CORPORATE_EVENTS
    verbs, other = words.pick_other(events, (event.verbs, event.other_verb))
    return replace(event, verbs=verbs, other_verb=other)


def _swapped(event: Event) -> Event:
    return replace(event, agent=event.patient, patient=event.agent)


def _differently(first: str, make: Callable[[], str]) -> str:
    """Return the first text made that is not the given one."""
    return next(text for text in iter(make, None) if text != first)


def _pair(words: Words, same: bool) -> tuple[str, str]:
    event = draw_event(words)
    if same:
        # Words that mark a difference below occur in paraphrases too and give nothing away.
        if words.rng.random() < 0.4:
            event = replace(event, verbs=(event.other_verb,))
        if words.rng.random() < 0.1:
            first = _denied(tell(words, event))
            return first, _differently(first, lambda: _denied(tell(words, event)))
        first = tell(words, event)
        return first, _differently(first, lambda: tell(words, event))
    first = tell(words, event)
    change = words.rng.choices(["swap", "verb", "agent", "deny"], weights=[3, 4, 2, 1])[0]
    if change == "swap":
        return first, tell(words, _swapped(event))
    if change == "verb":
        return first, tell(words, event, verb=event.other_verb)
    if change == "agent":
        pool = PEOPLE if event.agent in PEOPLE else COMPANIES
        return first, tell(words, replace(event, agent=words.pick_other(pool, event.agent)))
    return first, _denied(tell(words, event))


def _denied(text: str) -> str:
    return sentence(f"it is not true that {text[:-1]}")


def mrpc(words: Words, label: int) -> tuple[str, ...]:
    """Return two sentences; label 1 is equivalent."""
    return _pair(words, bool(label))


def _ask(words: Words, event: Event, slot: str) -> str:
    verb = words.rng.choice(event.verbs)
    passive = words.rng.random() < 0.5
    done = (
        f"{event.patient} was {participle(verb)} by {event.agent}"
        if passive
        else f"{event.agent} {verb} {event.patient}"
    )
    if slot == "time":
        ask = words.rng.choice(["When was it that", "On what date was it that", "Do you know when"])
        return f"{ask} {done} {event.place}?"
    if slot == "place":
        ask = words.rng.choice(
            ["Where was it that", "In which city was it that", "Do you know where"]
        )
        return f"{ask} {done} {event.time}?"
    where, when = (
        (event.place, event.time) if words.rng.random() < 0.5 else (event.time, event.place)
    )
    if slot == "agent":
        done = (
            f"was {event.patient} {participle(verb)} by" if passive else verb + f" {event.patient}"
        )
    else:
        done = (
            f"was {participle(verb)} by {event.agent}"
            if passive
            else f"was it that {event.agent} {verb}"
        )
    return f"Who {done} {where} {when}?"


def qqp(words: Words, label: int) -> tuple[str, ...]:
    """Return two questions; label 1 is duplicate: the same thing is asked of the same event."""
    event = draw_event(words)
    slots = ["time", "place", "agent", "patient"]
    slot = words.rng.choice(slots)
    first = _ask(words, event, slot)
    if label:
        return first, _differently(first, lambda: _ask(words, event, slot))
    if words.rng.random() < 0.6:
        return first, _ask(words, event, words.rng.choice([s for s in slots if s != slot]))
    other = _swapped(event) if words.rng.random() < 0.5 else _other_verb(words, event)
    return first, _ask(words, other, slot)


# What a difference takes off the score of 5; a paraphrase takes nothing.
_COSTS = {"time": 0.6, "place": 0.8, "patient": 1.2, "agent": 1.2, "verb": 1.6, "swap": 1.0}


def stsb(words: Words, label: int) -> tuple[tuple[str, ...], float]:
    """Return two sentences and their similarity, 0 to 5; `label` is how many details differ."""
    event = draw_event(words)
    changes = words.rng.sample(sorted(_COSTS), k=min(label, len(_COSTS)))
    other, score = event, 5.0
    pool = PEOPLE if event.agent in PEOPLE else COMPANIES
    for change in sorted(changes):
        score -= _COSTS[change]
        if change == "time":
            other = replace(
                other,
                time=(
                    f"in {words.rng.choice(MONTHS)}"
                    if event.time.startswith("on")
                    else f"on {words.rng.choice(DAYS)}"
                ),
            )
        elif change == "place":
            other = replace(other, place=f"in {words.pick_other(CITIES, event.place[3:])}")
        elif change == "verb":
            other = _other_verb(words, other)
        elif change == "swap":
            other = _swapped(other)
        else:
            taken = {event.agent, event.patient, other.agent, other.patient}
            name = next(n for n in iter(lambda: words.pick(pool), None) if n not in taken)
            as_agent = change == "agent"
            other = replace(other, agent=name) if as_agent else replace(other, patient=name)
    return (tell(words, event), tell(words, other)), round(max(0.0, score), 3)
