"""Print the tables of the records in a folder, or write them for a page or a paper.

python -m results [FOLDER] prints them; records that may not be compared are refused, unless --split
gives each kind a table of its own. python -m results compare ROW ROW [FOLDER] says how far two rows
are apart and how sure that is, devices FOLDER FOLDER whether runs of the same names agree on two
devices, power [FOLDER] which difference so many seeds can detect, claims [FOLDER] which sentences
of papers the records support, calibration [FOLDER] how far probabilities can be trusted and what
ensembles of seeds score, search FOLDER what a search for learning rates found; report RUN [FOLDER]
writes one run's page; boards [FOLDER] writes every board's pages into results/boards, and front
[FOLDER] --board NAME prints one board as a small table for a front page.
"""

from __future__ import annotations

import argparse
import difflib
import os
import sys
from collections.abc import Callable, Sequence
from functools import partial
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

from results.errors import UserError, nearest
from results.pages.calibration import NO_LOGITS, calibration_sheets
from results.pages.data import lines, to_csv, write_parquet
from results.pages.devices import devices
from results.pages.html import page
from results.pages.latex import latex
from results.pages.search import searched
from results.pages.sheet import listed
from results.pages.text import NO_RECORDS, place, render, sheets, show, write
from results.pages.two_rows import two_rows
from results.pages.verdicts import to_text
from results.papers.claims import claims
from results.papers.published import papers
from results.places import OWN, expanded, folder_of, read_where, shipped
from results.printable import print_anything, printable
from results.record import Record, read_all, read_each, read_each_for_boards
from results.run_list import RunList, find_list
from results.stats.compare import held, judge
from results.stats.power import power
from results.tables.collect import Table, tables
from results.tables.conditions import named_apart, only, refuse_mixed

COMMANDS = (
    *("compare", "devices", "power", "claims", "calibration", "search", "report"),
    *("boards", "front"),
)
FORMATS = ("text", "md", "tex", "html", "csv", "parquet")


# What each command reads, besides the folder and --only. What it does not read is refused.
_READ = {
    "tables": ("format", "split", "brief", "into", "out", "baseline"),
    "compare": ("format", "into", "out", "task", "board", "boards"),
    "devices": ("format", "into", "out"),
    "power": ("format", "into", "out"),
    "claims": ("format", "into", "out"),
    "calibration": ("format", "split", "into", "out"),
    "search": ("format", "into", "out"),
    "report": ("out", "data"),
    "boards": ("pdf", "boards"),
    "front": ("format", "into", "out", "board", "boards"),
}


_FORMS = {
    "compare": ("text", "md"),
    "devices": ("text", "md"),
    "power": ("text",),
    "claims": ("text",),
    "calibration": ("text", "md"),
    "search": ("text", "md", "tex", "html"),
    "front": ("text", "md"),
}


def main(arguments: list[str] | None = None) -> int:
    """Print or place the tables; return 0, or 2 after a user's mistake."""
    print_anything()
    given = sys.argv[1:] if arguments is None else arguments
    try:
        if (other := _of_another_package(given)) is not None:
            return other(given[1:])
        _do(given)
        sys.stdout.flush()
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except BrokenPipeError:  # what reads the output wants no more of it
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    return 0


def _of_another_package(given: Sequence[str]) -> Callable[[Sequence[str]], int] | None:
    """Return what does a command that is not one of ours, where a package brings it."""
    if not given or given[0] in COMMANDS or not given[0].isidentifier():
        return None
    points = [point for point in entry_points(group="tunebench.results") if point.name == given[0]]
    act: Callable[[Sequence[str]], int] | None = points[0].load() if points else None
    return act


def _do(given: Sequence[str]) -> None:
    command = given[0] if given[:1] and given[0] in COMMANDS else "tables"
    _refuse_mistyped(given)
    parser = _parser(several=command == "devices")
    begin = 1 + {"compare": 2, "report": 1}.get(command, 0)
    rows = [a for a in given[1:begin] if not a.startswith("-")]
    options = parser.parse_args(given if command == "tables" else given[1 + len(rows) :])
    if command == "compare" and len(rows) < 2:
        raise UserError("compare needs two rows: python -m results compare lora full [FOLDER]")
    _refuse_unread(command, options, parser)
    if command == "devices":
        _devices(options)
        return
    if command == "boards":
        _boards(options)
        return
    if command == "report":
        _report(rows, options)
        return
    board = find_list(options.board, options.boards) if _is_of_board(command, options) else None
    each = _each(options, board)
    records = [record for _, record in each]
    records = only(records, options.only) if options.only else records
    linked = each if options.format == "html" else []
    files = {named_apart(record): path.resolve().as_uri() for path, record in linked}
    if command == "tables":
        _tables(records, files, options)
    elif command == "search":
        _search(records, files, options)
    elif command == "calibration":
        _calibration(records, options)
    elif board is not None and command == "front":
        _front(records, board, options)
    elif command == "compare":
        _compare(records, board, rows, options)
    else:
        _put(power(records) if command == "power" else to_text(claims(records)), options)


def _is_of_board(command: str, options: argparse.Namespace) -> bool:
    return command == "front" or (command == "compare" and options.board is not None)


def _each(options: argparse.Namespace, board: RunList | None) -> list[tuple[Path, Record]]:
    """Read the folder that was typed, else the board's own, else those of all runs.

    Each record comes with its file.
    """
    from results.pages.board_folder import own_folder, read_each_own

    own = own_folder(board, options.boards) if board is not None else None
    if options.folder is None and board is not None and own is not None:
        return _named(partial(read_each_own, own, board.name))
    if board is not None:
        return _named(partial(read_each_for_boards, options.folder))
    return _named(partial(read_each, read_where(options.folder)))


def _named(act: Callable[[list[str]], list[Any]]) -> list[Any]:
    """Return what `act` does, and print what it passed over, a sentence each."""
    bad: list[str] = []
    try:
        return act(bad)
    finally:
        for sentence in bad:
            print(f"passed over: {printable(sentence)}", file=sys.stderr)


def _place(path: str) -> Path:
    return Path(expanded(path))  # a shell leaves the ~ of --out=~/page.html


def _refuse_mistyped(given: Sequence[str]) -> None:
    """Raise a UserError where what stands first is like a command, and neither one nor a folder."""
    word = given[0] if given else ""
    if word.isidentifier() and word not in COMMANDS and not Path(word).exists():
        for meant in difflib.get_close_matches(word, COMMANDS, n=1, cutoff=0.8):
            raise UserError(f"{word} is no command and no folder of records; did you mean {meant}?")


def _parser(several: bool) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m results",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    boards = Path("results/boards")
    if several:
        add("folder", nargs="*", type=_place, help="two folders of records")
    else:
        add("folder", nargs="?", type=_place, help=f"records ({OWN}, else {shipped()})")
    add("--format", choices=FORMATS, default="text", help="default: %(default)s")
    add("--split", action="store_true", help="a table for each set of comparable records")
    add("--brief", action="store_true", help="scores only, as text or Markdown")
    add("--pdf", action="store_true", help="with boards: pictures as PDF too")
    add("--only", action="append", metavar="KEY=VALUE", help="as precision=bf16, task=rte,mrpc")
    add("--into", type=_place, metavar="FILE", help="replace what stands between FILE's marks")
    add("--out", type=_place, metavar="FILE", help="write to FILE instead of printing")
    add("--board", metavar="NAME", help="with front and compare: which board")
    add("--baseline", metavar="ROW", help="the row that differences are to (full fine-tuning)")
    add("--task", metavar="TASK", help="with compare: the column asked about (the average)")
    add("--data", type=_place, metavar="FOLDER", help="with report: the task's files, for texts")
    add("--boards", type=_place, default=boards, help="boards' folder (%(default)s)")
    return parser


def _refuse_unread(
    command: str, options: argparse.Namespace, parser: argparse.ArgumentParser
) -> None:
    """Raise a UserError where an option was given that the command would pass over."""
    common = () if command == "report" else ("only",)
    reads = (*_READ[command], "folder", *common)
    for name, value in vars(options).items():
        if name not in reads and value != parser.get_default(name):
            known = ", ".join(f"--{read}" for read in (*_READ[command], *common))
            raise UserError(f"--{name} does nothing with {command}, which reads {known}")
    forms = _FORMS.get(command, FORMATS)
    if "format" in reads and options.format not in forms:
        raise UserError(f"--format {options.format} is for tables; {command} has {listed(forms)}")
    if options.brief and options.format not in ("text", "md"):
        raise UserError(f"--brief is for text and md: leave it out with --format {options.format}")
    if options.into is not None and options.out is not None:
        raise UserError("--into and --out are two places: name one of them")


def _boards(options: argparse.Namespace) -> None:
    from results.pages.board_folder import write_boards

    places, chosen = (options.boards, options.folder), options.only or ()
    for path in _named(lambda bad: write_boards(*places, bad, options.pdf, chosen)):
        print(printable(path))


def _report(named: list[str], options: argparse.Namespace) -> None:
    from results.pages.report.page import write_report

    named, folder = (named, options.folder) if named else ([options.folder], None)  # options first
    if named[0] is None:
        raise UserError("report needs a run: python -m results report RUN, or its RUN.json")
    place = write_report(str(named[0]), folder_of(str(named[0]), folder), options.out, options.data)
    print(printable(place))


def _tables(records: list[Record], files: dict[str, str], options: argparse.Namespace) -> None:
    if not options.split:
        refuse_mixed(records)
    compared = tables(records)
    beside = _baseline(compared, options.baseline)
    if options.format in ("text", "md"):
        terminal = sys.stdout.isatty() and options.into is None and options.out is None
        if options.format == "text" and terminal and compared:
            show(sheets(compared, papers(), not options.brief, beside=beside))
        else:
            known = () if options.brief else papers()
            _put(render(compared, options.format, known, not options.brief, beside), options)
    elif options.format == "parquet":
        if options.out is None:
            raise UserError("--format parquet is no text: say where with --out FILE")
        try:
            write_parquet(_cells(compared, beside), options.out)
        except OSError as error:
            reason = error.errno and os.strerror(error.errno)  # its own names a line of C++
            raise UserError(f"--out {options.out}: {reason or error}") from None
    elif options.format == "csv":
        _put(to_csv(_cells(compared, beside)), options)
    elif not compared:
        raise UserError(NO_RECORDS.strip())
    elif options.format == "tex":
        _put(latex(sheets(compared, papers(), beside=beside)), options)
    else:
        every = sheets(compared, papers(), examples=True, beside=beside)
        _put(page("tunebench", every, files), options)


def _baseline(compared: list[Table], name: str | None) -> str | None:
    """Return the row that differences are to; a UserError where no table has it."""
    names = sorted({row.method for table in compared for row in table.rows})
    if name is not None and compared and name not in names:
        raise UserError(f"--baseline {name}: no row is called so{nearest(name, names)}")
    return name


def _cells(compared: list[Table], beside: str | None) -> list[dict[str, Any]]:
    judged = [judge(table, examples=True, beside=held(table, beside)) for table in compared]
    return list(lines(compared, judged))


def _compare(
    records: list[Record], board: RunList | None, rows: list[str], options: argparse.Namespace
) -> None:
    known = tables(records, board)
    if not known:
        raise UserError(NO_RECORDS.strip())
    _put(two_rows(known, rows[0], rows[1], options.task, options.format), options)


def _devices(options: argparse.Namespace) -> None:
    if len(options.folder) != 2:
        raise UserError(
            "devices needs two folders of records: python -m results devices results/runs"
            " results/h200"
        )
    sides = []
    for folder in options.folder:
        records = _named(partial(read_all, folder))
        sides.append((folder, only(records, options.only) if options.only else records))
    _put(devices(sides[0], sides[1], options.format), options)


def _search(records: list[Record], files: dict[str, str], options: argparse.Namespace) -> None:
    trials, form = searched(records), options.format
    if form == "tex":
        _put(latex(trials), options)
    elif form == "html":
        _put(page("tunebench", trials, files), options)
    else:
        _put("\n".join(write(sheet, form) for sheet in trials), options)


def _calibration(records: list[Record], options: argparse.Namespace) -> None:
    if not options.split:
        refuse_mixed(records)
    laid_out = _named(lambda bad: calibration_sheets(records, read_where(options.folder), bad))
    text = "\n".join(write(sheet, options.format) for sheet in laid_out)
    _put(text or NO_LOGITS, options)


def _front(records: list[Record], board: RunList, options: argparse.Namespace) -> None:
    from results.pages.board_folder import address
    from results.pages.front import BEGIN, END, board_front

    beside = (options.into or options.out or Path("page.md")).parent
    page = address(options.boards / board.name / "table.md", beside)
    _put(board_front(board, records, page), options, BEGIN, END)


def _put(text: str, options: argparse.Namespace, *marks: str) -> None:
    if options.into is not None:
        place(text, options.into, *marks)
    elif options.out is None:
        print(text, end="")
    else:
        try:
            options.out.write_text(text, encoding="utf-8")
        except OSError as error:
            raise UserError(f"--out {options.out}: {error.strerror}") from None


if __name__ == "__main__":
    sys.exit(main())
