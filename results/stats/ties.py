"""Which rows of a column its seeds do not set apart: below no other row by a test of all pairs."""

from __future__ import annotations

import itertools
from collections import defaultdict
from collections.abc import Sequence

from results.stats.max_t import DRAWS, step_down
from results.stats.paired import FEWEST, LEVEL, bca_intervals, smallest_p
from results.stats.pairing import AVERAGE, Apart, apart, average, is_able
from results.tables.collect import Row, Table


def ties(
    table: Table, shown: Sequence[str], flips: int = DRAWS
) -> tuple[dict[str, frozenset[str]], dict[str, frozenset[str]], list[str]]:
    """Return each column's rows that are below no other, those that are untested, and reasons.

    The family of a column is all pairs of its rows that have the seeds to be set apart, which
    allows for the best being chosen from the data. A row that shares too few seeds with every other
    is untested. Reasons say why other columns have none.
    """
    tied, untested = dict[str, frozenset[str]](), dict[str, frozenset[str]]()
    few: dict[str, int] = {}  # columns in which nothing could be set apart, and the most pairs
    for column in shown:
        rows = [row for row in table.rows if _has_score(row, column, table.counted)]
        if len(rows) < 2:
            continue
        pairs = {
            (a.method, b.method): one
            for a, b in itertools.combinations(rows, 2)
            if (one := apart(a, b, column, table)) is not None and len(one.seeds) > 1
        }
        able = {names: one for names, one in pairs.items() if is_able(one)}
        if able:
            in_a_pair = {name for names in able for name in names}
            tied[column] = frozenset(in_a_pair - _below(able, flips))
            untested[column] = frozenset(row.method for row in rows) - in_a_pair
        else:
            few[column] = max((len(one.by_unit) for one in pairs.values()), default=0)
    return tied, untested, _why(few, shown)


def _below(pairs: dict[tuple[str, str], Apart], flips: int) -> set[str]:
    """Return the rows that test and interval both set below another."""
    adjusted = step_down([one.by_unit for one in pairs.values()], draws=flips)
    above: dict[str, list[tuple[float, Apart]]] = defaultdict(list)  # by the row that is below
    for ((first, second), one), p in zip(pairs.items(), adjusted, strict=True):
        if p < LEVEL:
            above[second if one.mean > 0 else first].append((p, one))
    below: set[str] = set()
    # An interval takes long and one is enough: each row's clearest pair first.
    left = {name: sorted(of, key=lambda each: each[0]) for name, of in above.items()}
    while left:
        intervals = bca_intervals([of[0][1].by_seed for of in left.values()])
        for name, interval in zip(list(left), intervals, strict=True):
            is_below = interval is not None and (interval[0] > 0 or interval[1] < 0)
            below |= {name} if is_below else set()
            left[name] = [] if is_below else left[name][1:]
        left = {name: of for name, of in left.items() if of}
    return below


def _has_score(row: Row, column: str, tasks: Sequence[str]) -> bool:
    if column == AVERAGE:
        return average(row, tasks) is not None
    return column in row.cells and row.cells[column].mean is not None


def _why(few: dict[str, int], shown: Sequence[str]) -> list[str]:
    """Return sentences for the columns in which nothing can be set apart, those of one reason."""
    reasons: dict[str, list[str]] = {}
    for column, most in few.items():
        reasons.setdefault(_reason(most), []).append(column)
    return [
        f"Nothing is set apart in {'any column' if len(where) == len(shown) else ', '.join(where)}:"
        f" {reason}."
        for reason, where in reasons.items()
    ]


def _reason(most: int) -> str:
    if most == 0:
        return "no two rows share two seeds"
    if smallest_p(most) < LEVEL:
        return f"no two rows share the {FEWEST} seeds that an interval needs"
    enough = next(n for n in itertools.count(1) if smallest_p(n) < LEVEL)
    return (
        f"with {most} pairs, the smallest p that a test of flipped signs can give is"
        f" {smallest_p(most):.2g}; {enough} pairs could reach .05"
    )
