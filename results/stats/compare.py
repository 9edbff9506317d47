"""Judges a table's rows: differences to full fine-tuning, groups that tie, mean ranks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from statistics import fmean

import numpy as np

from results.record import Record
from results.stats.paired import (
    FEWEST,
    Difference,
    Floats,
    Ranks,
    bca_interval,
    compare,
    holm,
    multi_bootstrap,
    ranks,
    sign_flip_p,
    smallest_p,
)
from results.stats.resampling import resampled_scores
from results.tables.collect import Row, Table

AVERAGE = "average"


BASELINE = "full"


LEVEL = 0.05


Key = tuple[str, str]  # row, column


@dataclass(frozen=True)
class Comparison:
    """What a table's seeds say, keyed by row and column; `average` is a column where it is shown.

    `differences` are to the row `baseline`, of which `choice` says that it is one of several,
    `adjusted` their p values after Holm over all of them,
    `over_examples` their intervals over seeds and examples. `tied` holds the rows of a column that
    its seeds do not separate from the best; a column in which nothing could be separated is absent
    and `reasons` says why.
    """

    baseline: str | None
    columns: tuple[str, ...]
    differences: dict[Key, Difference]
    adjusted: dict[Key, float]
    over_examples: dict[Key, tuple[float, float]]
    tied: dict[str, frozenset[str]]
    ranks: Ranks | None
    reasons: tuple[str, ...]
    choice: str = ""

    def claimed(self, key: Key) -> bool:
        """Say whether interval and adjusted p both separate a row from the baseline."""
        difference = self.differences.get(key)
        if difference is None or difference.interval is None or key not in self.adjusted:
            return False
        low, high = difference.interval
        return (low > 0 or high < 0) and self.adjusted[key] < LEVEL

    @cached_property
    def reach(self) -> dict[Key, float]:
        """The smallest adjusted p that so many pairs can give, were every difference large."""
        smallest = [smallest_p(self.differences[key].pairs) for key in self.adjusted]
        return dict(zip(self.adjusted, holm(smallest), strict=True))

    def separable(self, key: Key) -> bool:
        """Say whether a row has the seeds to be claimed, however large its difference."""
        difference = self.differences.get(key)
        if difference is None or difference.interval is None:
            return False
        return self.reach[key] < LEVEL


@dataclass(frozen=True)
class _Rival:
    """A row beside the best of its column: the best minus it, and what a test of that can say.

    `apart` is by task and seed, or by seed alone [1, seeds]; `p` is after Holm over the table's
    rivals, `floor` the smallest p that so many pairs can give.
    """

    row: str
    column: str
    apart: Floats
    p: float
    floor: float

    @property
    def is_beaten(self) -> bool:
        """Whether test and interval over seeds both set it apart."""
        interval = bca_interval(self.apart.mean(axis=0)) if self.p < LEVEL else None
        return interval is not None and interval[0] > 0


def baseline(table: Table) -> tuple[Row | None, str]:
    """Return the row of full fine-tuning, the first of several, and a sentence where they are."""
    rows = [row for row in table.rows if row.names == (BASELINE,) and not row.way]
    if not rows or len(rows) == 1 or rows[0].method == BASELINE:
        return (rows[0] if rows else None), ""
    others = ", ".join(row.method for row in rows[1:])
    return rows[0], (
        f"{len(rows)} rows are full fine-tuning: differences are to {rows[0].method}, not to"
        f" {others}."
    )


def columns(table: Table) -> tuple[str, ...]:
    """Return the tasks, and `average` where there are several."""
    return (*table.tasks, AVERAGE) if len(table.tasks) > 1 else table.tasks


def average(row: Row, tasks: Sequence[str]) -> float | None:
    """Return the mean over tasks as GLUE's; None where a task lacks a score."""
    means = [row.cells[t].mean for t in tasks if t in row.cells]
    known = [mean for mean in means if mean is not None]
    return fmean(known) if len(known) == len(tasks) else None


def judge(table: Table, examples: bool = False, draws: int = 1000) -> Comparison:
    """Compare a table's rows; with `examples` also over resampled examples, in some seconds."""
    shown = columns(table)
    rows = {row.method: row for row in table.rows}
    base, choice = baseline(table)
    differences: dict[Key, Difference] = {}
    if base is not None:
        for name, row in rows.items():
            for column in shown:
                gap = None if row is base else difference(row, base, column, table)
                if gap is not None:
                    differences[name, column] = gap
    tied, reasons = _ties(table, shown)
    over: dict[Key, tuple[float, float] | None] = {}
    if examples and base is not None:
        drawn = _Draws(table, draws)
        over = {key: drawn.interval(rows[key[0]], base, key[1]) for key in differences}
    return Comparison(
        base.method if base else None,
        shown,
        differences,
        _adjusted(differences),
        {key: interval for key, interval in over.items() if interval is not None},
        tied,
        _ranks(table),
        tuple(reasons),
        choice,
    )


def shared_seeds(first: Row, second: Row, column: str, tasks: Sequence[str]) -> list[int]:
    """Return the seeds that both rows finished, on every task for the average."""
    needed = tasks if column == AVERAGE else (column,)
    if any(t not in row.cells for row in (first, second) for t in needed):
        return []
    finished = [set(row.cells[t].by_seed) for row in (first, second) for t in needed]
    return sorted(set.intersection(*finished))


def difference(first: Row, second: Row, column: str, table: Table) -> Difference | None:
    """Return first - second by seed; the average's p has a pair for each task and seed.

    Sets of sentence vectors share one training, so that their average has a pair for each seed.
    """
    pairs = _pairs(first, second, column, table)
    if pairs is None:
        return None
    by_seed = compare(list(pairs[0].mean(axis=0)), list(pairs[1].mean(axis=0)))
    if len(pairs[0]) == 1 or table.conditions.vectors:
        return by_seed
    return replace(by_seed, pairs=pairs[0].size, p=sign_flip_p((pairs[0] - pairs[1]).ravel()))


def _pairs(first: Row, second: Row, column: str, table: Table) -> tuple[Floats, Floats] | None:
    """Return both rows' scores [tasks, seeds] on the seeds they share; None where none is."""
    seeds = shared_seeds(first, second, column, table.tasks)
    if not seeds:
        return None
    needed = table.tasks if column == AVERAGE else (column,)
    one, other = (
        np.array([[row.cells[t].by_seed[s] for s in seeds] for t in needed])
        for row in (first, second)
    )
    return one, other


def _adjusted(differences: dict[Key, Difference]) -> dict[Key, float]:
    tested = {key: d.p for key, d in differences.items() if d.p is not None}
    return dict(zip(tested, holm(list(tested.values())), strict=True))


def _ties(table: Table, shown: Sequence[str]) -> tuple[dict[str, frozenset[str]], list[str]]:
    """Return each column's rows that tie with the best, and why other columns have none."""
    best = {column: row for column in shown if (row := _best(table, column)) is not None}
    rivals = _rivals(table, best)
    tied: dict[str, frozenset[str]] = {}
    hopeless: list[str] = []  # no p could be small enough
    few: list[str] = []  # where one could, there are too few seeds for an interval
    for column, first in best.items():
        beside = [rival for rival in rivals if rival.column == column]
        able = [r for r in beside if r.floor * sum(o.floor >= r.floor for o in rivals) < LEVEL]
        if not any(rival.apart.shape[1] >= FEWEST for rival in able):
            (few if able else hopeless).append(column)
            continue
        rows = {first.method, *(rival.row for rival in beside)}
        tied[column] = frozenset(rows - {rival.row for rival in beside if rival.is_beaten})
    return tied, _why(hopeless, shown, rivals) + _why_few(few, shown)


def _best(table: Table, column: str) -> Row | None:
    """Return a column's best row; None where fewer than two rows have a score."""
    scored = [(_complete(row, column, table.tasks), row) for row in table.rows]
    ranked = [(rank, row) for rank, row in scored if rank is not None]
    return max(ranked, key=lambda s: (s[0], s[1].method))[1] if len(ranked) > 1 else None


def _rivals(table: Table, best: dict[str, Row]) -> list[_Rival]:
    """Return the rows that share two seeds with the best of a column, each beside it."""
    apart: dict[Key, Floats] = {}
    for column, first in best.items():
        for row in table.rows:
            if row is first or _complete(row, column, table.tasks) is None:
                continue
            pairs = _pairs(first, row, column, table)
            if pairs is not None and pairs[0].shape[1] > 1:
                apart[row.method, column] = pairs[0] - pairs[1]
    if table.conditions.vectors:
        apart = {key: by_set.mean(axis=0, keepdims=True) for key, by_set in apart.items()}
    ps = holm([sign_flip_p(values.ravel()) for values in apart.values()])
    return [
        _Rival(row, column, values, p, smallest_p(values.size))
        for ((row, column), values), p in zip(apart.items(), ps, strict=True)
    ]


def _complete(row: Row, column: str, tasks: Sequence[str]) -> tuple[int, float] | None:
    """Rank a row for the best of a column: by seeds finished, then by the mean."""
    if column != AVERAGE:
        cell = row.cells.get(column)
        return None if cell is None or cell.mean is None else (len(cell.scores), cell.mean)
    mean = average(row, tasks)
    return None if mean is None else (min(len(row.cells[t].scores) for t in tasks), mean)


def _why(hopeless: Sequence[str], shown: Sequence[str], rivals: Sequence[_Rival]) -> list[str]:
    if not hopeless:
        return []
    where = _where(hopeless, shown)
    pairs = [rival.apart.size for rival in rivals if rival.column in hopeless]
    if not pairs:
        return [f"Nothing is set apart from the best in {where}: no two rows share two seeds."]
    most, family = max(pairs), len(rivals)
    p = min(1.0, smallest_p(most) * len(pairs))
    needed = next(n for n in range(1, 60) if smallest_p(n) * len(pairs) < LEVEL)
    return [
        f"Nothing is set apart from the best in {where}: with {most} pairs and {len(pairs)} of"
        f" {family} comparisons, the smallest p that an exact test can give after Holm's correction"
        f" is {p:.2g}; {needed} pairs could reach .05."
    ]


def _why_few(few: Sequence[str], shown: Sequence[str]) -> list[str]:
    if not few:
        return []
    return [
        f"Nothing is set apart from the best in {_where(few, shown)}: no row that the test"
        f" could set apart shares with it the {FEWEST} seeds that an interval needs."
    ]


def _where(some: Sequence[str], shown: Sequence[str]) -> str:
    return "any column" if len(some) == len(shown) else ", ".join(some)


def _ranks(table: Table) -> Ranks | None:
    means = {
        row.method: [row.cells[t].mean or 0.0 for t in table.tasks]
        for row in table.rows
        if average(row, table.tasks) is not None
    }
    return ranks(means) if len(means) > 2 and len(table.tasks) > 1 else None


class _Draws:
    """Scores on resampled examples, computed once for each cell."""

    def __init__(self, table: Table, draws: int) -> None:
        self.tasks, self.draws = table.tasks, draws
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


def points(value: float) -> str:
    """Return a difference of fractions in points with its sign."""
    text = f"{100 * value:+.1f}".replace("-", MINUS)
    return "0.0" if text[1:] == "0.0" else text
