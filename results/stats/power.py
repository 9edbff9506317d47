"""Which difference so many seeds can detect, task by task, from the records there are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import fmean, variance

from results.printable import printable
from results.record import Record
from results.stats.detectable import detectable_difference
from results.stats.pairing import BASELINE, baseline, columns, shared_seeds
from results.tables.collect import Row, Table, tables

SEEDS = (3, 5, 6, 8, 10, 20)


def power(records: Sequence[Record]) -> str:
    """Return, for each table and task, the smallest difference to `full` that n seeds find.

    In points, with power .8, by the criterion of the tables, for one comparison alone and for one
    among all of a table; the spread of the differences by seed is pooled over the methods that
    share at least two seeds with `full`.
    """
    texts = [_of_table(table) for table in tables(records)]
    if not any(texts):
        return (
            "no method shares two seeds of a task with full fine-tuning yet: the spread of the"
            " differences is unknown\n"
        )
    lead = (
        "The smallest difference in points that n seeds find four times in five: p below .05 by the"
        " test of flipped signs (max-T over all comparisons of a table, or alone), and 95 % BCa"
        " interval.\n"
    )
    return "\n".join([lead, *(text for text in texts if text)])


def _of_table(table: Table) -> str:
    base, choice = baseline(table)
    if base is None:
        return ""
    rows, family = _comparisons(table, base)
    lines = []
    for task in table.tasks:
        scores = {row.method: row.cells[task].by_seed for row in table.rows if task in row.cells}
        sd, methods = pooled_sd(scores, base.method)
        if sd is None:
            continue
        lines += [
            f"{printable(task)}: sd of a seed's difference {100 * sd:.2f} points"
            f" ({methods} methods)",
            f"  alone             {_detected(sd, 1, 1)}",
        ]
        if family > 1:
            lines.append(f"  among {f'{family} shown':12}{_detected(sd, rows, len(table.tasks))}")
    lines = [printable(choice), *lines] if choice and lines else lines
    return "\n".join([printable(table.conditions.heading()), "", *lines, ""]) if lines else ""


def _comparisons(table: Table, base: Row) -> tuple[int, int]:
    """Return how many rows are compared with the baseline, and how many comparisons that makes."""
    compared = [
        row.method
        for row in table.rows
        for column in columns(table)
        if row is not base and len(shared_seeds(row, base, column, table.counted)) > 1
    ]
    return len(set(compared)), len(compared)


def _detected(sd: float, rows: int, tasks: int) -> str:
    """Return what each number of seeds finds; `none` where no difference could be claimed."""
    each = [(n, detectable_difference(100 * sd, n, rows, tasks)) for n in SEEDS]
    return "  ".join(f"{n}: {'none' if value is None else f'{value:.1f}'}" for n, value in each)


def pooled_sd(
    scores: Mapping[str, Mapping[int, float]], base: str = BASELINE
) -> tuple[float | None, int]:
    """Return the root mean variance of differences to `base` by seed, and of how many methods.

    `scores` maps method to seed to score; methods with fewer than two seeds in common are left out.
    """
    full = scores.get(base, {})
    variances = []
    for method, by_seed in scores.items():
        shared = sorted(set(full) & set(by_seed))
        if method != base and len(shared) > 1:
            variances.append(variance(by_seed[s] - full[s] for s in shared))
    return (fmean(variances) ** 0.5 if variances else None), len(variances)
