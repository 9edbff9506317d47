"""Print the tables of the records in a folder, or write them for a page or a paper.

python -m results [FOLDER] prints them; records that may not be compared are refused, unless --split
gives each kind a table of its own. python -m results power [FOLDER] says which difference so many
seeds can detect, claims [FOLDER] which sentences of papers the records support, search FOLDER what
a search for learning rates found; boards [FOLDER] writes every board's pages into results/boards,
and front [FOLDER] --board NAME prints one board as a small table for a front page.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from results.board import find_board
from results.errors import UserError
from results.pages.data import lines, to_csv, write_parquet
from results.pages.html import page
from results.pages.latex import latex
from results.pages.search import searched
from results.pages.text import NO_RECORDS, place, render, sheets, show, write
from results.pages.verdicts import to_text
from results.papers.claims import claims
from results.papers.published import papers
from results.record import Record, read_all
from results.stats.compare import judge
from results.stats.power import power
from results.tables.collect import tables
from results.tables.conditions import only, refuse_mixed

COMMANDS = ("power", "claims", "search", "boards", "front")
FORMATS = ("text", "md", "tex", "html", "csv", "parquet")


def main(arguments: list[str] | None = None) -> int:
    """Print or place the tables; return 0, or 2 after a user's mistake."""
    given = sys.argv[1:] if arguments is None else arguments
    command = given[0] if given[:1] and given[0] in COMMANDS else "tables"
    asked = _parser().parse_args(given if command == "tables" else given[1:])
    try:
        bad: list[str] = []
        found = read_all(asked.folder, bad)
        for sentence in bad:
            print(f"passed over: {sentence}", file=sys.stderr)
        found = only(found, asked.only) if asked.only else found
        if command == "boards":
            from results.pages.boards import write_boards

            for path in write_boards(found, asked.boards, asked.folder, asked.pdf):
                print(path)
        elif command == "tables":
            _tables(found, asked)
        elif command == "search":
            _search(found, asked)
        elif command == "front":
            _front(found, asked)
        else:
            _put(power(found) if command == "power" else to_text(claims(found)), asked)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m results",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("folder", nargs="?", default="results/runs", type=Path, help="records (%(default)s)")
    add("--format", choices=FORMATS, default="text", help="default: %(default)s")
    add("--split", action="store_true", help="a table for each set of comparable records")
    add("--brief", action="store_true", help="scores only, as text or Markdown")
    add("--pdf", action="store_true", help="with boards: pictures as PDF too")
    add("--only", action="append", metavar="KEY=VALUE", help="such as precision=bf16, task=rte")
    add("--into", type=Path, metavar="FILE", help="replace what stands between FILE's marks")
    add("--out", type=Path, metavar="FILE", help="write to FILE instead of printing")
    add("--board", metavar="NAME", help="with front: which board")
    add("--boards", type=Path, default="results/boards", help="boards' folder (%(default)s)")
    return parser


def _tables(found: list[Record], asked: argparse.Namespace) -> None:
    if not asked.split:
        refuse_mixed(found)
    made = tables(found)
    if asked.format in ("text", "md"):
        terminal = sys.stdout.isatty() and asked.into is None and asked.out is None
        if asked.format == "text" and terminal and made:
            show(sheets(made, papers(), not asked.brief))
        else:
            known = () if asked.brief else papers()
            _put(render(made, asked.format, known, not asked.brief), asked)
    elif asked.format == "parquet":
        if asked.out is None:
            raise UserError("--format parquet is no text: say where with --out FILE")
        write_parquet(list(lines(made, [judge(t, examples=True) for t in made])), asked.out)
    elif asked.format == "csv":
        _put(to_csv(list(lines(made, [judge(t, examples=True) for t in made]))), asked)
    elif not made:
        raise UserError(NO_RECORDS.strip())
    elif asked.format == "tex":
        _put(latex(sheets(made, papers())), asked)
    else:
        folder = asked.folder.resolve().as_uri()
        _put(page("tunebench", sheets(made, papers(), examples=True), {}, folder), asked)


def _search(found: list[Record], asked: argparse.Namespace) -> None:
    made = searched(found)
    if asked.format not in ("text", "md", "tex", "html"):
        raise UserError(f"--format {asked.format} is for tables; search has text, md, tex and html")
    if asked.format == "tex":
        _put(latex(made), asked)
    elif asked.format == "html":
        _put(page("tunebench", made, {}, asked.folder.resolve().as_uri()), asked)
    else:
        _put("\n".join(write(sheet, asked.format) for sheet in made), asked)


def _front(records: list[Record], asked: argparse.Namespace) -> None:
    from results.pages.boards import address
    from results.pages.front import BEGIN, END, board_front

    if asked.format not in ("text", "md"):
        raise UserError(f"--format {asked.format} is for tables; front is Markdown")
    board = find_board(asked.board, asked.boards)
    beside = (asked.into or asked.out or Path("page.md")).parent
    page = address(asked.boards / board.name / "table.md", beside)
    _put(board_front(board, records, page), asked, BEGIN, END)


def _put(text: str, asked: argparse.Namespace, *marks: str) -> None:
    if asked.into is not None:
        place(text, asked.into, *marks)
    elif asked.out is None:
        print(text, end="")
    else:
        try:
            asked.out.write_text(text, encoding="utf-8")
        except OSError as error:
            raise UserError(f"--out {asked.out}: {error.strerror}") from None


if __name__ == "__main__":
    sys.exit(main())
