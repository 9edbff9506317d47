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
            "Supported or contradicted: the 95 % interval lies on one side of what the sentence"
            " needs. Of a difference in scores it is the BCa interval over seeds, of a ratio of"
            " costs the sign test's interval of the median over pairs of runs. A verdict holds for"
            " the model, data and budget of its table.",
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
