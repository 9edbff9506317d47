"""Embedded qnli: a sentence with or without the detail that the question asks for."""

from __future__ import annotations

from runners.data.embedded.lexicon import (
    CITIES,
    COMPANIES,
    CORPORATE_EVENTS,
    DAYS,
    MONTHS,
    PEOPLE,
    PERSONAL_EVENTS,
    REASONS,
    Words,
    participle,
    sentence,
)


def qnli(words: Words, label: int) -> tuple[str, ...]:
    """Return question and sentence; label 0 (entailment) when the sentence answers the question."""
    people = words.rng.random() < 0.6
    agent, patient = words.two(PEOPLE if people else COMPANIES)
    verb = words.rng.choice(words.pick(PERSONAL_EVENTS if people else CORPORATE_EVENTS)[0])
    helper = next(
        name for name in iter(lambda: words.pick(PEOPLE), None) if name not in (agent, patient)
    )
    details = {
        "when": words.rng.choice(
            [
                f"on {words.rng.choice(DAYS)}",
                f"in {words.rng.choice(MONTHS)}",
                f"in {words.rng.randint(1850, 2020)}",
            ]
        ),
        "where": f"in {words.pick(CITIES)}",
        "why": f"because {words.pick(REASONS)}",
        "how": f"with the help of {helper}",
    }
    sought = words.rng.choice([*details, *details, "who", "whom"])
    kept = words.rng.sample(sorted(details), k=2)
    if sought in details:
        others = [d for d in details if d != sought]
        kept = [sought, words.rng.choice(others)] if label == 0 else words.rng.sample(others, k=2)
    question = {
        "when": f"When was {patient} {participle(verb)} by {agent}?",
        "where": f"In which city was {patient} {participle(verb)} by {agent}?",
        "why": f"For what reason was {patient} {participle(verb)} by {agent}?",
        "how": f"Whose help did {agent} have when {patient} was {participle(verb)}?",
        "who": f"Who {verb} {patient}?",
        "whom": f"Who was {participle(verb)} by {agent}?",
    }[sought]
    if (
        sought in ("who", "whom") and label == 1
    ):  # the same words with the roles turned do not answer it
        agent, patient = patient, agent
    core = (
        f"{agent} {verb} {patient}"
        if words.rng.random() < 0.5
        else f"{patient} was {participle(verb)} by {agent}"
    )
    words.rng.shuffle(kept)
    tail = " ".join(details[k] for k in kept)
    if "why" in kept:  # the clause with a verb of its own comes last
        tail = " ".join(details[k] for k in sorted(kept, key=lambda k: k == "why"))
    return question, sentence(f"{core} {tail}")
