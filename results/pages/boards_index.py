"""Writes the page over all boards: each one's sentence, how far its runs are, its best rows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from urllib.parse import quote

from results.pages.headline import headline
from results.pages.html import document, escape
from results.pages.leaderboard.lines import lines
from results.pages.leaderboard.table import STYLE
from results.stats.compare import Comparison
from results.stats.pairing import lead
from results.tables.collect import Table

BEST = 3  # rows that stand for a board


@dataclass(frozen=True)
class Leaders:
    """What a table of a board comes to: its conditions, a sentence, its best rows in percent.

    `top` says in words how many rows the seeds do not set below another.
    """

    heading: str
    sentence: str
    column: str
    best: tuple[tuple[str, float], ...]
    top: str


@dataclass(frozen=True)
class Entry:
    """A board: how many of its runs have a record, and what each of its tables comes to."""

    name: str
    done: int
    planned: int
    tables: tuple[Leaders, ...]


def leaders(table: Table, judged: Comparison) -> Leaders:
    """Return what a table comes to."""
    column = lead(table)
    ranked = [
        (line.name, 100 * line.score) for line in lines(table, judged) if line.score is not None
    ]
    return Leaders(
        table.conditions.heading(),
        headline(table, judged),
        f"average of {', '.join(table.counted)}" if len(table.counted) > 1 else column,
        tuple(ranked[:BEST]),
        _top(column, ranked[0][0] if ranked else "", judged),
    )


def _top(column: str, first: str, judged: Comparison) -> str:
    """Return in words whether the first is set above all others, or how many are below none."""
    tied = judged.tied.get(column)
    if tied is None:
        return "nothing is set apart"
    if first in tied and not judged.beside_best[column]:
        untested = judged.untested.get(column)
        return f"the first is set above all others{' that have the seeds' if untested else ''}"
    return (
        "1 row is in the top group" if len(tied) == 1 else f"{len(tied)} rows are in the top group"
    )


def boards_page(entries: Sequence[Entry]) -> str:
    """Return the page, boards in the order given."""
    parts = [f'<article class="entry">\n{_entry(entry)}</article>\n' for entry in entries]
    return document("Boards", parts, STYLE)


def _entry(entry: Entry) -> str:
    share = entry.done / entry.planned if entry.planned else 0.0
    head = (
        f'<h2><a href="{quote(entry.name)}/index.html">{escape(entry.name)}</a></h2>\n'
        f'<p class="soft"><progress value="{share:.4f}"></progress>'
        f" {entry.done} of {entry.planned} runs have a record</p>\n"
    )
    return head + ("".join(map(_leaders, entry.tables)) or "<p>No table yet.</p>\n")


def _leaders(one: Leaders) -> str:
    rows = "".join(
        f'<li><span class="method">{escape(name)}</span> {score:.1f}</li>'
        for name, score in one.best
    )
    said = f"Best by {escape(one.column)} ({escape(one.top)}):"
    best = f'<p class="soft">{said}</p>\n<ol class="best">{rows}</ol>\n'
    return (
        f'<p class="say">{escape(one.sentence)}</p>\n<p class="soft">{escape(one.heading)}</p>\n'
        + (best if rows else "")
    )
