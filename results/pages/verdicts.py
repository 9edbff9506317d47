"""Lays out what was decided of papers' sentences."""

from __future__ import annotations

from collections.abc import Sequence

from results.pages.sheet import Entry, Sheet
from results.papers.claims import Judged
from results.printable import printable


def claim_sheet(judgements: Sequence[Judged]) -> Sheet:
    """Return claims and verdicts as a sheet."""
    body = tuple(
        (
            Entry(j.claim.claim),
            Entry(j.verdict, bold=j.verdict in ("supported", "contradicted")),
            Entry(f"{j.numbers}; {_noted(j)}" if j.claim.note else j.numbers),
            Entry(j.heading or "–"),
            Entry(j.claim.source),
        )
        for j in judgements
    )
    return Sheet(
        "Sentences of papers",
        ("sentence", "verdict", "numbers", "table", "source"),
        body,
        (
            "Supported or contradicted: the interval lies on one side of what the sentence needs."
            " The intervals of all sentences hold together, 95 times in 100, by max-T over them:"
            " of a difference in scores the mean ± so many standard errors, of a ratio of costs the"
            " medians that a sign test does not reject. A verdict holds for the model, data and"
            " budget of its table.",
        ),
        prose=True,
    )


def to_text(judgements: Sequence[Judged]) -> str:
    """Return claims, verdicts and numbers as text."""
    parts = []
    for judged in judgements:
        lines = [f"{judged.verdict.upper()}: {judged.claim.claim}"]
        lines += [f"  {judged.numbers}"]
        lines += [f"  {judged.heading}"] if judged.heading else []
        lines += [f"  {_noted(judged)}"] if judged.claim.note else []
        parts.append("\n".join(map(printable, [*lines, f"  {judged.claim.source}"])))
    return "\n\n".join(parts) + "\n"


def _noted(judged: Judged) -> str:
    return f"the paper's own numbers: {judged.claim.note}"
