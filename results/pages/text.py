"""Renders sheets as aligned text or Markdown, or a terminal's table."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from results.errors import UserError
from results.pages.sheet import Entry, Sheet, difference_sheet, score_sheet
from results.papers.published import Paper
from results.places import program
from results.printable import printable
from results.record import Record
from results.stats.compare import held, judge
from results.tables.collect import Table, tables
from results.whole import whole

Format = Literal["text", "md"]


BEGIN, END = "<!-- tables: begin -->", "<!-- tables: end -->"


NO_RECORDS = f"no records yet: run {program()} method=bitfit task=sst2\n"


def one_run(record: Record) -> str:
    """Return the table of a single record, and each metric of each split in full."""
    table, lines = render(tables([record]), "text", differences=False).rstrip(), []
    for split, scores in record.scores.items():
        undefined = record.undefined.get(split, [])
        shown = [
            f"{k} {100 * v:.2f}" + (" (undefined, set to 0)" if k in undefined else "")
            for k, v in scores.items()
        ]
        lines.append(f"{split}: {', '.join(shown)}")
    for split, measured in record.measured.items():
        times = {when: measured.get(when, {}) for when in ("before", "after")}
        for name in sorted(times["after"].keys() - record.scores.get(split, {}).keys()):
            shown = [f"{values[name]:.2f} {w}" for w, values in times.items() if name in values]
            lines.append(f"{split}: {name} {', '.join(shown)}")
    for split in record.predictions:
        if split not in record.scores:
            lines.append(f"{split}: no gold labels; predictions are in the record")
    if record.status != "finished":
        error = record.error or {}
        lines.append(f"{record.status.upper()}: {error.get('message', 'no reason recorded')}")
    return "\n".join([table, *map(printable, lines)])


def sheets(
    shown: Sequence[Table],
    papers: Sequence[Paper] = (),
    differences: bool = True,
    examples: bool = False,
    beside: str | None = None,
) -> list[Sheet]:
    """Return each table's scores and, where there are any, its differences.

    They are to the row `beside` where a table has it, else to full fine-tuning.
    """
    laid_out = []
    for table in shown:
        comparison = judge(table, examples, beside=held(table, beside))
        laid_out.append(score_sheet(table, comparison, papers))
        below = difference_sheet(table, comparison) if differences else None
        laid_out += [below] if below else []
    return laid_out


def render(
    shown: Sequence[Table],
    form: Format,
    papers: Sequence[Paper] = (),
    differences: bool = True,
    beside: str | None = None,
) -> str:
    """Return all tables, each under its heading; without records, a sentence that says so."""
    if not shown:
        return NO_RECORDS
    return "\n".join(
        write(sheet, form) for sheet in sheets(shown, papers, differences, beside=beside)
    )


def write(sheet: Sheet, form: Format) -> str:
    """Return one sheet as aligned text or Markdown."""
    lines = markdown(sheet) if form == "md" else _aligned(sheet)
    title = f"**{escaped(sheet.title)}**" if form == "md" else printable(sheet.title)
    notes = [paragraph(note) if form == "md" else printable(note) for note in sheet.notes]
    separator = "<br>\n" if form == "md" else "\n"
    if sheet.lead:
        title += "\n\n" + (paragraph(sheet.lead) if form == "md" else printable(sheet.lead))
    return f"{title}\n\n" + "\n".join(lines) + "\n\n" + separator.join(notes) + "\n"


def _aligned(sheet: Sheet) -> list[str]:
    heads = [printable(head) for head in sheet.heads]
    body = [[printable(e.text) + ("*" if e.bold else "") for e in line] for line in sheet.body]
    widths = [max(len(line[i]) for line in (heads, *body)) for i in range(len(heads))]

    def line(cells: Sequence[str]) -> str:
        first, *rest = (
            c.ljust(w) if i == 0 else c.rjust(w)
            for i, (c, w) in enumerate(zip(cells, widths, strict=True))
        )
        return "  ".join([first, *rest]).rstrip()

    lines = [line(heads), line(["-" * w for w in widths]), *(line(cells) for cells in body)]
    return (
        [*lines, "* stands for bold"] if any(e.bold for row in sheet.body for e in row) else lines
    )


def markdown(sheet: Sheet) -> list[str]:
    """Return the lines of a sheet's table, without its title and notes."""

    def line(cells: Sequence[Entry]) -> str:
        shown = [f"**{escaped(c.text)}**" if c.bold else escaped(c.text) for c in cells]
        return "| " + " | ".join(shown) + " |"

    heads = line([Entry(head) for head in sheet.heads])
    return [heads, "|---|" + "---:|" * (len(sheet.heads) - 1), *(line(row) for row in sheet.body)]


def escaped(text: str) -> str:
    """Escape what Markdown or a browser behind it would take for markup, inside a line."""
    text = re.sub(r"[\\|*`\[~$]|(?<!\w)_|_(?!\w)", r"\\\g<0>", printable(text))
    return text.replace("&", "&amp;").replace("<", "&lt;")


def paragraph(text: str) -> str:
    """Escape text that begins a line, where some signs begin a heading, a list or a quotation."""
    return re.sub(r"^(\d*)(?=[#>+=-]|(?<=\d)[.)])", r"\1\\", escaped(text).lstrip())


def show(sheets: Sequence[Sheet]) -> None:
    """Print sheets on a terminal, folded to its width."""
    from rich.console import Console
    from rich.table import Table as RichTable
    from rich.text import Text

    console = Console()
    for sheet in sheets:
        title = Text(printable(sheet.title))
        table = RichTable(title=title, title_justify="left", title_style="bold")
        for i, head in enumerate(map(printable, sheet.heads)):
            table.add_column(Text(head), justify="right" if i else "left", overflow="fold")
        for line in sheet.body:
            table.add_row(*(Text(printable(e.text), style="bold" if e.bold else "") for e in line))
        if sheet.lead:
            console.print(Text(printable(sheet.lead)), highlight=False)
        console.print(table)
        for note in sheet.notes:
            console.print(Text(printable(note)), highlight=False)
        console.print()


def place(text: str, path: Path, begin: str = BEGIN, end: str = END) -> None:
    """Replace what stands between the two marks of a file."""
    try:
        old = path.read_bytes().decode("utf-8")  # with its own line ends
    except OSError as error:
        raise UserError(f"--into {path}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise UserError(f"--into {path}: is no UTF-8 text; name a page of text") from None
    if old.count(begin) != 1 or old.count(end) != 1 or old.index(begin) > old.index(end):
        raise UserError(f"--into {path}: needs one line '{begin}' and after it one line '{end}'")
    head, rest = old.split(begin)
    tail = rest.split(end)[1]
    line = "\r\n" if "\r\n" in old else "\n"
    placed = f"{begin}\n{text}{end}".replace("\n", line)
    try:
        with whole(path.resolve()) as temporary:
            temporary.write_bytes(f"{head}{placed}{tail}".encode())
    except OSError as error:
        raise UserError(f"--into {path}: cannot be written ({error.strerror})") from None
