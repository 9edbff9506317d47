"""Lays a board out for a front page: one small table, what its seeds separate, its conditions."""

from __future__ import annotations

from collections.abc import Sequence

from results.errors import UserError
from results.pages.headline import ranked
from results.pages.leaderboard.lines import seeds_text
from results.pages.sheet import Entry, Sheet, difference_text, listed, share_entry
from results.pages.text import escaped, markdown, paragraph
from results.places import program
from results.record import Record
from results.run_list import RunList
from results.stats.compare import Comparison, judge
from results.stats.paired import FEWEST, smallest_p
from results.stats.pairing import AVERAGE, BASELINE, average, lead, shared_seeds
from results.tables.collect import Row, Table, tables

BEGIN, END = "<!-- front: begin -->", "<!-- front: end -->"


SMALL_SHARE = 10.0  # percent of the weights, the head's among them


LARGE, SMALL = 3, 4  # rows beside the baseline's


def board_front(board: RunList, records: Sequence[Record], address: str) -> str:
    """Return a board's front; records that make no table, or several, are a UserError."""
    collected = tables(records, board)
    if not collected:
        raise UserError(
            f"--board {board.name}: none of the board's {len(board.runs)} runs has a record here;"
            f" do them with {program()} board={board.name}, or name another folder of records"
        )
    if len(collected) > 1:
        raise UserError(
            f"--board {board.name}: its records make {len(collected)} tables",
            *(f"  {table.conditions.heading()}" for table in collected),
            "choose one with --only, as in --only precision=bf16",
        )
    return front(board.name, collected[0], judge(collected[0]), address)


def front(board: str, table: Table, judged: Comparison, address: str) -> str:
    """Return Markdown: a table of at most 8 rows and 6 columns, a sentence, and a caption.

    The rows are full fine-tuning and, by average, the three best methods that train a tenth of the
    weights or more and the four best that train less: single methods with a score on every task.
    `address` leads to the board's whole page.
    """
    rows = chosen(table, judged)
    shown = markdown(_sheet(rows, table, judged))
    whole = f"[all {len(table.rows)} rows of the board {escaped(board)}]({address})"
    caption = f"{paragraph(_caption(table, judged))} · {whole}"
    return "\n".join(shown) + f"\n\n{paragraph(sentence(rows, table, judged))}<br>\n{caption}\n"


def chosen(table: Table, judged: Comparison) -> list[Row]:
    """Return the rows of the front by the rule that `front` states, the best average first."""
    base = [row for row in table.rows if row.method == judged.baseline]
    others = [row for row in table.rows if row.method != judged.baseline]
    single = [row for _, row in ranked(table, [row for row in others if len(row.names) == 1])]
    known = [(row, row.trainable_share) for row in single if row.trainable_share is not None]
    large = [row for row, share in known if share >= SMALL_SHARE]
    small = [row for row, share in known if share < SMALL_SHARE]
    without = [row for row in base if average(row, table.counted) is None]
    return [row for _, row in ranked(table, [*base, *large[:LARGE], *small[:SMALL]])] + without


def _sheet(rows: Sequence[Row], table: Table, judged: Comparison) -> Sheet:
    column = lead(table)
    base = next((row for row in rows if row.method == judged.baseline), None)
    times = {row.method: _time(row, base, table) for row in rows}
    timed = any(time != "–" for method, time in times.items() if method != judged.baseline)
    heads = (
        *("method", column, f"difference to {BASELINE} [95 % interval]"),
        *("seeds", "trainable %", *([f"time beside {BASELINE}"] if timed else [])),
    )
    body = []
    for row in rows:
        mean = average(row, table.counted)
        body.append(
            (
                Entry(row.method),
                Entry("–" if mean is None else f"{100 * mean:.1f}"),
                _difference(row, column, judged),
                Entry(seeds_text(row, column, table.counted)),
                share_entry(row.trainable_share),
                *([Entry(times[row.method])] if timed else []),
            )
        )
    return Sheet("", heads, tuple(body), ())


def _difference(row: Row, column: str, judged: Comparison) -> Entry:
    """Return the difference in points; a dash where the seeds are too few for an interval."""
    if row.method == judged.baseline:
        return Entry("baseline")
    difference = judged.differences.get((row.method, column))
    if difference is None or difference.interval is None:
        return Entry("–")
    return Entry(difference_text(difference), judged.claimed((row.method, column)))


def _time(row: Row, base: Row | None, table: Table) -> str:
    """Return training seconds as a multiple of the baseline's, where times may be compared."""
    if base is None or not row.costs_beside(base):
        return "–"
    own, beside = row.training_seconds(table.counted), base.training_seconds(table.counted)
    return f"{own / beside:.2f}×" if own is not None and beside else "–"


def sentence(rows: Sequence[Row], table: Table, judged: Comparison) -> str:
    """Return which of the rows the seeds separate from full, or why they separate none.

    What it says of no row is of the rows shown only, where the board compares others too.
    """
    base, column = judged.baseline, lead(table)
    if base is None:
        return f"The seeds separate nothing: the board has no record of {BASELINE}."
    keys = [(row.method, column) for row in rows if row.method != base]
    kind = _row(rows, table, judged)
    if not keys:
        return f"The seeds separate nothing: no {kind} but {base} has a score on every task."
    claimed = [key for key in keys if judged.claimed(key)]
    unable = [key for key in keys if not judged.separable(key)]
    none = f"The seeds separate no {kind} from {base}"
    if len(unable) == len(keys):
        return f"{none}: {_reason(rows, table, judged)}."
    both = (
        "interval, and step-down max-T test over the board's"
        f" {len(judged.adjusted)} comparisons, both exclude zero"
    )
    text = f"{_sides(claimed, judged)} (bold: {both})" if claimed else f"{none}: for none do {both}"
    rest = len(keys) - len(claimed) - len(unable)
    text += f"; they separate no other {kind} from {base}" if claimed and rest else ""
    if unable:
        text += f"; too few seeds to tell for {listed([method for method, _ in unable])}"
    return text + "."


def _row(rows: Sequence[Row], table: Table, judged: Comparison) -> str:
    """Return `row`, or `row shown here` where the board compares rows that the front lacks."""
    methods, column = {row.method for row in rows}, lead(table)
    others = any(key[1] == column and key[0] not in methods for key in judged.differences)
    return "row shown here" if others else "row"


def _sides(claimed: Sequence[tuple[str, str]], judged: Comparison) -> str:
    above = [key[0] for key in claimed if judged.differences[key].mean > 0]
    below = [key[0] for key in claimed if judged.differences[key].mean < 0]
    sides = [
        f"{listed(methods)} {side}"
        for methods, side in ((above, f"above {judged.baseline}"), (below, "below"))
        if methods
    ]
    if not above:
        sides[0] += f" {judged.baseline}"
    return f"The seeds set {' and '.join(sides)}"


def _reason(rows: Sequence[Row], table: Table, judged: Comparison) -> str:
    """Return why no row could have been separated: no interval, or no p small enough."""
    column = lead(table)
    keys = [(row.method, column) for row in rows]
    able = [k for k in keys if k in judged.differences and judged.differences[k].interval]
    if not able:
        base = next(row for row in rows if row.method == judged.baseline)
        shared = [shared_seeds(row, base, column, table.counted) for row in rows if row is not base]
        where = "every task" if column == AVERAGE else column
        return (
            f"an interval needs {FEWEST} seeds that a row and {base.method} both finished on"
            f" {where}, and no {_row(rows, table, judged)} has more than {max(map(len, shared))}"
        )
    most = max(judged.differences[key].pairs for key in able)
    return (
        f"with at most {most} pairs, the smallest p that a test of flipped signs can give is"
        f" {smallest_p(most):.2g}"
    )


def _caption(table: Table, judged: Comparison) -> str:
    """Return model, data, device and the rule for the rows."""
    what = "sentence vectors, " if table.conditions.vectors else ""
    tasks = (
        f"average over {', '.join(table.counted)}" if len(table.counted) > 1 else table.counted[0]
    )
    parts = [
        table.conditions.model,
        f"{what}{table.conditions.data}{_training_rows(table)}",
        f"{tasks}, in percent; differences in points, paired by seed",
    ]
    parts += _devices(table, judged)
    parts += [judged.choice.removesuffix(".")] if judged.choice else []
    first = "" if judged.baseline is None else f"{judged.baseline}, "
    parts.append(
        f"rows: {first}the {LARGE} best single methods by average that train {SMALL_SHARE:g} % of"
        f" the weights or more and the {SMALL} best that train less"
    )
    return " · ".join(parts)


def _devices(table: Table, judged: Comparison) -> list[str]:
    """Return what the rows' times were measured on, or why there are none."""
    base = next((row for row in table.rows if row.method == judged.baseline), None)
    if base is not None and any(r is not base and r.costs_beside(base) for r in table.rows):
        if table.is_shared:
            return [f"{device}, so no times" for device in base.devices]
        others = any(not row.costs_beside(base) for row in table.rows)
        return [f"{device}{' (a dash: made otherwise)' * others}" for device in base.devices]
    if len(table.devices) < 2:
        return list(table.devices)
    names = {device.partition(",")[0] for device in table.devices}
    what = f"{names.pop()}, whose settings" if len(names) == 1 else "devices or their settings"
    return [f"{what} differ, so no times"]


def _training_rows(table: Table) -> str:
    numbers = [_rows_of(p.record) for p in table.points if p.record is not None]
    known = sorted({number for number in numbers if number is not None})
    if not known:
        return ""
    span = f"{known[0]:,}" if len(known) == 1 else f"{known[0]:,} to {known[-1]:,}"
    return f", {span} training rows a task"


def _rows_of(record: Record) -> int | None:
    """Return the rows that a run trained on; vectors of sentences share one text."""
    text = record.data.get("text")
    facts = text if isinstance(text, dict) else record.data["splits"].get("train", {})
    rows = facts.get("rows")
    return rows if isinstance(rows, int) else None
