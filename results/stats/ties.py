"""Which rows of a column its seeds do not set apart: below no other row by a test of all pairs."""

from __future__ import annotations

import itertools
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from results.stats.max_t import DRAWS, step_down
from results.stats.paired import FEWEST, LEVEL, bca_intervals, smallest_p
from results.stats.pairing import AVERAGE, Apart, apart, average, is_able
from results.tables.collect import Row, Table


@dataclass(frozen=True)
class Ties:
    """What pairs of rows say in each column; one in which nothing could be set apart is absent.

    `tied` holds the rows that are below no other, `untested` those that share too few seeds with
    every other, and `beside_best` those of the rest that are not set below the row of the largest
    mean: one of them may well be below a third. `reasons` say why other columns have none.
    """

    tied: dict[str, frozenset[str]] = field(default_factory=dict)
    untested: dict[str, frozenset[str]] = field(default_factory=dict)
    beside_best: dict[str, frozenset[str]] = field(default_factory=dict)
    reasons: tuple[str, ...] = ()


def ties(table: Table, shown: Sequence[str], flips: int = DRAWS) -> Ties:
    """Return what is set below what in each column.

    The family of a column is all pairs of its rows that have the seeds to be set apart, which
    allows for the best being chosen from the data.
    """
    of_columns = Ties()
    few: dict[str, int] = {}  # columns in which nothing could be set apart, and the most pairs
    for column in shown:
        each = ((row, _mean(row, column, table.counted)) for row in table.rows)
        known = [(row, mean) for row, mean in each if mean is not None]
        rows = [row for row, _ in known]
        if len(rows) < 2:
            continue
        pairs = {
            (a.method, b.method): one
            for a, b in itertools.combinations(rows, 2)
            if (one := apart(a, b, column, table)) is not None and len(one.seeds) > 1
        }
        able = {names: one for names, one in pairs.items() if is_able(one)}
        if able:
            best = max(known, key=lambda one: one[1])[0].method
            in_a_pair = {name for names in able for name in names}
            above = _above(able, flips)
            of_columns.tied[column] = frozenset(in_a_pair - _below(above))
            of_columns.untested[column] = frozenset(row.method for row in rows) - in_a_pair
            by_best = {
                name: [each for each in of if each.other == best] for name, of in above.items()
            }
            of_columns.beside_best[column] = frozenset(in_a_pair - {best} - _below(by_best))
        else:
            few[column] = max((len(one.by_unit) for one in pairs.values()), default=0)
    return replace(of_columns, reasons=tuple(_why(few, shown)))


@dataclass(frozen=True)
class _Above:
    """Another row that a test sets above one."""

    p: float
    other: str
    apart: Apart


def _above(pairs: dict[tuple[str, str], Apart], flips: int) -> dict[str, list[_Above]]:
    """Return by row those that the test sets above it."""
    adjusted = step_down([one.by_unit for one in pairs.values()], draws=flips)
    above: dict[str, list[_Above]] = defaultdict(list)
    for ((first, second), one), p in zip(pairs.items(), adjusted, strict=True):
        if p < LEVEL:
            lower, upper = (second, first) if one.mean > 0 else (first, second)
            above[lower].append(_Above(p, upper, one))
    return above


def _below(above: Mapping[str, Sequence[_Above]]) -> set[str]:
    """Return the rows of which an interval agrees that they are below one of those above."""
    below: set[str] = set()
    # An interval takes long and one is enough: each row's clearest pair first.
    left = {name: sorted(of, key=lambda each: each.p) for name, of in above.items() if of}
    while left:
        intervals = bca_intervals([of[0].apart.by_seed for of in left.values()])
        for name, interval in zip(list(left), intervals, strict=True):
            is_below = interval is not None and (interval[0] > 0 or interval[1] < 0)
            below |= {name} if is_below else set()
            left[name] = [] if is_below else left[name][1:]
        left = {name: of for name, of in left.items() if of}
    return below


def _mean(row: Row, column: str, tasks: Sequence[str]) -> float | None:
    return average(row, tasks if column == AVERAGE else (column,))


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
