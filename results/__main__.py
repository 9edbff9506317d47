"""Print the tables of the records in a folder, or put them into a file.

python -m results power [FOLDER] says which difference so many seeds can detect.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from results.collect import tables
from results.errors import UserError
from results.power import power
from results.record import read_all
from results.table import render

BEGIN, END = "<!-- tables: begin -->", "<!-- tables: end -->"


def main(arguments: list[str] | None = None) -> int:
    """Print or place the tables; return 0, or 2 after a user's mistake."""
    parser = argparse.ArgumentParser(prog="python -m results", description=__doc__)
    parser.add_argument(
        "folder",
        nargs="?",
        default="results/runs",
        type=Path,
        help="records (default: %(default)s)",
    )
    parser.add_argument(
        "--format", choices=["text", "md"], default="text", help="default: %(default)s"
    )
    parser.add_argument(
        "--into",
        type=Path,
        metavar="FILE",
        help="replace what stands between the tables marks of FILE",
    )
    given = sys.argv[1:] if arguments is None else arguments
    asked = parser.parse_args(given[1:] if given[:1] == ["power"] else given)
    try:
        bad: list[str] = []
        found = read_all(asked.folder, bad)
        for sentence in bad:
            print(f"passed over: {sentence}", file=sys.stderr)
        text = power(found) if given[:1] == ["power"] else render(tables(found), asked.format)
        if asked.into is None:
            print(text, end="")
        else:
            place(text, asked.into)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


def place(text: str, path: Path, begin: str = BEGIN, end: str = END) -> None:
    """Replace what stands between the two marks of a file."""
    try:
        old = path.read_text(encoding="utf-8")
    except OSError as error:
        raise UserError(f"--into {path}: {error.strerror}") from None
    if old.count(begin) != 1 or old.count(end) != 1 or old.index(begin) > old.index(end):
        raise UserError(f"--into {path}: needs one line '{begin}' and after it one line '{end}'")
    head, rest = old.split(begin)
    tail = rest.split(end)[1]
    path.write_text(f"{head}{begin}\n{text}{end}{tail}", encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main())
