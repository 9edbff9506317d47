"""Judges a table's rows: differences to a baseline, groups that tie, mean ranks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from results.errors import UserError, nearest
from results.record import Record
from results.stats.max_t import DRAWS, step_down
from results.stats.paired import (
    FEWEST,
    LEVEL,
    Difference,
    Floats,
    Ranks,
    bca_intervals,
    multi_bootstrap,
    ranks,
    sign_flip_p,
)
from results.stats.pairing import (
    AVERAGE,
    Apart,
    apart,
    average,
    baseline,
    columns,
    is_able,
    shared_seeds,
)
from results.stats.resampling import resampled_scores
from results.stats.ties import ties
from results.tables.collect import Row, Table

Key = tuple[str, str]  # row, column


@dataclass(frozen=True)
class Comparison:
    """What a table's seeds say, keyed by row and column; `average` is a column where it is shown.

    `differences` are to the row `baseline`, of which `choice` says that it is one of several,
    `adjusted` the p values of those that have the seeds to be claimed, among all of these
    (step-down max-T), `over_examples` their intervals over seeds and examples. `tied` holds the
    rows of a column that its seeds set below no other, `untested` those that share too few seeds
    with any, `beside_best` the rest that are not set below the row of the largest mean; a column in
    which nothing could be set apart is absent and `reasons` says why.
    """

    baseline: str | None
    columns: tuple[str, ...]
    differences: dict[Key, Difference]
    adjusted: dict[Key, float]
    over_examples: dict[Key, tuple[float, float]]
    tied: dict[str, frozenset[str]]
    untested: dict[str, frozenset[str]]
    beside_best: dict[str, frozenset[str]]
    ranks: Ranks | None
    reasons: tuple[str, ...]
    choice: str = ""

    def claimed(self, key: Key) -> bool:
        """Say whether interval and adjusted p both separate a row from the baseline."""
        difference = self.differences.get(key)
        if difference is None or key not in self.adjusted:
            return False
        return difference.excludes_zero and self.adjusted[key] < LEVEL

    def separable(self, key: Key) -> bool:
        """Say whether a row has the seeds to be claimed, however large its difference."""
        return key in self.adjusted


def judge(
    table: Table,
    examples: bool = False,
    draws: int = 1000,
    beside: str | None = None,
    flips: int = DRAWS,
) -> Comparison:
    """Compare a table's rows with full fine-tuning, or with the row `beside`.

    With `examples` also over `draws` of resampled examples, in some seconds; tests draw so many
    `flips` of signs where they cannot have all. A UserError names a row that the table lacks.
    """
    shown = columns(table)
    rows = {row.method: row for row in table.rows}
    base, choice = baseline(table) if beside is None else (row_named(table, beside), "")
    pairs: dict[Key, Apart] = {}
    for name, row in rows.items() if base is not None else ():
        for column in shown:
            gap = None if row is base or base is None else apart(row, base, column, table)
            if gap is not None:
                pairs[name, column] = gap
    differences = _differences(pairs)
    tested = {key: pair.by_unit for key, pair in pairs.items() if is_able(pair)}
    pairs_say = ties(table, shown, flips)
    over: dict[Key, tuple[float, float] | None] = {}
    if examples and base is not None:
        drawn = _Draws(table, draws)
        over = {key: drawn.interval(rows[key[0]], base, key[1]) for key in differences}
    return Comparison(
        base.method if base else None,
        shown,
        differences,
        dict(zip(tested, step_down(list(tested.values()), draws=flips), strict=True)),
        {key: interval for key, interval in over.items() if interval is not None},
        pairs_say.tied,
        pairs_say.untested,
        pairs_say.beside_best,
        _ranks(table),
        pairs_say.reasons,
        choice,
    )


def held(table: Table, name: str | None) -> str | None:
    """Return a row's name where the table has it."""
    return name if any(row.method == name for row in table.rows) else None


def row_named(table: Table, name: str) -> Row:
    """Return the row of that name; a UserError lists those there are."""
    for row in table.rows:
        if row.method == name:
            return row
    names = [row.method for row in table.rows]
    raise UserError(f"no row is called {name}{nearest(name, names)}", f"rows: {', '.join(names)}")


def _differences(pairs: dict[Key, Apart]) -> dict[Key, Difference]:
    """Return each pair's difference; p is of the units, mean and interval are by seed."""
    intervals = bca_intervals([one.by_seed for one in pairs.values()])
    return {
        key: Difference(
            pairs=len(one.by_unit),
            mean=one.mean,
            sd=float(one.by_seed.std(ddof=1)) if len(one.seeds) > 1 else None,
            interval=interval,
            p=sign_flip_p(list(one.by_unit.values())) if len(one.by_unit) > 1 else None,
        )
        for (key, one), interval in zip(pairs.items(), intervals, strict=True)
    }


def _ranks(table: Table) -> Ranks | None:
    means = {
        row.method: [row.cells[t].mean or 0.0 for t in table.counted]
        for row in table.rows
        if average(row, table.counted) is not None
    }
    return ranks(means) if len(means) > 2 and len(table.counted) > 1 else None


class _Draws:
    """Scores on resampled examples, computed once for each cell."""

    def __init__(self, table: Table, draws: int) -> None:
        self.tasks, self.draws = table.counted, draws
        self.scores: dict[tuple[str, str], Floats | None] = {}

    def interval(self, first: Row, second: Row, column: str) -> tuple[float, float] | None:
        """Return the interval of first - second; None with few seeds or without predictions."""
        seeds = shared_seeds(first, second, column, self.tasks)
        if len(seeds) < FEWEST:
            return None
        needed = self.tasks if column == AVERAGE else (column,)
        sides = []
        for row in (first, second):
            by_task = [self._cell(row, task, seeds) for task in needed]
            known = [scores for scores in by_task if scores is not None]
            if len(known) < len(needed):
                return None
            sides.append(np.mean(known, axis=0))
        return multi_bootstrap(*sides)

    def _cell(self, row: Row, task: str, seeds: Sequence[int]) -> Floats | None:
        records = {p.seed: p.record for p in row.cells[task].points}
        each = [self._run(record, task) for s in seeds if (record := records[s]) is not None]
        known = [scores for scores in each if scores is not None]
        return np.array(known) if len(known) == len(seeds) else None

    def _run(self, record: Record, task: str) -> Floats | None:
        key = (record.run, task)
        if key not in self.scores:
            self.scores[key] = resampled_scores(record, self.draws)
        return self.scores[key]


MINUS = "−"


def points(value: float, digits: int = 1) -> str:
    """Return a difference of fractions in points with its sign."""
    text = f"{100 * value:+.{digits}f}".replace("-", MINUS)
    return text[1:] if not text[1:].strip("0.") else text
