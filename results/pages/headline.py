"""Says in a sentence or two what a table's seeds answer."""

from __future__ import annotations

from collections.abc import Sequence

from results.stats.compare import Comparison, points
from results.stats.pairing import AVERAGE, average, lead
from results.tables.collect import Row, Table

MOST = 5  # names in a list


def headline(table: Table, judged: Comparison) -> str:
    """Return which row is best, from how many it is set apart, and which differ from the baseline.

    It is of the average, or of a table's one task; empty where no row has a score there.
    """
    scored = ranked(table)
    if not scored:
        return ""
    column = lead(table)
    return " ".join(
        part
        for part in (_best(scored, column, table, judged), _beside(column, table, judged))
        if part
    )


def ranked(table: Table, rows: Sequence[Row] | None = None) -> list[tuple[float, Row]]:
    """Return the rows, or some, that have a score on every task, and its mean, the best first."""
    means = [(average(row, table.counted), row) for row in (table.rows if rows is None else rows)]
    known = [(mean, row) for mean, row in means if mean is not None]
    return sorted(known, key=lambda one: -one[0])


def in_order(table: Table) -> list[Row]:
    """Return the rows as a table shows them: the best first, then those that lack a task."""
    first = [row for _, row in ranked(table)]
    return first + [row for row in table.rows if row not in first]


def where(column: str, tasks: Sequence[str]) -> str:
    """Return a column in words, as they follow `on`."""
    return f"the average of {len(tasks)} tasks" if column == AVERAGE else column


def _best(
    scored: Sequence[tuple[float, Row]], column: str, table: Table, judged: Comparison
) -> str:
    mean, best = scored[0]
    text = f"{best.method} is best on {where(column, table.counted)} ({100 * mean:.1f})"
    if len(scored) == 1:
        return f"{best.method} has {100 * mean:.1f} on {where(column, table.counted)}; it is alone."
    tied, untested = judged.tied.get(column), judged.untested.get(column, frozenset())
    if tied is None:
        return f"{text}, by too few seeds to set anything apart."
    if best.method in untested:
        return f"{text}, by too few seeds of its own to be set apart."
    if best.method not in tied:
        return f"{text}, and set below another row by the seeds that both have."
    beside, few = len(judged.beside_best[column]), len(untested)
    left = f"; {few} {'has' if few == 1 else 'have'} too few seeds to tell" if few else ""
    if beside == 0:
        return f"{text}, and set apart from all others{' that have the seeds' * bool(few)}{left}."
    others = len(scored) - 1 - few
    return f"{text}, but {beside} of the {others} other rows cannot be told from the best{left}."


def _beside(column: str, table: Table, judged: Comparison) -> str:
    """Return the rows above and below the baseline, and how many are not told from it.

    A row may be set apart from all others, and yet not shown to differ: its test there is one of
    many, of which the sentence then says how many.
    """
    base, keys = judged.baseline, [k for k in judged.differences if k[1] == column]
    if base is None or not keys:
        return ""
    able = [key for key in keys if judged.separable(key)]
    if not able:
        return f"No row has the seeds to be told from {base}."
    claimed = [key for key in able if judged.claimed(key)]
    sides = [
        f"{word} {base}: {_named(side, judged)}"
        for word, side in (
            ("above", [k for k in claimed if judged.differences[k].mean > 0]),
            ("below", [k for k in claimed if judged.differences[k].mean < 0]),
        )
        if side
    ]
    if not sides:
        among = len(judged.adjusted)
        test = f", by a test over {among} comparisons with it" if among > 1 else ""
        return f"No row is shown to differ from {base} on {where(column, table.counted)}{test}."
    rest = len(keys) - len(claimed)
    text = "; ".join(sides)
    left = f"; {rest} cannot be told from it" if rest else ""
    return f"{text[0].upper()}{text[1:]}{left}."


def _named(keys: Sequence[tuple[str, str]], judged: Comparison) -> str:
    largest = sorted(keys, key=lambda key: -abs(judged.differences[key].mean))
    each = [f"{key[0]} ({points(judged.differences[key].mean)})" for key in largest[:MOST]]
    each += [f"{len(keys) - MOST} more"] if len(keys) > MOST else []
    return ", ".join(each)
