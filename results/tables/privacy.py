"""What a private run promises, as its row is named and its table notes."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from results.record import Record

USUAL = 8.0  # ε where neither it nor noise was asked for


def promised(record: Record) -> str:
    """Return ε, its accountant, δ and the sampling, to follow a row's name; empty if not private.

    Rows of another ε have another name, also where it follows from equal noise.
    """
    options = _options(record)
    if options is None:
        return ""
    report = record.method_reports.get("dp", {})
    noise, target = options.get("noise"), options.get("epsilon")
    if noise is None:
        spent = f"ε={_number(USUAL if target is None else target)}"
    elif noise == 0:
        spent = "ε=∞"
    elif report.get("planned_epsilon") is not None:
        spent = f"ε={_number(report['planned_epsilon'], '.4g')}"
    else:  # of a run that failed before it could say
        spent = f"ε of noise {_number(noise)}"
    sampling = options.get("sampling", "poisson")
    drawn = "Poisson" if sampling == "poisson" else f"{sampling}: approximate accounting"
    accountant = str(options.get("accountant", "prv")).upper()
    delta = options.get("delta")
    shown = "1/2N" if delta is None else _number(delta)
    return f", {spent} ({accountant}, δ={shown}, {drawn})"


def _number(value: Any, form: str = "g") -> str:
    """Return a number as it is shown, and what a damaged record has in its place."""
    return f"{value:{form}}" if isinstance(value, int | float) else str(value)


def _options(record: Record) -> dict[str, Any] | None:
    return next((m for m in record.config["method"] if m["name"] == "dp"), None)


def privacy_notes(records: Iterable[Record]) -> list[str]:
    """Return what ε does not count, where a table has private rows."""
    if not any(_options(record) is not None for record in records):
        return []
    return [
        "ε is of one run's weights: dev counts as public, and searches for learning rates and the"
        " records themselves are not charged."
    ]
