"""Which difference so many seeds can detect, task by task, from the records there are."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from statistics import fmean, variance

from results.record import Record
from results.stats.compare import BASELINE, baseline
from results.stats.paired import detectable_difference
from results.tables.collect import Table, tables

SEEDS = (3, 5, 6, 8, 10, 20)


def power(records: Sequence[Record]) -> str:
    """Return, for each table and task, the smallest difference to `full` that n seeds detect.

    In points, by a paired t-test at level .05 with power .8; the spread of the per-seed differences
    is pooled over the methods that share at least two seeds with `full`.
    """
    texts = [_of_table(table) for table in tables(records)]
    if not any(texts):
        return (
            "no method shares two seeds of a task with full fine-tuning yet: the spread of the"
            " differences is unknown\n"
        )
    return "\n".join(text for text in texts if text)


def _of_table(table: Table) -> str:
    scores: dict[str, dict[str, dict[int, float]]] = defaultdict(dict)
    for row in table.rows:
        for task, cell in row.cells.items():
            scores[task][row.method] = dict(zip(cell.seeds, cell.scores, strict=True))
    base, choice = baseline(table)
    if base is None:
        return ""
    lines = []
    for task in table.tasks:
        sd, methods = pooled_sd(scores[task], base.method)
        if sd is None:
            continue
        detected = (detectable_difference(100 * sd, n) for n in SEEDS)
        shown = "  ".join(
            f"{n}: {value:.1f}" for n, value in zip(SEEDS, detected, strict=True) if value
        )
        lines.append(
            f"{task}: sd of a seed's difference {100 * sd:.2f} points ({methods} methods);"
            f" detectable with n seeds  {shown}"
        )
    lines = [choice, *lines] if choice and lines else lines
    return "\n".join([table.conditions.heading(), "", *lines, ""]) if lines else ""


def pooled_sd(
    scores: dict[str, dict[int, float]], base: str = BASELINE
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
