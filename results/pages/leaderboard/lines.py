"""Ranks a table's rows and says of each what a leaderboard shows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from results.pages.sheet import difference_text, listed, share_entry
from results.stats.collapsed import collapsed_seeds
from results.stats.compare import Comparison
from results.stats.paired import Difference
from results.stats.pairing import average, lead, shared_seeds
from results.tables.collect import Row, Table


@dataclass(frozen=True)
class Line:
    """A row of a leaderboard: scores are fractions, `tied` is None where the seeds are too few.

    `adjusted` is the p value of its difference among all those of the table that have the seeds,
    `collapsed` the number of its runs that learned nothing.
    """

    name: str
    score: float | None
    tied: bool | None
    is_baseline: bool
    difference: Difference | None
    adjusted: float | None
    claimed: bool
    seeds: str
    trainable: float | None
    share: float | None
    seconds: float | None
    collapsed: int = 0


def lines(table: Table, judged: Comparison) -> list[Line]:
    """Return the rows, the best first; those without a score on every task come last."""
    column = lead(table)
    tied, untested = judged.tied.get(column), judged.untested.get(column, frozenset())
    shown = []
    for row in table.rows:
        key = (row.method, column)
        score = average(row, table.counted)
        alone = tied is None or score is None or row.method in untested
        shown.append(
            Line(
                name=row.method,
                score=score,
                tied=None if alone or tied is None else row.method in tied,
                is_baseline=row.method == judged.baseline,
                difference=judged.differences.get(key),
                adjusted=judged.adjusted.get(key),
                claimed=judged.claimed(key),
                seeds=seeds_text(row, column, table.counted),
                trainable=row.trainable,
                share=row.trainable_share,
                seconds=table.training_seconds(row),
            )
        )
    known = [line for line in shown if line.score is not None]
    ranked = sorted(known, key=lambda line: line.score or 0.0, reverse=True)
    return ranked + [line for line in shown if line.score is None]


def collapsed_runs(table: Table) -> dict[str, list[list[int]]]:
    """Return for each row and task the seeds that score no better than the majority class."""
    return {
        row.method: [
            collapsed_seeds(row.cells[task]) if task in row.cells else [] for task in table.tasks
        ]
        for row in table.rows
    }


def untimed_note(table: Table) -> str:
    """Return whose seconds are left out and why; empty where all are shown."""
    if table.devices and not table.timed:
        return "No seconds: the runs' devices or speed settings differ."
    if table.is_shared:
        return "No seconds: several runs shared a GPU."
    if table.untimed:
        return f"No seconds of {listed(table.untimed)}: made on another device or settings."
    return ""


def seeds_text(row: Row, column: str, tasks: Sequence[str]) -> str:
    """Return how many seeds finished on every task, and of how many where some did not."""
    finished = len(shared_seeds(row, row, column, tasks))
    wanted = max(cell.planned for cell in row.cells.values())
    return str(finished) if finished == wanted else f"{finished}/{wanted}"


def gap_text(line: Line) -> str:
    """Return a line's difference in points with its interval."""
    if line.is_baseline:
        return "baseline"
    return "–" if line.difference is None else difference_text(line.difference)


def trainable_text(count: float | None, share: float | None) -> str:
    """Return trainable parameters, and which part of the weights they are."""
    if count is None or share is None:
        return "–"
    if count >= 999_500:
        size = f"{count / 1e6:.3g} M" if count < 999.5e6 else f"{count / 1e6:,.0f} M"
    else:
        size = f"{count / 1e3:.3g} k" if count >= 1000 else f"{count:.0f}"
    return f"{size} ({share_entry(share).text} %)"
