"""Groups records into tables that may be compared, and each table's runs into cells."""

from __future__ import annotations

import itertools
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from statistics import fmean, stdev

from results.errors import UserError
from results.record import Record
from results.run_list import ListedRun, RunList
from results.tables.columns import by_column, columns_of, rank, task_of
from results.tables.conditions import Conditions, conditions
from results.tables.labels import arm_of, labels, way

CHANGED = ", changed as a run went on"  # of a run's device


@dataclass(frozen=True)
class Point:
    """One seed of a cell: its record, or None for a run that a board asks for and nobody did."""

    seed: int
    run: str
    record: Record | None

    @property
    def score(self) -> float | None:
        """The task's one number as a fraction; None unless the run finished."""
        done = self.record is not None and self.record.status == "finished"
        return self.record.score if done and self.record is not None else None

    @property
    def status(self) -> str:
        return "missing" if self.record is None else self.record.status


@dataclass(frozen=True)
class Cell:
    """The runs of one method on one task, by seed; `planned` counts unfinished and missing ones."""

    points: tuple[Point, ...]

    @property
    def scores(self) -> tuple[float, ...]:
        return tuple(p.score for p in self.points if p.score is not None)

    @property
    def seeds(self) -> tuple[int, ...]:
        """The seeds that `scores` belong to, one each."""
        return tuple(p.seed for p in self.points if p.score is not None)

    @cached_property
    def by_seed(self) -> dict[int, float]:
        return dict(zip(self.seeds, self.scores, strict=True))

    @property
    def planned(self) -> int:
        return len(self.points)

    @property
    def mean(self) -> float | None:
        return fmean(self.scores) if self.scores else None

    @property
    def sd(self) -> float | None:
        """The sample standard deviation over seeds; None for a single run."""
        return stdev(self.scores) if len(self.scores) > 1 else None

    def cost(self, name: str) -> float | None:
        """Return the mean of a record's field, such as peak_bytes, over finished runs."""
        values = [cost_of(p.record, name) for p in self.points if p.record and p.score is not None]
        known = [value for value in values if value is not None]
        return fmean(known) if known else None


@dataclass(frozen=True)
class Row:
    """A method's line: its cells by task and what it trains, in percent and stored bytes.

    `way` is how its runs came to their task, where that is not from the pretrained model alone.
    `devices` says what they ran on: with more than one entry, the row has no seconds or memory that
    another's may stand beside.
    """

    method: str
    names: tuple[str, ...]
    way: str
    cells: dict[str, Cell]
    trainable_share: float | None
    trainable_share_without_head: float | None
    trainable: float | None
    stored_bytes: float | None
    devices: tuple[str, ...]

    def points_of(self, task: str) -> tuple[Point, ...]:
        """Return the runs of a task, none where the row lacks it."""
        return self.cells[task].points if task in self.cells else ()

    @property
    def is_steady(self) -> bool:
        """Say whether all of its runs ran on one thing, each from its begin to its end."""
        return len(self.devices) < 2 and not any(CHANGED in device for device in self.devices)

    def costs_beside(self, other: Row) -> bool:
        """Say whether seconds and memory of two rows may be compared."""
        return self.is_steady and self.devices == other.devices

    def training_seconds(self, tasks: Sequence[str]) -> float | None:
        """Return the sum over tasks; None where one lacks it: a row with a gap would look cheap."""
        each = [self.cells[t].cost("training_seconds") for t in tasks if t in self.cells]
        known = [seconds for seconds in each if seconds is not None]
        return sum(known) if len(known) == len(tasks) else None

    def peak_bytes(self, tasks: Sequence[str]) -> float | None:
        """Return the largest of the tasks' peaks; None where one lacks it."""
        each = [self.cells[t].cost("peak_bytes") for t in tasks if t in self.cells]
        known = [peak for peak in each if peak is not None]
        return max(known) if known and len(known) == len(tasks) else None


@dataclass(frozen=True)
class Table:
    """Comparable runs: a row for each method and its options, a column for each task.

    `slices` are columns of a part of another's rows.
    """

    conditions: Conditions
    tasks: tuple[str, ...]
    rows: tuple[Row, ...]
    marks: dict[str, str]
    slices: frozenset[str] = frozenset()

    @property
    def counted(self) -> tuple[str, ...]:
        """The tasks that an average, ranks and costs are over: no rows are counted twice."""
        return tuple(task for task in self.tasks if task not in self.slices)

    @cached_property
    def devices(self) -> tuple[str, ...]:
        """What the runs ran on; with more than one entry, some costs may not be compared."""
        return tuple(sorted({device for row in self.rows for device in row.devices}))

    @cached_property
    def trainings(self) -> dict[str, str]:
        """By task the first one that some run was scored on as well; itself where there is none."""
        first, of_run = dict(zip(self.tasks, self.tasks, strict=True)), dict[str, str]()
        for row in self.rows:
            for task, run in ((t, p.run) for t in self.tasks for p in row.points_of(t)):
                one, other = first[task], first[of_run.setdefault(run, task)]
                earlier = min(one, other, key=self.tasks.index)
                first = {t: earlier if f in (one, other) else f for t, f in first.items()}
        return first

    @property
    def trained_apart(self) -> bool:
        """Say whether no training has several of the tasks that are counted."""
        return len({self.trainings[task] for task in self.counted}) == len(self.counted)

    @cached_property
    def timed(self) -> tuple[str, ...]:
        """The rows whose seconds and memory are shown: those that ran as most of the table did.

        None of them where no more than half ran alike.
        """
        alike = Counter(row.devices for row in self.rows if row.is_steady)
        for devices, count in alike.most_common(1):
            if 2 * count > len(self.rows):
                return tuple(row.method for row in self.rows if row.devices == devices)
        return ()

    @cached_property
    def is_shared(self) -> bool:
        """Say whether the rows whose memory is shown shared a GPU, and so have no seconds."""
        rows = [row for row in self.rows if row.method in self.timed]
        points = [p for row in rows for cell in row.cells.values() for p in cell.points]
        return any(shares_gpu(p.record) for p in points if p.record)

    @property
    def untimed(self) -> tuple[str, ...]:
        """The rows whose costs are left out, where others' are shown."""
        return (
            tuple(r.method for r in self.rows if r.method not in self.timed) if self.timed else ()
        )

    def training_seconds(self, row: Row) -> float | None:
        """Return a row's seconds, summed over tasks; None where they may not stand in the table."""
        return row.training_seconds(self.counted) if row.method in self.timed else None

    def peak_bytes(self, row: Row) -> float | None:
        """Return a row's largest peak of memory; None where it may not stand in the table."""
        return row.peak_bytes(self.counted) if row.method in self.timed else None

    @property
    def points(self) -> list[Point]:
        return [p for row in self.rows for cell in row.cells.values() for p in cell.points]


def tables(records: Iterable[Record], listed: RunList | None = None) -> list[Table]:
    """Return one table for each set of equal conditions, in the order of their headings.

    With a board's list, only its runs are shown, in its order; those without a record count too.
    """
    shown = [r for r in records if listed is None or r.run in listed.by_run]
    groups: dict[Conditions, list[Record]] = defaultdict(list)
    for key, record in zip(conditions(shown), shown, strict=True):
        groups[key] += by_column(record)
    typed = {record.run: _typed(record) for record in shown}
    return [
        _table(key, groups[key], listed, typed)
        for key in sorted(groups, key=lambda c: (c.heading(), c.weights))
    ]


def _table(
    key: Conditions, records: Sequence[Record], listed: RunList | None, typed: Mapping[str, str]
) -> Table:
    columns = columns_of(records)
    by_run = listed.by_run if listed else {}
    labelled = labels(records, {run: str(one.row) for run, one in by_run.items()})
    by_row: dict[str, dict[str, list[Record]]] = defaultdict(lambda: defaultdict(list))
    for record in records:
        by_row[labelled[record.run]][columns.name_of[record.run, record.task]].append(record)
    places = {labelled[r.run]: by_run[r.run].row for r in records if r.run in by_run}
    unseen = [] if listed is None else _unseen(listed, {typed[r.run] for r in records})
    names = {*columns.name_of.values(), *unseen}
    table_rows = [
        _row(label, by_row[label], listed.rows[places[label]] if listed else [], typed)
        for label in sorted(by_row, key=lambda n: (_method_rank(n), places.get(n, 0), n))
    ]
    return Table(
        key,
        tuple(sorted(names, key=lambda n: (rank(task_of(n)), n))),
        tuple(table_rows),
        dict(sorted(columns.marks.items())),
        frozenset(columns.name_of[r.run, r.task] for r in records if "slice" in r.data),
    )


def _ran(record: Record) -> bool:
    return bool(record.environment.get("device"))


def _unseen(listed: RunList, seen: set[str]) -> list[str]:
    """Return the tasks that a board asks for and of which no run has a record."""
    return [task for task in dict.fromkeys(one.task for one in listed.runs) if task not in seen]


def _method_rank(label: str) -> int:
    return 0 if label == "full" or label.startswith("full (") else 1


def _row(
    label: str,
    by_task: dict[str, list[Record]],
    listed: Sequence[ListedRun],
    typed: Mapping[str, str],
) -> Row:
    """Return a row; `typed` says of each run what task= it was given."""
    cells = {}
    missing: dict[str, list[ListedRun]] = defaultdict(list)
    there = {r.run for records in by_task.values() for r in records}
    for one in listed:
        if one.run not in there:
            missing[one.task].append(one)
    kinds = {task: typed[records[0].run] for task, records in by_task.items()}
    unfinished = _unfinished(by_task)
    others = [task for task in missing if task not in kinds.values()]
    for task in (*by_task, *others):
        own = [*by_task.get(task, []), *unfinished.get(task, [])]
        points = [Point(r.seed, r.run, r) for r in own]
        points += [Point(a.seed, a.run, None) for a in missing.get(kinds.get(task, task), [])]
        points = _once(sorted(points, key=lambda p: (p.seed, p.run)))
        for first, second in itertools.pairwise(points):
            if first.seed == second.seed and first.run == second.run:
                raise UserError(
                    f"{first.run}: two files are a record of this run, on one kind of device; keep"
                    " one of them, or name a folder that holds only one"
                )
            if first.seed == second.seed:
                raise UserError(
                    f"{first.run} and {second.run} are the same method, task and seed, and their"
                    " settings do not tell them apart: keep one of the two records"
                )
        cells[task] = Cell(tuple(points))
    counted = [[r.parameters for r in records if r.parameters] for records in by_task.values()]
    stored = [[r.stored_bytes for r in f if r.stored_bytes is not None] for f in by_task.values()]
    return Row(
        label,
        tuple(next(iter(by_task.values()))[0].methods),
        way(next(iter(by_task.values()))[0]),
        cells,
        _over_tasks([[100 * p["trainable"] / p["total"] for p in ps] for ps in counted]),
        _over_tasks(
            [[100 * p["trainable_without_head"] / p["total"] for p in ps] for ps in counted]
        ),
        _over_tasks([[p["trainable"] for p in ps] for ps in counted]),
        _over_tasks(stored),
        tuple(sorted({device(r) for rs in by_task.values() for r in rs if _ran(r)})),
    )


def _unfinished(by_task: Mapping[str, Sequence[Record]]) -> dict[str, list[Record]]:
    """Return by column the runs that would have a part there, had they finished.

    These are of a column that shares a run with it: a slice, or another set that is reported.
    """
    runs = {task: {r.run for r in records} for task, records in by_task.items()}
    return {
        task: [
            r
            for other, records in by_task.items()
            if other != task and runs[other] & runs[task]
            for r in records
            if r.status != "finished" and r.run not in runs[task]
        ]
        for task in by_task
    }


def _once(points: Sequence[Point]) -> list[Point]:
    """Leave out runs that trained what the one before did: another name is for what they report."""
    kept: list[Point] = []
    for point in points:
        if not (kept and _trained_alike(kept[-1], point)):
            kept.append(point)
    return kept


def _trained_alike(one: Point, other: Point) -> bool:
    if one.record is None or other.record is None or one.seed != other.seed:
        return False
    sets = [r.config.get("task", {}).get("further") for r in (one.record, other.record)]
    return sets[0] != sets[1] and one.record.trained_sha256 == other.record.trained_sha256


def _over_tasks(known: Sequence[Sequence[float]]) -> float | None:
    """Return the mean of the tasks' means: heads differ by task, and so may the seeds there are."""
    return _mean([fmean(values) for values in known if values])


def _typed(record: Record) -> str:
    """Return what task= was given: the record's, of which a set of vectors is a part.

    Of an arm, that is the task whose column it stands in.
    """
    if (task_of_arm := arm_of(record)) is not None:
        return task_of_arm
    task = record.config.get("task")
    return str(task["name"]) if isinstance(task, dict) and "name" in task else record.task


def _mean(values: Sequence[float]) -> float | None:
    return fmean(values) if values else None


def shares_gpu(record: Record) -> bool:
    """Say whether other runs were on a run's GPU: its seconds are no one's, its memory is its own.

    They are of what the others did meanwhile, however many these were.
    """
    return (
        bool(record.environment.get("shared_device")) and record.environment.get("device") != "cpu"
    )


def cost_of(record: Record, name: str) -> float | None:
    """Return a record's field, such as training_seconds; None where it is not the run's own."""
    is_lost = name == "training_seconds" and shares_gpu(record)
    value: float | None = None if is_lost else getattr(record, name)
    return value


def device(record: Record) -> str:
    """Say what a run ran on as far as it decides its seconds: device, threads, sharing, speed.*."""
    facts, speed = record.environment, record.config.get("speed", {})
    name = str(facts.get("device_name"))
    if facts.get("device") == "cpu":
        name += f", {facts.get('threads')} thread(s)"
        name += "" if speed.get("fast_dropout") else ", torch's dropout"
        name += ", oneDNN products" if facts.get("onednn_products") else ""
        name += ", memory given back" if speed.get("release_memory") else ""
        name += ", padding left out" if facts.get("skip_padding") else ""
    elif speed.get("prefetch") is False:
        name += ", no prefetching"
    name += ", copies of weights" if facts.get("bf16_copies") else ""
    name += ", layers computed twice" if speed.get("gradient_checkpointing") else ""
    if facts.get("device") != "cpu":
        name += ", CUDA graphs" if facts.get("graphs") else ""
        name += ", splits on the device" if speed.get("resident") else ""
    name += ", last layer for the first token" if speed.get("first_token") else ""
    name += ", rows of its own tokens" if speed.get("trim_vocabulary") else ""
    beside = 0 if shares_gpu(record) else facts.get("runs_beside")
    name += f", {beside} run(s) beside" if beside else ""
    name += ", shared" if facts.get("shared_device") else ""
    name += CHANGED if facts.get("changed") else ""
    return name + (" through MPS" if facts.get("mps") and facts.get("shared_device") else "")
