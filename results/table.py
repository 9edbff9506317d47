"""Renders tables as aligned text or Markdown; scores in percent, times in seconds."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from results.collect import Cell, Row, Table, tables
from results.record import Record

Format = Literal["text", "md"]


def one_run(record: Record) -> str:
    """Return the table of a single record, and each metric of each split in full."""
    lines = [render(tables([record]), "text").rstrip()]
    for split, found in record.scores.items():
        undefined = record.undefined.get(split, [])
        shown = [
            f"{k} {100 * v:.2f}" + (" (undefined, set to 0)" if k in undefined else "")
            for k, v in found.items()
        ]
        lines.append(f"{split}: {', '.join(shown)}")
    for split in record.predictions:
        if split not in record.scores:
            lines.append(f"{split}: no gold labels; predictions are in the record")
    if record.status != "finished":
        error = record.error or {}
        lines.append(f"{record.status.upper()}: {error.get('message', 'no reason recorded')}")
    return "\n".join(lines)


def render(found: Sequence[Table], form: Format) -> str:
    """Return all tables, each under its heading; without records, a sentence that says so."""
    if not found:
        return "no records yet: run python run.py method=bitfit task=sst2\n"
    return "\n".join(_render_one(table, form) for table in found)


def _render_one(table: Table, form: Format) -> str:
    heads = ["method", *table.tasks]
    average = len(table.tasks) > 1
    heads += ["average"] if average else []
    heads += ["n", "trainable %", "without head %", "train seconds"]
    body = [_cells(row, table.tasks, average) for row in table.rows]
    lines = _markdown(heads, body) if form == "md" else _aligned(heads, body)
    title = f"**{table.conditions.heading()}**" if form == "md" else table.conditions.heading()
    notes = [
        "Scores in percent, mean ± standard deviation over seeds; a task with two metrics shows"
        " their mean."
    ]
    notes += [f"{task}: {mark}." for task, mark in table.marks.items()]
    if len(table.devices) == 1:
        notes.append(f"Seconds on {table.devices[0]}.")
    elif table.devices:
        notes.append(
            "Seconds come from different devices and are not comparable: "
            + "; ".join(table.devices)
            + "."
        )
    separator = "<br>\n" if form == "md" else "\n"
    return f"{title}\n\n" + "\n".join(lines) + "\n\n" + separator.join(notes) + "\n"


def _cells(row: Row, tasks: Sequence[str], average: bool) -> list[str]:
    shown = [row.method, *(_score(row.cells.get(task)) for task in tasks)]
    if average:
        means = [
            cell.mean for task in tasks if (cell := row.cells.get(task)) and cell.mean is not None
        ]
        whole = len(means) == len(tasks)
        shown.append(f"{100 * sum(means) / len(means):.1f}" if whole else "–")
    counts = {_count(cell) for cell in row.cells.values()}
    shown.append(
        counts.pop()
        if len(counts) == 1
        else " ".join(_count(row.cells[t]) if t in row.cells else "0" for t in tasks)
    )
    for share in (row.trainable_share, row.trainable_share_without_head):
        shown.append("–" if share is None else f"{share:.3g}" if share < 99.95 else "100")
    seconds = [c.train_seconds for c in row.cells.values() if c.train_seconds is not None]
    # A sum over some of the tasks would make a row with a gap look cheap.
    shown.append(f"{sum(seconds):.0f}" if len(seconds) == len(tasks) else "–")
    return shown


def _count(cell: Cell) -> str:
    finished = len(cell.scores)
    return str(finished) if finished == cell.asked else f"{finished}/{cell.asked}"


def _score(cell: Cell | None) -> str:
    if cell is None or cell.mean is None:
        return "–" if cell is None else "failed"
    spread = "" if cell.sd is None else f" ± {100 * cell.sd:.1f}"
    return f"{100 * cell.mean:.1f}{spread}"


def _aligned(heads: Sequence[str], body: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(len(line[i]) for line in (heads, *body)) for i in range(len(heads))]

    def line(cells: Sequence[str]) -> str:
        first, *rest = (
            c.ljust(w) if i == 0 else c.rjust(w)
            for i, (c, w) in enumerate(zip(cells, widths, strict=True))
        )
        return "  ".join([first, *rest]).rstrip()

    return [line(heads), line(["-" * w for w in widths]), *(line(cells) for cells in body)]


def _markdown(heads: Sequence[str], body: Sequence[Sequence[str]]) -> list[str]:
    def line(cells: Sequence[str]) -> str:
        return "| " + " | ".join(c.replace("|", "\\|") for c in cells) + " |"

    return [line(heads), "|---|" + "---:|" * (len(heads) - 1), *(line(cells) for cells in body)]
