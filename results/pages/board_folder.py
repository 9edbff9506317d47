"""Writes the pages of every board: Markdown, LaTeX, CSV, pictures and one HTML page."""

from __future__ import annotations

import os
import re
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

from results.errors import UserError
from results.pages.board_page import GUIDE, Board, board_page
from results.pages.boards_index import Entry, boards_page, leaders
from results.pages.data import lines, to_csv
from results.pages.latex import latex
from results.pages.pictures import pictures, svg, write_pdf
from results.pages.search import search_sheets
from results.pages.sheet import Sheet, difference_sheet, score_sheet
from results.pages.text import paragraph, write
from results.papers.claims import claims
from results.papers.published import papers
from results.places import program
from results.plain_file import is_file
from results.record import Record, read_each, read_each_for_boards
from results.run_list import RunList, absent, read_lists
from results.stats.compare import Comparison, judge
from results.tables.collect import Table, tables
from results.tables.conditions import named_apart, only

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_PICTURES = "seeds|cost|published|learning"
_FILES = re.compile(rf"(table\.(md|tex|csv)|index\.html|({_PICTURES})(\.[0-9]+)?\.(svg|pdf))")


def write_boards(
    folder: Path,
    runs: Path | None,
    bad: list[str],
    pdf: bool = False,
    choices: Sequence[str] = (),
) -> list[Path]:
    """Write every board's files below its folder, and a page over all; return their paths.

    `runs` is the folder of the records; where there is none, the own one, and shipped records of
    runs that it lacks. A board that names a folder of its own is made from that. A page links to
    each record's file. `choices` keep what --only does; that no board has any such record is a
    UserError. The trials of a board's search
    are looked for where search=true puts them, in searches/NAME beside `folder`. Pictures of
    earlier records that are not made any more are removed. Files that are no lists or no records
    are passed over and named in `bad`.
    """
    lists = read_lists(folder, bad)
    if not lists:
        raise UserError(
            f"{folder}: no board's list of runs; make one with {program()} board=NAME plan=true"
            f" list={folder}"
        )
    usual = read_each_for_boards(runs, bad)
    each = [
        usual if place is None else read_each_own(place, listed.name, bad)
        for listed in lists
        for place in [own_folder(listed, folder)]
    ]
    of_boards = _chosen([[record for _, record in one] for one in each], choices)
    written, entries = [], []
    for listed, read, there in zip(lists, each, of_boards, strict=True):
        trials = _trials(listed, folder, bad)
        listed_each = [one for one in read if one[1].run in listed.by_run]
        addresses = _addresses(listed_each, folder / listed.name)
        paths, entry = _write(listed, there, trials, folder, addresses, pdf)
        written += paths
        entries.append(entry)
    _put({"index.html": boards_page(entries)}, folder)
    return [*written, folder / "index.html"]


def own_folder(listed: RunList, boards: Path) -> Path | None:
    """Return the folder of records that a board names; None where it names none."""
    if listed.records is None:
        return None
    return Path(os.path.relpath(boards.resolve().parent.parent / listed.records))


def _chosen(of_boards: Sequence[list[Record]], choices: Sequence[str]) -> list[list[Record]]:
    """Return each board's records that --only keeps, of some boards none."""
    if not choices:
        return list(of_boards)
    kept, problem = [], None
    for records in of_boards:
        try:
            kept.append(only(records, choices))
        except UserError as error:
            kept.append([])
            problem = error
    if problem is not None and not any(kept):
        raise problem
    return kept


def read_each_own(folder: Path, board: str, bad: list[str] | None) -> list[tuple[Path, Record]]:
    """Read the records of a board that names their folder, each with its file.

    A folder that is none is a UserError.
    """
    if not folder.is_dir():
        raise UserError(
            f"board {board}: its records are of {folder}, and there is no such folder; put them"
            " there, or take the line records: out of the board"
        )
    return read_each(folder, bad)


def board_sheets(
    listed: RunList, records: Sequence[Record]
) -> tuple[list[Table], list[Comparison], list[tuple[Sheet, Sheet | None]]]:
    """Return a board's tables, what their seeds say, and each one's scores and differences."""
    of_board = tables(records, listed)
    comparisons = [judge(table, examples=True) for table in of_board]
    sheets = [
        (score_sheet(table, comparison, papers()), difference_sheet(table, comparison))
        for table, comparison in zip(of_board, comparisons, strict=True)
    ]
    return of_board, comparisons, sheets


def _trials(listed: RunList, boards: Path, bad: list[str] | None) -> list[Sheet]:
    """Return the sheets of a board's search."""
    searches = boards.parent / "searches" / listed.name
    if not searches.is_dir():
        return []
    each = read_each(searches, bad)
    return search_sheets([record for _, record in each], _addresses(each, boards / listed.name))


def _write(
    listed: RunList,
    records: Sequence[Record],
    trials: Sequence[Sheet],
    boards: Path,
    addresses: Mapping[str, str],
    pdf: bool,
) -> tuple[list[Path], Entry]:
    folder = boards / listed.name
    about = _about(listed, records)
    of_board, comparisons, by_table = board_sheets(listed, records)
    sheets = [sheet for pair in by_table for sheet in pair if sheet is not None]
    sheets += trials
    in_markdown = [write(sheet, "md") for sheet in sheets]
    files = {
        "table.md": "\n".join([f"# Board {listed.name}\n\n{paragraph(about)}\n", *in_markdown]),
        "table.tex": latex(sheets),
        "table.csv": to_csv(list(lines(of_board, comparisons))),
    }
    drawn, figures = _pictures(of_board)
    files |= {file: text for file, _, _, text in drawn}
    files["index.html"] = board_page(
        Board(
            name=listed.name,
            about=about,
            tables=of_board,
            judged=comparisons,
            sheets=by_table,
            trials=trials,
            claims=claims([r for r in records if r.run in listed.by_run], listed=listed),
            pictures={heading: (caption, text) for _, heading, caption, text in drawn},
            files=addresses,
            beside=[(n, n) for n in ("table.md", "table.tex", "table.csv")],
            has_guide=is_file(boards / GUIDE),
        )
    )
    _remove_old(folder, files)
    _put(files, folder)
    try:
        for name, figure in figures.items() if pdf else ():
            write_pdf(figure, folder / name)
    except OSError as error:
        raise UserError(f"{folder}: cannot be written ({error.strerror})") from None
    entry = Entry(
        listed.name,
        _done(listed, records),
        len(listed.runs),
        tuple(map(leaders, of_board, comparisons)),
    )
    return [folder / name for name in (*files, *(figures if pdf else ()))], entry


def _put(files: Mapping[str, str], folder: Path) -> None:
    try:
        for name, text in files.items():
            (folder / name).write_text(text, encoding="utf-8")
    except OSError as error:
        raise UserError(f"{folder}: cannot be written ({error.strerror})") from None


def _remove_old(folder: Path, files: Collection[str]) -> None:
    """Remove pictures and tables of earlier records that are not made any more."""
    try:
        for old in folder.iterdir():
            if _FILES.fullmatch(old.name) and old.name not in files:
                old.unlink()
    except OSError as error:
        raise UserError(f"{folder}: cannot be written ({error.strerror})") from None


def _done(listed: RunList, records: Sequence[Record]) -> int:
    there = {r.run for r in records}
    return sum(one.run in there for one in listed.runs)


def _about(listed: RunList, records: Sequence[Record]) -> str:
    missing = absent(listed, sorted(r.run for r in records))
    about = f"{_done(listed, records)} of {len(listed.runs)} runs have a record."
    return about + (f" No run yet: {', '.join(missing)}." if missing else "")


def _pictures(
    of_board: Sequence[Table],
) -> tuple[list[tuple[str, str, str, str]], dict[str, Figure]]:
    """Return each picture's file, heading, caption and SVG, and the figures by name of PDF."""
    drawn, figures = [], {}
    for number, table in enumerate(of_board, start=1):
        for name, (caption, figure) in pictures(table, papers()).items():
            stem = name if len(of_board) == 1 else f"{name}.{number}"
            figures[f"{stem}.pdf"] = figure
            where = "" if len(of_board) == 1 else f" ({table.conditions.heading()})"
            drawn.append((f"{stem}.svg", f"{name.capitalize()}{where}", caption, svg(figure)))
    return drawn, figures


def _addresses(each: Sequence[tuple[Path, Record]], folder: Path) -> dict[str, str]:
    """Return the address of each record as seen from a page in `folder`, by `named_apart`."""
    below = {place: address(place, folder) for place in {path.parent for path, _ in each}}
    return {named_apart(one): f"{below[path.parent]}/{quote(path.name)}" for path, one in each}


def address(path: Path, folder: Path) -> str:
    """Return a path's percent-encoded address as seen from a page in `folder`."""
    return quote(Path(os.path.relpath(path.resolve(), folder.resolve())).as_posix())
