"""Decides sentences of papers from records: supported, contradicted, undecided, not testable."""

from __future__ import annotations

import itertools
from collections import defaultdict
from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from statistics import fmean, median
from typing import Any, Literal

import yaml

from results.errors import UserError
from results.papers.models import is_of_model
from results.papers.printed import Printed
from results.papers.questions import Answer, Best, Gap, Question, Ratio, answers
from results.record import Record
from results.run_list import RunList
from results.stats.pairing import apart_on, seeds_of
from results.tables.collect import Cell, Row, Table, shares_gpu, tables
from results.tables.columns import task_of
from results.tables.labels import row_name

UNEVEN = 1.25  # seeds of one cell differ 1.1-fold on a quiet machine, 1.5-fold on a busy one


PATHS = tuple(
    Path(__file__).parent / f"{name}.yaml"
    for name in ("claims", "private", "unlabelled", "lacking")
)


Verdict = Literal["supported", "contradicted", "undecided", "not testable here"]


@dataclass(frozen=True, kw_only=True)
class Claim:
    """A sentence and what decides it.

    `method`, or the best of several, minus the best of `above`, on the tasks all have, must reach
    `points`; with `for_each_task`, minus the best of `above` on each task by itself; with `more_on`
    and `than_on`, the difference on the former minus that on the latter. `seconds_at_most` and
    `memory_at_most` are ratios of training seconds and peak memory (the median over pairs of runs
    of one task and seed), `share_at_most` percent trained without the head. `train` is `all` or the
    number of training rows. `options` are settings of the rows that have their method, as
    `hype.distribution=normal`, or `child_tuning_d.select=` where a row must not say it; those of
    `above` are `options_above` where it is given. `model`, as a paper names it, and `tasks` are
    what a table must have; of `among`, what it has counts. `lacks` says what is missing here for
    any test. A `generated` one is of generated data alone. `printed` is where the paper's own
    numbers stand, `note` why they do not give what the sentence says.
    """

    claim: str
    source: str
    method: str | list[str]
    above: list[str]
    for_each_task: bool = False
    points: float | None = None
    seconds_at_most: float | None = None
    memory_at_most: float | None = None
    share_at_most: float | None = None
    more_on: list[str] = field(default_factory=list)
    than_on: list[str] = field(default_factory=list)
    train: str | int | None = None
    options: list[str] = field(default_factory=list)
    options_above: list[str] | None = None
    model: str = ""
    tasks: list[str] = field(default_factory=list)
    among: list[str] = field(default_factory=list)
    lacks: str = ""
    generated: bool = False
    decided: str = ""
    provisional: str = ""
    printed: Printed | None = None
    note: str = ""

    @property
    def methods(self) -> list[str]:
        return [self.method] if isinstance(self.method, str) else self.method


@dataclass(frozen=True)
class Judged:
    """A claim's verdict on one table: the table's heading and the numbers; none where no table."""

    claim: Claim
    verdict: Verdict
    heading: str
    numbers: str


@cache
def known_claims(*paths: Path) -> tuple[Claim, ...]:
    """Read the claims, of this folder if no file is named; a wrong file is a UserError."""
    claims = []
    for path in paths or PATHS:
        try:
            content = yaml.safe_load(path.read_text(encoding="utf-8"))
            claims += [_read(entry) for entry in content]
        except (OSError, TypeError, AttributeError, yaml.YAMLError) as error:
            raise UserError(f"{path}: {error}") from None
    return tuple(claims)


def _read(entry: dict[str, Any]) -> Claim:
    printed = entry.get("printed")
    return Claim(**entry | {"printed": None if printed is None else Printed(**printed)})


@dataclass(frozen=True)
class _OnTable:
    """A claim on one table: what is to be answered, or why it cannot be, and further words."""

    claim: Claim
    heading: str
    question: Question | None
    words: str = ""
    is_testable: bool = True


def claims(
    records: Sequence[Record],
    known: Sequence[Claim] | None = None,
    listed: RunList | None = None,
) -> list[Judged]:
    """Return a verdict for each claim on each table that can decide it, or why none can.

    All verdicts hold together, 95 times in 100: their intervals are simultaneous. Rows are those of
    a board's list, where one is given.
    """
    compared = tables(records, listed)
    each: list[_OnTable] = []
    for claim in known_claims() if known is None else known:
        fit = [(i, t) for i, t in enumerate(compared) if _is_of(claim, t)]
        of_claim = [one for i, table in fit if (one := _on(claim, table, i)) is not None]
        each += of_claim or [_OnTable(claim, "", None, _needs(claim), is_testable=False)]
    testable = [one.question for one in each if one.question is not None and one.is_testable]
    answered = iter(answers(testable))
    return [_judged(one, answered) for one in each]


def _judged(one: _OnTable, answered: Iterator[tuple[Answer, str]]) -> Judged:
    verdict: Verdict = "undecided" if one.is_testable else "not testable here"
    numbers = ""
    if one.question is not None and one.is_testable:
        verdict, numbers = next(answered)
    elif one.question is not None:
        numbers = answers([one.question])[0][1]
    said = [one.claim.provisional if one.question is not None else "", numbers, one.words]
    return Judged(one.claim, verdict, one.heading, "; ".join(part for part in said if part))


def _is_of(claim: Claim, table: Table) -> bool:
    """Say whether a table's model, which all of its records share, is what the claim asks for."""
    records = [p.record for p in table.points if p.record is not None]
    named = not claim.model or any(is_of_model(r, claim.model) for r in records)
    return named and not claim.lacks


def _needs(claim: Claim) -> str:
    if claim.lacks:
        return claim.lacks
    options = _with(claim.options)
    rows = [*claim.methods, *claim.above]
    if claim.options_above is not None:
        rows = [m + options for m in claim.methods] + [
            m + _with(claim.options_above) for m in claim.above
        ]
        options = ""
    data = {None: "", "all": " on complete training sets"}.get(
        claim.train if isinstance(claim.train, str) else None, ""
    )
    if isinstance(claim.train, int):
        data = f" on {claim.train:,} training rows"
    if claim.more_on:
        data += f", of {', '.join(claim.more_on)} and of {', '.join(claim.than_on)}"
    data += f", of {', '.join(claim.tasks)}" if claim.tasks else ""
    data += f", of any of {', '.join(claim.among)}" if claim.among else ""
    model = f" on {claim.model}" if claim.model else ""
    return f"needs records of {' and '.join(rows)}{options}{model}{data}"


def _with(options: Sequence[str]) -> str:
    """Return in words what rows must say among their options."""
    said = [option for option in options if not option.endswith("=")]
    return f" with {', '.join(said)}" if said else ""


def _on(claim: Claim, table: Table, place: int) -> _OnTable | None:
    above = claim.options if claim.options_above is None else claim.options_above
    sides = ((claim.methods, claim.options), (claim.above, above))
    of_name = [[_rows(table, name, options) for name in rows] for rows, options in sides]
    if not all(map(all, of_name)) or (table.conditions.source == "embedded") != claim.generated:
        return None
    mine, others = ([rows[0] for rows in side] for side in of_name)
    columns = _columns(claim, table, [*mine, *others])
    if claim.more_on and not all(
        columns.keys() & group for group in (claim.more_on, claim.than_on)
    ):
        return None
    if wanted := claim.tasks or claim.among:
        columns = {task: column for task, column in columns.items() if task in wanted}
    if not columns or len(columns) < len(claim.tasks):
        return None
    tasks = list(columns.values())
    heading = f"{table.conditions.heading()}; {', '.join(tasks)}"
    question, words, is_testable = _question(claim, mine, others, tasks, table, place)
    words = "; ".join(filter(None, [words, *_first_of([*of_name[0], *of_name[1]])]))
    return _OnTable(claim, heading, question, words, is_testable and not claim.provisional)


def _best(rows: Sequence[Row], tasks: Sequence[str]) -> Row:
    return max(rows, key=lambda r: fmean(r.cells[t].mean or 0 for t in tasks))


def _best_of_each(rows: Sequence[Row], tasks: Sequence[str]) -> Row:
    """Return a row that has on each task the cell of the row which is best there."""
    cells = {t: max((r.cells[t] for r in rows), key=lambda c: c.mean or 0) for t in tasks}
    name = f"the best of {', '.join(r.method for r in rows)} on each task"
    return replace(rows[0], method=name, cells=cells)


def _best_by_others(rows: Sequence[Row], tasks: Sequence[str]) -> Row:
    """Return a row that has, for each task and seed, the run of the row best by the other seeds."""
    cells = {}
    for task in tasks:
        each = [{p.seed: p for p in r.cells[task].points if p.score is not None} for r in rows]
        seeds = sorted(set.intersection(*map(set, each)))
        if len(seeds) > 1:
            totals = [sum(runs[s].score or 0 for s in seeds) for runs in each]
            chosen = [
                max(zip(totals, each, strict=True), key=lambda one: one[0] - (one[1][s].score or 0))
                for s in seeds
            ]
            points = (runs[s] for s, (_, runs) in zip(seeds, chosen, strict=True))
            cells[task] = Cell(tuple(points))
    return replace(rows[0], method="the best by other seeds", cells=cells)


def _rows(table: Table, name: str, options: Sequence[str]) -> list[Row]:
    """Return the rows of a name with every option of its methods, those of the latest version.

    The name is that of its methods alone; one of another optimizer, or that comes another way, is
    named with it: `full, super_adam`, `full after mnli`.
    """
    fit = defaultdict[tuple[int, ...], list[Row]](list)
    for row in table.rows:
        records = [p.record for cell in row.cells.values() for p in cell.points if p.record]
        if not records or row_name(records[0]) != name:
            continue
        methods = records[0].config["method"]
        said = {f"{m['name']}.{k}": v for m in methods for k, v in m.items()}
        wanted = [o.partition("=") for o in options if o.partition(".")[0] in row.names]
        if all(str(said.get(key, "")) == value for key, _, value in wanted):
            fit[tuple(int(m.get("version", 1)) for m in methods)].append(row)
    return fit[max(fit)] if fit else []


def _first_of(of_name: Sequence[Sequence[Row]]) -> list[str]:
    """Return words for each name that several rows have, of which the first is taken."""
    each = {rows[0].method: len(rows) - 1 for rows in of_name if len(rows) > 1}
    return [f"{name} is the first of {more + 1} such rows" for name, more in each.items()]


def _columns(claim: Claim, table: Table, rows: Sequence[Row]) -> dict[str, str]:
    """Return the tasks that all rows have as the claim wants them, each with its column.

    Of several columns of one task it is that of the most training rows.
    """
    fit = [t for t in table.counted if all(_fits(claim, row, t) for row in rows)]
    fit.sort(key=lambda column: -_train_rows(rows[0], column))
    columns: dict[str, str] = {}
    for column in fit:
        columns.setdefault(task_of(column), column)
    return {task_of(t): t for t in table.counted if t in columns.values()}


def _train_rows(row: Row, column: str) -> int:
    """Return how many rows were trained on, 0 where no record says it."""
    records = (p.record for p in row.points_of(column) if p.record is not None)
    return max((r.data["splits"].get("train", {}).get("rows", 0) for r in records), default=0)


def _fits(claim: Claim, row: Row, task: str) -> bool:
    """Say whether a row has the task, on the complete training set or as many rows as wanted."""
    if task not in row.cells:
        return False
    for point in row.cells[task].points if claim.train is not None else ():
        split = {} if point.record is None else point.record.data["splits"].get("train", {})
        if isinstance(claim.train, int) and split.get("rows", claim.train) != claim.train:
            return False
        if claim.train == "all" and split.get("complete") is False:
            return False
    return True


def _question(
    claim: Claim,
    mine: Sequence[Row],
    others: Sequence[Row],
    tasks: Sequence[str],
    table: Table,
    place: int,
) -> tuple[Question | None, str, bool]:
    """Return what is to be answered, what is said with it, and whether it can be tested here.

    A unit whose sign may be flipped is a table, by its place, and what it is within it.
    """
    best, other = _best(mine, tasks), _best(others, tasks)
    cost = {"training_seconds": claim.seconds_at_most, "peak_bytes": claim.memory_at_most}
    for name, most in cost.items():
        if most is not None:
            return _cost(name, most, best, other, tasks, table, place)
    question = _difference(claim, mine, others, tasks, table, place)
    if question is None:
        return None, "no seed is finished for both", True
    share = best.trainable_share_without_head
    if claim.share_at_most is None or share is None:
        return question, "", True
    words = f"trains {share:.2g} % without head, at most {claim.share_at_most:g} needed"
    return question, words, share <= claim.share_at_most


def _difference(
    claim: Claim,
    mine: Sequence[Row],
    others: Sequence[Row],
    tasks: Sequence[str],
    table: Table,
    place: int,
) -> Gap | Best | None:
    """Return the question of two rows' difference, or of the best of some; None without a seed."""

    def gap(one: Row, other: Row) -> Gap | None:
        return _gap(claim, one, other, tasks, table, place)

    best, other = _best(mine, tasks), _best(others, tasks)
    if claim.for_each_task:
        other = _best_of_each(others, tasks)
    shown = gap(best, other)
    if shown is None or len(mine) == len(others) == 1:
        return shown
    low = high = [[gap(one, two) for two in others] for one in mine]
    if claim.for_each_task:
        # What the data choose is too hard to beat, what other seeds choose is not hard enough.
        low = [[gap(one, other)] for one in mine]
        high = [[gap(one, _best_by_others(others, tasks))] for one in mine]
    if None in itertools.chain(*low, *high):
        return None
    rows = f"{_of(best, mine)} − {other.method if claim.for_each_task else _of(other, others)}"
    ends = (tuple(tuple(one for one in line if one) for line in lines) for lines in (low, high))
    return Best(replace(shown, rows=rows), *ends)


def _of(row: Row, rows: Sequence[Row]) -> str:
    return row.method if len(rows) == 1 else f"{row.method} (best of {len(rows)})"


def _gap(
    claim: Claim, mine: Row, other: Row, tasks: Sequence[str], table: Table, place: int
) -> Gap | None:
    """Return the differences on the tasks, or by seed those of two groups of tasks."""
    more = [t for t in tasks if not claim.more_on or task_of(t) in claim.more_on]
    than = [t for t in tasks if claim.more_on and task_of(t) in claim.than_on]
    seeds = seeds_of(mine, other, [*more, *than])
    first, second = apart_on(mine, other, more, table), apart_on(mine, other, than, table)
    if not seeds or first is None:
        return None
    units = dict(first.by_unit)
    if second is not None:
        gaps = [dict(zip(one.seeds, one.by_seed, strict=True)) for one in (first, second)]
        units = {seed: float(gaps[0][seed] - gaps[1][seed]) for seed in seeds}
    return Gap(
        rows=f"{mine.method} − {other.method}",
        values={(place, unit): value for unit, value in units.items()},
        seeds=len(seeds),
        needed=(claim.points or 0.0) / 100,
        why=claim.decided,
    )


def _cost(
    name: str, most: float, mine: Row, other: Row, tasks: Sequence[str], table: Table, place: int
) -> tuple[Ratio | None, str, bool]:
    """Return the ratios of a record's field over pairs of finished runs.

    What a process holds before it trains would pull ratios of its memory towards 1: on a GPU, the
    peak is of what was allocated there.
    """
    words = {"training_seconds": "training seconds", "peak_bytes": "peak memory"}[name]
    if name == "peak_bytes" and table.conditions.device != "cuda":
        return None, "a CPU's peak is its whole process's, libraries too", False
    if not mine.costs_beside(other):
        return None, "the runs' devices, threads, sharing or speed settings differ", False
    if name == "training_seconds" and any(map(_shares_gpu, (mine, other))):
        return None, "several runs shared a GPU, so that their seconds are no one's", False
    if name == "training_seconds":
        for row in (mine, other):
            if (uneven := _unevenness(row, tasks)) > UNEVEN:
                why = f"seconds of {row.method} differ {uneven:.2f}-fold between seeds of one cell"
                return None, f"{why}: the machine did other work too", False
    ratios: dict[Hashable, float] = {}
    for task in tasks:
        pair = [
            {p.seed: p.record for p in r.cells[task].points if p.score is not None}
            for r in (mine, other)
        ]
        for seed in sorted(set(pair[0]) & set(pair[1])):
            one, two = (getattr(side[seed], name, None) for side in pair)
            unit = (place, (table.trainings[task], seed))  # what shares a training has one cost
            if one and two and unit not in ratios:
                ratios[unit] = one / two
    if not ratios:
        return None, f"no pair of runs with {words}", True
    return Ratio(words, ratios, most), "", True


def _shares_gpu(row: Row) -> bool:
    records = (p.record for cell in row.cells.values() for p in cell.points)
    return any(shares_gpu(record) for record in records if record is not None)


def _unevenness(row: Row, tasks: Sequence[str]) -> float:
    """Return the median over tasks of the largest time of a step as a multiple of the smallest."""
    ratios = []
    for task in tasks:
        points = (p.record for p in row.cells[task].points if p.score is not None)
        each = [
            r.training_seconds / r.steps for r in points if r and r.training_seconds and r.steps
        ]
        if len(each) > 1:
            ratios.append(max(each) / min(each))
    return median(ratios) if ratios else 1.0
