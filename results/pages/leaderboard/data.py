"""Writes what a browser needs to compute a leaderboard anew: scores by row, task and seed."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from results.pages.leaderboard.lines import trainable_text, untimed_note
from results.printable import printable
from results.stats.compare import Comparison
from results.stats.paired import FEWEST, LEVEL
from results.tables.collect import Row, Table


def to_json(table: Table, judged: Comparison, collapsed: Mapping[str, list[list[int]]]) -> str:
    """Return JSON that may stand in a page: scores are fractions, names show what would act.

    Rows are named by their place, so that two whose names look alike stay two. `collapsed` holds
    for each row and task the seeds that learned nothing.
    """
    rows = [
        {**_row(row, table), "collapsed": list(map(len, collapsed[row.method]))}
        for row in table.rows
    ]
    base = next((i for i, row in enumerate(table.rows) if row.method == judged.baseline), None)
    content = {
        "baseline": base,
        "tasks": list(map(printable, table.tasks)),
        "trainings": [table.tasks.index(table.trainings[task]) for task in table.tasks],
        "untimed": printable(untimed_note(table)),
        "level": LEVEL,
        "fewest": FEWEST,
        "rows": rows,
    }
    text = json.dumps(content, allow_nan=False, separators=(",", ":"))
    return text.replace("&", "\\u0026").replace("<", "\\u003c").replace(">", "\\u003e")


def _row(row: Row, table: Table) -> dict[str, Any]:
    """Return a row: scores by task, each a mapping from seed; seconds by task.

    Scores are written in full: of shortened ones, sums that are equal would differ, and a test that
    counts sums as large as the one observed would miss them.
    """
    cells = [row.cells.get(task) for task in table.tasks]
    timed = row.cells.keys() - table.slices if row.method in table.timed else set()
    seconds = [
        cell.cost("training_seconds") if cell and task in timed else None
        for task, cell in zip(table.tasks, cells, strict=True)
    ]
    return {
        "name": printable(row.method),
        "scores": [cell.by_seed if cell else {} for cell in cells],
        "planned": [cell.planned if cell else 0 for cell in cells],
        "seconds": [None if value is None else _short(value) for value in seconds],
        "trainable": None if row.trainable is None else _short(row.trainable),
        "size": trainable_text(row.trainable, row.trainable_share),
    }


def _short(value: float) -> float:
    return float(f"{value:.9g}")
