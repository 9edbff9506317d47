"""Writes a board's page: its leaderboards first, the whole tables, and the rest folded away."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from results.pages.html import document, escape, figure, links, section
from results.pages.leaderboard.table import SCRIPT, STYLE, leaderboard
from results.pages.sheet import Sheet
from results.pages.verdicts import claim_sheet
from results.papers.claims import Judged
from results.papers.references import bibtex, uncited
from results.stats.compare import Comparison
from results.tables.collect import Table

UNTESTED = "not testable here"


GUIDE = "../../docs/boards.md"  # from results/boards


@dataclass(frozen=True)
class Board:
    """What a board's page shows.

    `sheets` are the scores of each table and, where there are any, its differences; `pictures` maps
    a heading to a caption and SVG text; `files` are the addresses of runs' records,
    `beside` lists names and addresses of the same tables' other files. `has_guide` says that the
    docs lie where they do in a clone, so that a link to them leads there.
    """

    name: str
    about: str
    tables: Sequence[Table]
    judged: Sequence[Comparison]
    sheets: Sequence[tuple[Sheet, Sheet | None]]
    trials: Sequence[Sheet]
    claims: Sequence[Judged]
    pictures: Mapping[str, tuple[str, str]]
    files: Mapping[str, str]
    beside: Sequence[tuple[str, str]]
    has_guide: bool


def board_page(board: Board) -> str:
    """Return the page."""
    parts = [f'<p class="soft">{escape(board.about)} <a href="../index.html">All boards</a></p>\n']
    both = zip(board.tables, board.judged, board.sheets, strict=True)
    for number, (table, judged, (scores, gaps)) in enumerate(both, start=1):
        below = "" if gaps is None else section(gaps, f"gaps{number}", board.files)
        parts.append(leaderboard(table, judged, number, below))
        parts.append(section(scores, f"scores{number}", board.files))
    tested = [judged for judged in board.claims if judged.verdict != UNTESTED]
    if tested:
        parts.append(section(claim_sheet(tested), "claims", board.files))
    parts += [*_folded(board), _files(board), _citations(board)]
    return document(f"Board {board.name}", parts, STYLE, SCRIPT)


def _folded(board: Board) -> list[str]:
    """Return what is one click away: pictures, the search, sentences that nothing here can test."""
    pictures = [figure(heading, *picture) for heading, picture in board.pictures.items()]
    trials = [section(s, f"trials{i}", board.files) for i, s in enumerate(board.trials)]
    untested = [judged for judged in board.claims if judged.verdict == UNTESTED]
    sheet = replace(claim_sheet(untested), title="Not testable here", notes=())
    rest = [section(sheet, "untested", board.files)] if untested else []
    return [
        fold("Pictures: every seed, costs, losses", pictures),
        fold("The search for learning rates", trials),
        fold(f"{len(untested)} sentences of papers that these records cannot test", rest),
    ]


def fold(title: str, parts: Sequence[str]) -> str:
    """Return parts behind a line to click on; nothing where there are none."""
    if not parts:
        return ""
    return f'<details class="more"><summary>{escape(title)}</summary>\n{"".join(parts)}</details>\n'


def _citations(board: Board) -> str:
    """Return BibTeX of the methods and data sets."""
    text = bibtex(board.tables)
    if not text:
        return ""
    missing = uncited(board.tables)
    note = f"<p>No paper is known here for {escape(', '.join(missing))}.</p>\n" if missing else ""
    about = "<p>Authors are those that this project's sources name.</p>\n"
    block = f"<pre>{escape(text)}</pre>\n"
    return fold("BibTeX of these methods and data sets", [about, note, block])


def _files(board: Board) -> str:
    """Return where the tables are as files, and how a run comes into them."""
    name = escape(board.name)
    guide = f' <a href="../{GUIDE}">How boards work</a>' if board.has_guide else ""
    return (
        f"<h2>Files</h2>\n<p>The same as {links(board.beside)}.</p>\n"
        "<h2>Add a run</h2>\n"
        "<p>This does the runs of the board that have no record yet, and nothing else:</p>\n"
        f"<pre>python run.py board={name}</pre>\n"
        "<p>A row, a task or a seed more is a line in the board's file,"
        f" <code>configs/board/{name}.yaml</code>; <code>make tables</code> then writes this page"
        f" anew.{guide}</p>\n"
    )
