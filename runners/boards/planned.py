"""Runs of a board or a chain: what to type for each, its name, and where it stands."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from results import places
from results import record as records
from results.errors import UserError
from runners.config.check import check
from runners.config.settings import Settings
from runners.config.stages import Control, quoted
from runners.config.typed import is_typed, key_of
from runners.config.unlabelled import STAGE
from runners.jobs.job import Job
from runners.models.about import ABOUT
from runners.models.predecessor import check_attributes, check_fits
from runners.models.teacher import check_stage
from runners.runs.lease import is_claimed
from runners.training.mixed_order import steps_order
from runners.training.schedule import total_steps

ADDS = ("pseudo", "generated")  # sections of data that have a teacher

Compose = Callable[[Sequence[str]], dict[str, Any]]
State = Literal["finished", "diverged", "failed", "claimed", "missing", "waiting"]


Trial = tuple[float, tuple[str, ...]]  # a learning rate, and options as they are typed


@dataclass(frozen=True)
class Slot:
    """A place of a board: its row, counted from 0, task and seed, and what to type for its run.

    `stages` are the runs before it, each as it is typed, and `control` replaces the chain. `trial`
    is what a search tries there.
    """

    row: int
    task: str
    seed: int
    overrides: list[str]
    stages: tuple[list[str], ...] = ()
    control: Control | None = None
    trial: Trial | None = None


@dataclass
class Planned:
    """One run of a board: its place, what to type for it, its name, and where it stands.

    A run that waits for its learning rate, or for the run `before` whose weights it starts from,
    has a name of no record. `alone` is what is typed for it but its start. One that failed is done
    `again`. The weights of one that is `passing` are for the next run only, and one that is `kept`
    is typed to save them.
    """

    slot: Slot
    overrides: list[str]
    name: str
    path: Path
    state: State = "missing"
    score: float | None = None
    seconds: float = 0.0
    message: str = ""
    again: bool = False
    alone: list[str] = field(default_factory=list)
    before: Planned | None = None
    passing: bool = False
    kept: bool = False

    def claimed(self) -> bool:
        """Say whether another process does the run now, whatever record there is already."""
        return self.state != "waiting" and is_claimed(self.path.parent, self.name)

    def look(self) -> State:
        """Read again where the run stands."""
        if self.state == "waiting":
            return self.state
        if self.record.exists():
            try:
                stored = records.read(self.record)
            except UserError as error:  # a damaged record is named; the others go on
                self.state, self.message = "failed", str(error)
            else:
                self.state, self.score = stored.status, stored.score
                self.seconds = stored.whole_seconds or 0.0
        else:
            self.state = "claimed" if self.claimed() else "missing"
        return self.state

    @property
    def record(self) -> Path:
        """The run's record: where it is written to, or among the shipped ones."""
        return places.stored(self.path)

    @property
    def delta(self) -> Path:
        """The folder in which a run leaves its weights."""
        return self.path.with_name(f"{self.name}.delta")

    def left(self) -> bool:
        """Say whether the run's weights are there."""
        return self.state == "finished" and (self.delta / ABOUT).is_file()

    def ready(self) -> bool:
        """Say whether what the run starts from is there."""
        return self.before is None or self.before.left()

    def awaited(self) -> State:
        """Return where the run stands, or the run that it waits for."""
        waits = self.state == "waiting" and self.before is not None
        return self.before.awaited() if waits and self.before is not None else self.state


def to_rehearse(runs: Iterable[Planned]) -> list[list[Planned]]:
    """Return a chain of each row that has one of which nothing is done, the longest of these."""
    chains: dict[int, list[Planned]] = {}
    for run in runs:
        chain, row = with_stages([run]), run.slot.row
        undone = chain[0].state not in records.DONE and len(chain) > 1
        if undone and len(chain) > len(chains.get(row, [])):
            chains[row] = chain
    return list(chains.values())


def with_stages(runs: Iterable[Planned]) -> list[Planned]:
    """Return runs with those that they start from, each once and before what starts from it."""
    ordered: dict[int, Planned] = {}
    for run in runs:
        chain, stage = [run], run.before
        while stage is not None:
            chain.append(stage)
            stage = stage.before
        ordered.update((id(one), one) for one in reversed(chain))
    return list(ordered.values())


class Planner:
    """Checks runs and finds out where they stand; reads data and weights once.

    A stage that several runs start from is one run; with `keep`, its weights stay.
    """

    def __init__(self, compose: Compose, keep: bool = False) -> None:
        self.compose, self.keep = compose, keep
        self.shelf: dict[str, Any] = {}
        self._stages: dict[tuple[tuple[str, ...], ...], Planned] = {}
        self._last: tuple[tuple[str, ...], Job] | None = None

    def job(self, overrides: Sequence[str]) -> Job:
        """Return what is typed as a checked job; the same one where it is asked for again at once.

        The runs before a run are read from its configuration, and then its name.
        """
        typed = tuple(overrides)
        if self._last is None or self._last[0] != typed:
            self._last = typed, Job(check(self.compose(overrides)), shelf=self.shelf)
        return self._last[1]

    def planned(self, slot: Slot) -> Planned:
        """Return a place's run, checked and named, with the runs before it."""
        *stages, last = self.chain(slot)
        before: Planned | None = None
        for n, overrides in enumerate(stages):
            chain = tuple(map(tuple, stages[: n + 1]))
            if chain not in self._stages:
                place = Slot(slot.row, f"stage {n + 1} of {slot.task}", slot.seed, overrides)
                self._stages[chain] = self.starting(place, [*overrides, "save=delta"], before)
                self._stages[chain].passing = not self.keep
            before = self._stages[chain]
        return self.starting(slot, last, before)

    def starting(self, slot: Slot, alone: list[str], before: Planned | None) -> Planned:
        """Return a run that starts from another, waiting until that is finished."""
        start = []
        if before is not None and before.state == "finished":
            start = [f"{starts_by(alone)}={_as_value(str(before.record))}"]
        job = self.job([*alone, *start])
        waits = before is not None and not start
        if before is not None and waits:
            read_ahead(job, [self.job(stage.alone) for stage in with_stages([before])])
        name = f"waits.{slot.row}.{slot.task}.s{slot.seed}" if waits else job.name
        path = records.record_path(Path(job.config.settings.out), name)
        state: State = "waiting" if waits else "missing"
        run = Planned(slot, [*alone, *start], name, path, state, alone=alone, before=before)
        run.look()
        return run

    def go_on(self, run: Planned) -> None:
        """Name a run anew by what the one before it left, and find out where it stands."""
        self._last = None  # its job read the run before as it was
        now = self.starting(run.slot, run.alone, run.before)
        run.overrides, run.name, run.path = now.overrides, now.name, now.path
        run.state, run.score, run.seconds = now.state, now.score, now.seconds

    def chain(self, slot: Slot) -> list[list[str]]:
        """Return what is typed for each run of a place, the last one its own.

        A control replaces the chain; a task without labels in one is a UserError.
        """
        if slot.stages and STAGE in map(self._teacher, (*slot.stages, slot.overrides)):
            raise UserError(
                f"a teacher={STAGE} is of a run without stages; do that chain first, and name its"
                " last run as the teacher"
            )
        chain = [run for typed in (*slot.stages, slot.overrides) for run in self.whole(typed)]
        if len(chain) > 1:
            for overrides in chain:
                refuse_vectors(self.job(overrides))
        return chain if slot.control is None else self._controlled(slot, chain)

    def _teacher(self, overrides: list[str]) -> str | None:
        return self.job(overrides).config.settings.data.teacher

    def whole(self, overrides: list[str], inner: tuple[str, ...] = ()) -> list[list[str]]:
        """Return a run after the runs that its task's own file puts before it."""
        settings = self.job(overrides).config.settings
        task = settings.task
        if settings.data.teacher == STAGE:
            return self._taught(overrides, settings)
        if task.name in inner:
            circle = " → ".join((*inner[inner.index(task.name) :], task.name))
            raise UserError(f"task={task.name}: its stages come back to it: {circle}")
        typed = [a for a in overrides if key_of(a) != "task"]
        return [
            *(
                run
                for stage in task.stages
                for run in self.whole(
                    [*typed, f"task={stage.task}", *stage.set], (*inner, task.name)
                )
            ),
            overrides,
        ]

    def _taught(self, overrides: list[str], settings: Settings) -> list[list[str]]:
        """Return a run after the same run without the rows that this one has a part in."""
        task, key = settings.task, f"data.{settings.data.adds}.teacher"
        if task.stages:
            raise UserError(
                f"{key}={STAGE}: task={task.name} has stages of its own; do that chain first, and"
                f" name its last run by {key}=RUN"
            )
        first = [a for a in overrides if not is_typed([a], *(f"data.{name}" for name in ADDS))]
        if (adds := self.job(first).config.settings.data.adds) is not None:  # of a file of data
            first = [*first, f"data.{adds}.{'teacher' if adds == 'pseudo' else 'generator'}=null"]
        named = f"{key}={STAGE}"
        return [first, overrides if starts_by(overrides) == key else [*overrides, named]]

    def _controlled(self, slot: Slot, chain: list[list[str]]) -> list[list[str]]:
        *before, target = chain
        if slot.control == "reversed":
            if len(before) < 2:
                raise UserError("control=reversed: a single stage before the target has one order")
            return [*reversed(before), target]
        jobs = [self.job(overrides) for overrides in chain]
        own = jobs[-1]
        if any(job.config.filter is not None for job in jobs):
            raise UserError(
                f"control={slot.control} counts rows of each stage, and how many data.mine.filter"
                " keeps is known when that stage begins; leave one of them out"
            )
        typed = [
            f"control.equal={slot.control}",
            f"control.stages=[{','.join(job.config.settings.task.name for job in jobs[:-1])}]",
        ]
        if slot.control == "updates":
            plain = own.config.settings.budget.steps
            typed += [f"control.steps={plain or 'null'}", f"budget.steps={sum(map(updates, jobs))}"]
        else:
            if own.config.settings.task.mixture is not None:
                raise UserError(
                    "control=data draws so many rows of one task, and data.train_size is of each"
                    f" task of {own.config.settings.task.name}; type control=updates"
                )
            typed.append(f"control.train='{own.data.train.sha256}'")
            drawn = self._drawn([*target, *typed], sum(len(job.data.train) for job in jobs))
            typed.append(f"data.train_size={drawn}")
        return [[*target, *typed]]

    def _drawn(self, control: list[str], rows: int) -> int:
        """Return how many rows to draw so that so many are left to train on.

        A selection part may be cut from what is drawn. One row more leaves at most one more, so
        that this ends.
        """
        drawn = rows
        while lacking := rows - len(self.job([*control, f"data.train_size={drawn}"]).data.train):
            drawn += lacking
        return drawn


def _as_value(path: str) -> str:
    """Return a path as it is typed after a key: in quotes where Hydra would not read it as one."""
    return path if re.fullmatch(r"[\w./+-]+", path, re.ASCII) else quoted(path)


def starts_by(alone: Sequence[str]) -> str:
    """Return the key by which a run, as it is typed alone, names the run before it."""
    for key in (f"data.{name}.teacher" for name in ADDS):
        if [a for a in alone if key_of(a) == key][-1:] == [f"{key}={STAGE}"]:
            return key
    return "start.run"


def as_shown(alone: Sequence[str]) -> list[str]:
    """Return what is typed for a run that waits, with the run before it called RUN."""
    key = starts_by(alone)
    own = [a for a in alone if a != f"{key}={STAGE}"]
    return [*own, f"{key.removesuffix('.run')}=RUN"]


def read_ahead(job: Job, before: Sequence[Job] = ()) -> None:
    """Read what a run is made from, so that what is wrong is known before a stage is begun.

    `before` are the runs of its chain, the last one that which it starts from or is taught by.
    """
    _ = job.data.splits(), job.generator, job.weights
    settings = job.config.settings
    if settings.data.teacher == STAGE:
        check_stage(settings, job.predecessor)
        return
    _ = job.teacher
    if before:
        last = before[-1]
        task = last.config.settings.task
        where = f"start from task={task.name}"
        check_fits(where, last.weights.facts, task.model_dump(), settings, job.weights)
        check_attributes(where, last.attributes, job.attributes)
        job.check_start(where, (stage for earlier in before for stage in earlier.stages))


def refuse_vectors(job: Job) -> None:
    """Refuse a task without labels in a chain."""
    task = job.config.settings.task
    if task.facts.vectors:
        raise UserError(
            f"stages: task={task.name} compares vectors of sentences, and a chain is of tasks with"
            " labels; use start=RUN"
        )


def updates(job: Job) -> int:
    """Return the number of a run's optimizer steps."""
    settings = job.config.settings
    return total_steps(settings.budget, steps_order(settings, job.data.train))
