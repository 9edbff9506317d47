"""Pairs two rows of a table: by seed, and by the units whose signs a test flips."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from statistics import fmean

import numpy as np

from results.stats.paired import FEWEST, LEVEL, Floats, smallest_p
from results.tables.collect import Row, Table

AVERAGE = "average"


BASELINE = "full"


@dataclass(frozen=True)
class Apart:
    """The differences of one row to another in a column.

    `by_seed` has one for each seed that both finished, on every task for the average; an interval
    is over them. `by_unit` is what a test flips the signs of: a task and seed, or a seed alone
    where one training has several of the columns, which are then no pairs of their own.
    """

    seeds: tuple[int, ...]
    by_seed: Floats
    by_unit: dict[Hashable, float]

    @property
    def mean(self) -> float:
        return float(self.by_seed.mean())


def columns(table: Table) -> tuple[str, ...]:
    """Return the tasks and slices, and `average` where there are several tasks."""
    return (*table.tasks, AVERAGE) if len(table.counted) > 1 else table.tasks


def lead(table: Table) -> str:
    """Return the column that rows are ranked by: the average, or the one task."""
    return AVERAGE if len(table.counted) > 1 else table.counted[0]


def average(row: Row, tasks: Sequence[str]) -> float | None:
    """Return the mean over tasks as GLUE's; None where a task lacks a score."""
    means = [row.cells[t].mean for t in tasks if t in row.cells]
    known = [mean for mean in means if mean is not None]
    return fmean(known) if len(known) == len(tasks) else None


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


def shared_seeds(first: Row, second: Row, column: str, tasks: Sequence[str]) -> list[int]:
    """Return the seeds that both rows finished, on every task for the average."""
    return seeds_of(first, second, tasks if column == AVERAGE else (column,))


def seeds_of(first: Row, second: Row, tasks: Sequence[str]) -> list[int]:
    """Return the seeds that both rows finished on every one of the tasks."""
    if any(t not in row.cells for row in (first, second) for t in tasks):
        return []
    finished = [set(row.cells[t].by_seed) for row in (first, second) for t in tasks]
    return sorted(set.intersection(*finished)) if finished else []


def apart(first: Row, second: Row, column: str, table: Table) -> Apart | None:
    """Return first - second in a column; None where they share no seed."""
    return apart_on(first, second, table.counted if column == AVERAGE else (column,), table)


def apart_on(first: Row, second: Row, tasks: Sequence[str], table: Table) -> Apart | None:
    """Return first - second on the average of some tasks; None where they share no seed."""
    seeds = seeds_of(first, second, tasks)
    if not seeds:
        return None
    gaps = [[first.cells[t].by_seed[s] - second.cells[t].by_seed[s] for s in seeds] for t in tasks]
    by_seed = np.array(gaps[0]) if len(gaps) == 1 else np.mean(gaps, axis=0)
    trainings = [table.trainings[t] for t in tasks]
    if len({*trainings}) < len(tasks):
        [training] = {*trainings} if len({*trainings}) == 1 else {AVERAGE}
        trainings, gaps = [training], [by_seed.tolist()]
    units: dict[Hashable, float] = {
        (training, seed): gap
        for training, of_task in zip(trainings, gaps, strict=True)
        for seed, gap in zip(seeds, of_task, strict=True)
    }
    return Apart(tuple(seeds), by_seed, units)


def is_able(one: Apart) -> bool:
    """Say whether a pair has the seeds to be set apart, however far apart it is."""
    return len(one.seeds) >= FEWEST and smallest_p(len(one.by_unit)) < LEVEL
