"""Decides sentences of papers from records: supported, contradicted, undecided, not testable."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from statistics import fmean, median
from typing import Literal

import numpy as np
import yaml

from results.errors import UserError
from results.papers.models import is_of_model
from results.record import Record
from results.stats.compare import columns, difference, points, shared_seeds
from results.stats.paired import FEWEST, Difference, compare, median_interval
from results.tables.collect import Row, Table, tables

PATH = Path(__file__).parent / "claims.yaml"


Verdict = Literal["supported", "contradicted", "undecided", "not testable here"]


@dataclass(frozen=True, kw_only=True)
class Claim:
    """A sentence and what decides it.

    `method` minus the best of `above`, on the tasks both have, must reach `points`; with `more_on`
    and `than_on`, the difference on the former minus that on the latter. `seconds_at_most` and
    `memory_at_most` are ratios of training seconds and peak memory (the median over pairs of runs
    of one task and seed), `share_at_most` percent trained
    without the head. `train` is `all` or the most rows that a low-data setting may have. `options`
    are settings of the rows; `model`, as a paper names it, and `tasks` are what a table must have.
    `lacks` says what is missing here for any test. A `generated` one is of generated data alone.
    """

    claim: str
    source: str
    method: str
    above: list[str]
    points: float | None = None
    seconds_at_most: float | None = None
    memory_at_most: float | None = None
    share_at_most: float | None = None
    more_on: list[str] = field(default_factory=list)
    than_on: list[str] = field(default_factory=list)
    train: str | int | None = None
    options: list[str] = field(default_factory=list)
    model: str = ""
    tasks: list[str] = field(default_factory=list)
    lacks: str = ""
    generated: bool = False
    decided: str = ""
    provisional: str = ""


@dataclass(frozen=True)
class Judged:
    """A claim's verdict on one table: the table's heading and the numbers; none where no table."""

    claim: Claim
    verdict: Verdict
    heading: str
    numbers: str


@cache
def known_claims(path: Path = PATH) -> tuple[Claim, ...]:
    """Read the claims; a file that is wrong is a UserError."""
    try:
        return tuple(Claim(**entry) for entry in yaml.safe_load(path.read_text(encoding="utf-8")))
    except (OSError, TypeError, yaml.YAMLError) as error:
        raise UserError(f"{path}: {error}") from None


def claims(records: Sequence[Record], known: Sequence[Claim] | None = None) -> list[Judged]:
    """Return a verdict for each claim on each table that can decide it, or why none can."""
    compared = tables(records)
    judgements = []
    for claim in known_claims() if known is None else known:
        fit = [t for t in compared if _is_of(claim, t)]
        each = [judged for table in fit if (judged := _on(claim, table)) is not None]
        judgements += each or [Judged(claim, "not testable here", "", _needs(claim))]
    return judgements


def _is_of(claim: Claim, table: Table) -> bool:
    """Say whether a table's model, which all of its records share, is what the claim asks for."""
    records = [p.record for p in table.points if p.record is not None]
    named = not claim.model or any(is_of_model(r, claim.model) for r in records)
    return named and not claim.lacks


def _needs(claim: Claim) -> str:
    if claim.lacks:
        return claim.lacks
    rows = " and ".join([claim.method, *claim.above])
    data = {None: "", "all": " on complete training sets"}.get(
        claim.train if isinstance(claim.train, str) else None, ""
    )
    if isinstance(claim.train, int):
        data = f" on at most {claim.train:,} training rows"
    if claim.more_on:
        data += f", of {', '.join(claim.more_on)} and of {', '.join(claim.than_on)}"
    data += f", of {', '.join(claim.tasks)}" if claim.tasks else ""
    options = f" with {', '.join(claim.options)}" if claim.options else ""
    model = f" on {claim.model}" if claim.model else ""
    return f"needs records of {rows}{options}{model}{data}"


def _on(claim: Claim, table: Table) -> Judged | None:
    mine = _row(table, claim.method, claim.options)
    others = [r for name in claim.above if (r := _row(table, name, claim.options)) is not None]
    if mine is None or not others or (table.conditions.source == "embedded") != claim.generated:
        return None
    tasks = [t for t in table.tasks if _fits(claim, mine, t)]
    tasks = [t for t in tasks if t in mine.cells and all(t in r.cells for r in others)]
    if claim.more_on and not (set(tasks) & set(claim.more_on) and set(tasks) & set(claim.than_on)):
        return None
    if claim.tasks:
        tasks = [t for t in tasks if t in claim.tasks]
    if not tasks or len(tasks) < len(claim.tasks) or len(claim.above) > len(others):
        return None
    other = max(others, key=lambda r: fmean(r.cells[t].mean or 0 for t in tasks))
    heading = f"{table.conditions.heading()}; {', '.join(tasks)}"
    if claim.seconds_at_most is not None:
        most, cost = claim.seconds_at_most, ("training_seconds", "training seconds")
        verdict, numbers = _by_cost(cost, most, mine, other, tasks, table)
    elif claim.memory_at_most is not None:
        most, cost = claim.memory_at_most, ("peak_bytes", "peak memory")
        verdict, numbers = _by_cost(cost, most, mine, other, tasks, table)
    else:
        verdict, numbers = _by_score(claim, mine, other, tasks, table)
    if claim.provisional:
        return Judged(claim, "not testable here", heading, f"{claim.provisional}; {numbers}")
    return Judged(claim, verdict, heading, numbers)


def _row(table: Table, name: str, options: Sequence[str]) -> Row | None:
    """Return the row of a method alone, of several the first with every option.

    One that comes another way is named with it: `full after mnli`.
    """
    for row in table.rows:
        if "+".join(row.names) + row.way != name:
            continue
        records = [p.record for cell in row.cells.values() for p in cell.points if p.record]
        given = {f"{k}={v}" for m in records[0].config["method"] for k, v in m.items()}
        if set(options) <= given:
            return row
    return None


def _fits(claim: Claim, row: Row, task: str) -> bool:
    """Say whether a task's training set is as complete, or as small, as the claim asks."""
    if claim.train is None or task not in row.cells:
        return True
    for point in row.cells[task].points:
        split = {} if point.record is None else point.record.data["splits"].get("train", {})
        complete = split.get("complete") is not False
        if isinstance(claim.train, int) and split.get("rows", 0) > claim.train:
            return False
        if claim.train == "all" and not complete:
            return False
    return True


def _by_score(
    claim: Claim, mine: Row, other: Row, tasks: Sequence[str], table: Table
) -> tuple[Verdict, str]:
    needed = claim.points or 0.0
    gap = _difference(claim, mine, other, tasks, table)
    if gap is None:
        return "undecided", "no seed is finished for both"
    numbers = f"{mine.method} − {other.method}: {points(gap.mean)} points, {_seeds(gap)}"
    numbers += f"; needed {points(needed / 100)}" + (f" ({claim.decided})" if claim.decided else "")
    if claim.share_at_most is not None and mine.trainable_share_without_head is not None:
        share = mine.trainable_share_without_head
        numbers += f"; trains {share:.2g} % without head, at most {claim.share_at_most:g} needed"
        if share > claim.share_at_most:
            return "not testable here", numbers
    if gap.interval is None:
        return "undecided", f"{numbers}; too few seeds for an interval ({FEWEST} are needed)"
    low, high = gap.interval
    # A sentence that says "above", with 0 needed, is not supported by no difference at all.
    reached = 100 * low > needed if needed == 0 else 100 * low >= needed
    missed = 100 * high < needed
    return ("supported" if reached else "contradicted" if missed else "undecided"), numbers


def _seeds(gap: Difference) -> str:
    interval = gap.interval
    shown = "" if interval is None else f" [{points(interval[0])}, {points(interval[1])}]"
    return f"{gap.pairs} pairs{shown}"


def _difference(
    claim: Claim, mine: Row, other: Row, tasks: Sequence[str], table: Table
) -> Difference | None:
    """Return the difference of averages over the tasks by seed, or of two groups of tasks."""
    if not claim.more_on and list(tasks) == list(table.tasks):
        return difference(mine, other, columns(table)[-1], table)
    groups = [[t for t in tasks if not claim.more_on or t in claim.more_on]]
    groups += [[t for t in tasks if t in claim.than_on]] if claim.more_on else []
    shared = [set(shared_seeds(mine, other, t, table.tasks)) for group in groups for t in group]
    seeds = sorted(set.intersection(*shared)) if shared else []
    if not seeds:
        return None
    sides = [
        np.mean(
            [[r.cells[t].by_seed[s] for s in seeds] for t in groups[0]], axis=0
        ) - (np.mean([[r.cells[t].by_seed[s] for s in seeds] for t in groups[1]], axis=0)
             if len(groups) > 1 else 0.0)
        for r in (mine, other)
    ]  # fmt: skip
    return compare(list(sides[0]), list(sides[1]))


def _by_cost(
    cost: tuple[str, str], most: float, mine: Row, other: Row, tasks: Sequence[str], table: Table
) -> tuple[Verdict, str]:
    """Decide by the ratio of a record's field, given with its name in words, of finished runs."""
    name, words = cost
    if len(table.devices) > 1:
        return "not testable here", "the runs' devices, threads, sharing or speed settings differ"
    ratios = []
    # Sets of sentence vectors share one training, and so one cost.
    for task in tasks[:1] if table.conditions.vectors else tasks:
        pair = [
            {p.seed: p.record for p in r.cells[task].points if p.score is not None}
            for r in (mine, other)
        ]
        for seed in sorted(set(pair[0]) & set(pair[1])):
            one, two = (getattr(side[seed], name, None) for side in pair)
            if one and two:
                ratios.append(one / two)
    if not ratios:
        return "undecided", f"no pair of runs with {words}"
    interval = median_interval(ratios)
    shown = "" if interval is None else f" [{interval[0]:.2f}, {interval[1]:.2f}]"
    numbers = f"median ratio of {words} {median(ratios):.2f}{shown} over {len(ratios)} pairs of"
    numbers += f" runs ({min(ratios):.2f} to {max(ratios):.2f}); at most {most:g} needed"
    if interval is None:
        return "undecided", f"{numbers}; too few pairs for an interval"
    supported, contradicted = interval[1] <= most, interval[0] > most
    return "supported" if supported else "contradicted" if contradicted else "undecided", numbers
