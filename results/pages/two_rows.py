"""Compares two rows of a table: one sentence first, then the numbers behind it."""

from __future__ import annotations

from collections.abc import Sequence

from results.errors import UserError, nearest
from results.pages.headline import where
from results.pages.sheet import Entry, Sheet, difference_text
from results.pages.text import Format, write
from results.stats.compare import Comparison, judge, points
from results.stats.detectable import seeds_to_detect, shown_by
from results.stats.max_t import varies
from results.stats.paired import FEWEST, LEVEL, Difference, smallest_p
from results.stats.pairing import AVERAGE, apart, average, columns, lead
from results.tables.collect import Row, Table

MOST_SEEDS = 100  # that are asked of anybody


HARDLY = 0.0005  # a difference that a table shows as 0.0


def two_rows(
    known: Sequence[Table], first: str, second: str, task: str | None, form: Format
) -> str:
    """Return what each table with both rows says of them; a UserError where none has both.

    `task` is the column that is asked about, in place of the average.
    """
    return written(sheets_of_two(known, first, second, task), form)


def written(sheets: Sequence[Sheet], form: Format) -> str:
    """Return the sheets one below the other."""
    return "\n".join(write(sheet, form) for sheet in sheets)


def sheets_of_two(known: Sequence[Table], first: str, second: str, task: str | None) -> list[Sheet]:
    """Return a sheet for each table with both rows, which begins with the sentence on them."""
    if first == second:
        raise UserError(f"compare {first} {second}: these are one row; name two")
    having = [t for t in known if {first, second} <= {row.method for row in t.rows}]
    names = sorted({row.method for table in known for row in table.rows})
    for name in (first, second):
        if name not in names:
            raise UserError(f"compare: no row is called {name}{nearest(name, names)}")
    if not having:
        raise UserError(f"compare: no table has both {first} and {second}: their conditions differ")
    if task is not None and not any(task in columns(table) for table in having):
        tasks = sorted({column for table in having for column in columns(table)})
        raise UserError(f"--task {task}: no such column{nearest(task, tasks)}")
    return [_sheet(t, first, second, task) for t in having if task in (None, *columns(t))]


def _sheet(table: Table, first: str, second: str, task: str | None) -> Sheet:
    judged = judge(table, beside=second)
    shown = columns(table) if task is None else (task,)
    rows = {row.method: row for row in table.rows}
    body = []
    for column in shown:
        gap = judged.differences.get((first, column))
        means = [_mean(rows[name], column, table.counted) for name in (first, second)]
        line = [Entry(column), *(Entry("–" if m is None else f"{100 * m:.1f}") for m in means)]
        if gap is None:
            line += [Entry("–")] * 4
        else:
            p = judged.adjusted.get((first, column))
            line += [Entry(difference_text(gap), _alone(gap)), Entry(str(gap.pairs))]
            line += [Entry("–" if x is None else p_text(x)) for x in (gap.p, p)]
        body.append(tuple(line))
    heads = ("task", first, second, "difference", "pairs", "p alone", "p in the table")
    family = len(judged.adjusted)
    notes = (
        "Points, paired by seed; 95 % BCa intervals from five seeds on. Bold: interval and p alone"
        " exclude zero, as for a question that was asked before the scores were seen.",
        "p alone is the sign-flip test's of this one comparison, a family of one; p in the table is"
        f" by step-down max-T among the {family} differences to {second} that it holds.",
    )
    said = verdict(table, judged, first, lead(table) if task is None else task)
    return Sheet(table.conditions.heading(), heads, tuple(body), notes, lead=said)


def _mean(row: Row, column: str, tasks: Sequence[str]) -> float | None:
    return average(row, tasks if column == AVERAGE else (column,))


def _alone(gap: Difference) -> bool:
    return gap.p is not None and gap.p < LEVEL and gap.excludes_zero


def verdict(table: Table, judged: Comparison, first: str, column: str) -> str:
    """Return one sentence: how far a row is from the table's baseline, and how sure that is."""
    place, second = where(column, table.counted), judged.baseline
    gap = judged.differences.get((first, column))
    if gap is None:
        return f"{first} and {second} share no seed on {place}."
    rows = {row.method: row for row in table.rows}
    pair = apart(rows[first], rows[second], column, table) if second is not None else None
    gaps = [] if pair is None else list(pair.by_unit.values())
    p = judged.adjusted.get((first, column))
    sure = "" if gap.p is None else f", p {p_text(gap.p)} as a single question"
    if p is not None and len(judged.adjusted) > 1:
        sure += f", {p_text(p)} among the {len(judged.adjusted)} of its table"
    seeds = _seeds(gap, column, table)
    if not _alone(gap):
        return (
            f"{first} and {second} cannot be told apart on {place}: {difference_text(gap)} points,"
            f" {seeds} seeds{sure}; {_more(gap, gaps, seeds)}."
        )
    side = "above" if gap.mean > 0 else "below"
    size = points(abs(gap.mean)).lstrip("+")
    ends = sorted(abs(end) for end in gap.interval or ())
    shown = ", ".join(points(end).lstrip("+") for end in ends)
    text = f"{first} is {size} points {side} {second} on {place} [{shown}], {seeds} seeds{sure}"
    if judged.claimed((first, column)):
        return f"{text}."
    if not varies(gaps):
        return f"{text}: all pairs are as far apart, as copies of one run are, so no table says so."
    return f"{text}: too many comparisons for the table to say so."


def _seeds(gap: Difference, column: str, table: Table) -> int:
    several = column == AVERAGE and table.trained_apart
    return gap.pairs // len(table.counted) if several else gap.pairs


def _more(gap: Difference, gaps: Sequence[float], seeds: int) -> str:
    """Return how many more seeds would show the difference seen, or what many seeds would show."""
    one_sign = min(gaps) >= 0 or max(gaps) <= 0
    if gap.sd is None or (one_sign and not varies(gaps)):
        fewest = next(n for n in range(FEWEST, MOST_SEEDS) if smallest_p(n) < LEVEL)
        return f"at least {fewest} seeds are needed" if seeds < fewest else "they do not differ"
    if abs(gap.mean) < HARDLY:
        return "they differ by less than 0.1 points"
    needed = seeds_to_detect(gap.sd, abs(gap.mean), MOST_SEEDS)
    if needed is None:
        least = shown_by(gap.sd, MOST_SEEDS)
        return f"{MOST_SEEDS} seeds would show a difference of {100 * least:.1f}, not a smaller one"
    size = f"a difference of {100 * abs(gap.mean):.1f}"
    if needed <= seeds:
        return f"so many seeds show {size} four times in five"
    return f"about {needed - seeds} more seeds would show {size}"


def p_text(p: float) -> str:
    """Return a p value with two digits and no leading zero."""
    return "< .0001" if p < 1e-4 else f"{p:.2g}".removeprefix("0") if p < 1 else "1"
