"""Writes the pages of every board: Markdown, LaTeX, CSV, pictures and one HTML page."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import quote

from results.errors import UserError
from results.pages.data import lines, to_csv
from results.pages.html import page
from results.pages.latex import latex
from results.pages.pictures import pictures, svg, write_pdf
from results.pages.search import search_sheets
from results.pages.sheet import Sheet, difference_sheet, score_sheet
from results.pages.text import paragraph, write
from results.pages.verdicts import claim_sheet
from results.papers.claims import claims
from results.papers.published import papers
from results.record import Record, read_all
from results.run_list import RunList, absent, read_lists
from results.stats.compare import Comparison, judge
from results.tables.collect import Table, tables
from results.tables.conditions import only

_FILES = re.compile(r"^(table\.(md|tex|csv)|index\.html|[a-z0-9.-]+\.(svg|pdf))$")


def write_boards(
    records: Sequence[Record],
    folder: Path,
    runs: Path,
    bad: list[str],
    pdf: bool = False,
    choices: Sequence[str] = (),
) -> list[Path]:
    """Write every board's files below its folder; return their paths.

    `runs` is the folder of the records, to which the page links. A board that names a folder of its
    own is made from that, of which `choices` keep what --only does. The trials of a board's search
    are looked for where search=true puts them, in searches/NAME beside `folder`. Pictures of
    earlier records that are not made any more are removed. Files that are no lists or no records
    are passed over and named in `bad`.
    """
    written = []
    lists = read_lists(folder, bad)
    if not lists:
        raise UserError(
            f"{folder}: no board's list of runs; make one with python run.py board=NAME plan=true"
            f" list={folder}"
        )
    for listed in lists:
        place = own_folder(listed, folder)
        there = records if place is None else own_records(place, listed.name, choices, bad)
        trials = _trials(listed, folder, bad)
        written += _write(listed, there, trials, folder, place or runs, pdf)
    return written


def own_folder(listed: RunList, boards: Path) -> Path | None:
    """Return the folder of records that a board names; None where it names none."""
    if listed.records is None:
        return None
    return Path(os.path.relpath(boards.resolve().parent.parent / listed.records))


def own_records(
    folder: Path, board: str, choices: Sequence[str], bad: list[str] | None
) -> list[Record]:
    """Read the records of a board that names their folder; a folder that is none is a UserError."""
    if not folder.is_dir():
        raise UserError(
            f"board {board}: its records are of {folder}, and there is no such folder; put them"
            " there, or take the line records: out of the board"
        )
    records = read_all(folder, bad)
    return only(records, choices) if choices else records


def board_sheets(
    listed: RunList, records: Sequence[Record]
) -> tuple[list[Table], list[Comparison], list[Sheet]]:
    """Return a board's tables, what their seeds say, and the sheets of both."""
    of_board = tables(records, listed)
    comparisons = [judge(table, examples=True) for table in of_board]
    sheets: list[Sheet] = []
    for table, comparison in zip(of_board, comparisons, strict=True):
        sheets.append(score_sheet(table, comparison, papers()))
        below = difference_sheet(table, comparison)
        sheets += [below] if below else []
    return of_board, comparisons, sheets


def _trials(listed: RunList, boards: Path, bad: list[str] | None) -> list[Sheet]:
    """Return the sheets of a board's search."""
    searches = boards.parent / "searches" / listed.name
    if not searches.is_dir():
        return []
    return search_sheets(read_all(searches, bad), address(searches, boards / listed.name))


def _write(
    listed: RunList,
    records: Sequence[Record],
    trials: Sequence[Sheet],
    boards: Path,
    runs: Path,
    pdf: bool,
) -> list[Path]:
    folder = boards / listed.name
    there = {r.run for r in records}
    done = sum(one.run in there for one in listed.runs)
    title = f"Board {listed.name}"
    about = f"{done} of {len(listed.runs)} runs have a record."
    missing = absent(listed, sorted(there))
    about += f" No run yet: {', '.join(missing)}." if missing else ""
    of_board, comparisons, sheets = board_sheets(listed, records)
    sheets += trials
    in_markdown = [write(sheet, "md") for sheet in sheets]
    decided = claims([r for r in records if r.run in listed.by_run])
    files = {
        "table.md": "\n".join([f"# {title}\n\n{paragraph(about)}\n", *in_markdown]),
        "table.tex": latex(sheets),
        "table.csv": to_csv(list(lines(of_board, comparisons))),
    }
    shown: dict[str, tuple[str, str]] = {}
    figures = {}
    for number, table in enumerate(of_board, start=1):
        for name, (caption, figure) in pictures(table, papers()).items():
            file = f"{name}.svg" if len(of_board) == 1 else f"{name}.{number}.svg"
            files[file] = svg(figure)
            figures[file.replace(".svg", ".pdf")] = figure
            where = "" if len(of_board) == 1 else f" ({table.conditions.heading()})"
            shown[f"{name.capitalize()}{where}"] = (caption, files[file])
    every = [*sheets, claim_sheet(decided)]
    beside = [(n, n) for n in ("table.md", "table.tex", "table.csv")]
    files["index.html"] = page(title, every, shown, address(runs, folder), beside, about)
    try:
        for old in folder.iterdir():
            if _FILES.match(old.name) and old.name not in files:
                old.unlink()
        for name, text in files.items():
            (folder / name).write_text(text, encoding="utf-8")
        for name, figure in figures.items() if pdf else ():
            write_pdf(figure, folder / name)
    except OSError as error:
        raise UserError(f"{folder}: cannot be written ({error.strerror})") from None
    return [folder / name for name in (*files, *(figures if pdf else ()))]


def address(path: Path, folder: Path) -> str:
    """Return a path's percent-encoded address as seen from a page in `folder`."""
    return quote(Path(os.path.relpath(path.resolve(), folder.resolve())).as_posix())
