"""A chain of runs: each stage starts from what the one before it left, the last is the target.

A run whose teacher is a stage is the last of two: it begins anew, and the first one labels rows.

Every stage is an ordinary run with a record of its own, in a process of its own. What is finished
is not done again, unless the next stage needs its weights and they were not kept; a stage that
another process does is waited for.
"""

from __future__ import annotations

import shlex
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from results import record as records
from results.places import program
from runners.boards.passing import keep, remove
from runners.boards.plan import overrides_of
from runners.boards.planned import Compose, Planned, Planner, Slot, as_shown, read_ahead
from runners.config.acts import CHAIN_KEYS
from runners.config.stages import Stage, checked
from runners.config.typed import is_typed, key_of
from runners.machine.console import say
from runners.machine.processes import config_dir, run_alone, stopped_together
from runners.machine.warm import warm
from runners.runs.passing import mark, starting_stages
from runners.runs.run import CLAIMED, FINISHED, NOT_FINISHED

WAIT = 2.0  # seconds between looks at a stage that another process does


def run_chain(composed: dict[str, Any], typed: Sequence[str], compose: Compose) -> int:
    """Do what a chain lacks, or list it; return 0 when its last run is finished."""
    planner = Planner(compose, composed["keep"])
    listed = composed["stages"]
    stages = [Stage(task=composed["task"]["name"])] if listed is None else checked(listed)
    *before, target = steps_of(stages, typed)
    control = composed["control"]["equal"]
    slot = Slot(0, stages[-1].task, 0, target, tuple(before), control)
    chain = Chain(planner.chain(slot), planner, composed["force"])
    jobs = [planner.job(step) for step in chain.steps]
    for number, job in enumerate(jobs):  # what is wrong is known first
        read_ahead(job, jobs[:number])
    if composed["plan"]:
        return chain.list()
    first = chain.run_of(0)
    if chain.last > 0 and (first is None or first.state != "finished"):
        from runners.training.rehearsal import rehearse

        rehearse(jobs)
    last = chain.run_of(chain.last)
    if chain.force or last is None or last.state != "finished":
        records.check_writable(Path(jobs[-1].config.settings.out))
    with starting_stages(), stopped_together(typed), warm(chain.last > 0):
        code = chain.finish(chain.last)
    if planner.keep:
        keep(chain.begun())
    elif code == FINISHED:
        chain.remove_passing()
    return code


def steps_of(stages: Sequence[Stage], typed: Sequence[str]) -> list[list[str]]:
    """Return what is typed for each stage: what is common, its task, its own settings."""
    common = [a for a in overrides_of(typed) if not is_typed([a], "plan", "control", *CHAIN_KEYS)]
    common = [a for a in common if not is_typed([a], "own_process")]
    common = [a for a in common if key_of(a) != "task"]
    return [[*common, f"task={stage.task}", *stage.set] for stage in stages]


def _stamp(path: Path) -> float | None:
    """Return when a record was written; None where there is none."""
    return path.stat().st_mtime if path.is_file() else None


@dataclass
class Chain:
    """The runs of a chain, by stage; a stage's run is known when the one before it is finished.

    With `force`, each stage is done again once.
    """

    steps: list[list[str]]
    planner: Planner
    force: bool = False
    _done: set[int] = field(default_factory=set)

    @property
    def last(self) -> int:
        return len(self.steps) - 1

    def run_of(self, stage: int) -> Planned | None:
        """Return a stage's run and where it stands; None where the one before is not finished."""
        before = self.run_of(stage - 1) if stage else None
        if stage and (before is None or before.state != "finished"):
            return None
        kept = [] if stage == self.last else ["save=delta"]
        typed = [*self.steps[stage], *kept]
        return self.planner.starting(Slot(0, "", 0, typed), typed, before)

    def finish(self, stage: int, left: bool = False) -> int:
        """Do a stage and what it needs; `left`, its weights are needed too. Return its exit code.

        The last stage is started even where it is finished: that prints its stored result.
        """
        run = self.run_of(stage)
        forced = self.force and stage not in self._done
        if run is not None and not forced:
            if run.state == "diverged" and stage < self.last:
                return self._ends(stage, run)
            if run.state == "finished" and stage < self.last and (not left or run.left()):
                return FINISHED
        if stage and (run is None or not self._is_whole(run) or left or forced):
            code = self.finish(stage - 1, left=True)
            if code != FINISHED:
                return code
        return self._do(stage)

    def _do(self, stage: int) -> int:
        run = self.run_of(stage)
        assert run is not None
        say(f"stage {stage + 1} of {len(self.steps)}: {run.name}")
        if stage < self.last and not run.left() and not self.planner.keep:
            mark(run.path)
        stamp = _stamp(run.path)
        code = self._start(run)
        if code == FINISHED and stage < self.last and _stamp(run.path) != stamp:
            run.look()
            if not run.left():  # it was done here, and its weights could not be written
                return self._ends(stage, run)
        before = self.run_of(stage - 1) if stage else None
        if code != FINISHED and before is not None and not before.left():
            # Another chain, which shares that stage, has ended and removed what it had made.
            code = self.finish(stage - 1, left=True) or self._start(run)
        self._done.add(stage)
        if code != FINISHED and stage < self.last:
            run.look()
            return self._ends(stage, run, code)
        return code

    def _start(self, run: Planned) -> int:
        """Do a run in a process of its own, once no other process does it; return its exit code."""
        while (code := run_alone([*config_dir(), *run.overrides])) == CLAIMED:
            time.sleep(WAIT)
        return code

    def _ends(self, stage: int, run: Planned, code: int = NOT_FINISHED) -> int:
        how = "whose weights are not there" if run.state == "finished" else f"which is {run.state}"
        say(f"the chain ends at stage {stage + 1}, {how}: {run.name}")
        return code

    def _is_whole(self, run: Planned) -> bool:
        """Say whether a run is finished and left what is to be kept."""
        return run.state == "finished" and ("save=delta" not in run.overrides or run.left())

    def begun(self) -> list[Planned]:
        """Return the runs that are known, in their order."""
        runs = (self.run_of(stage) for stage in range(len(self.steps)))
        return [run for run in runs if run is not None]

    def remove_passing(self) -> None:
        """Remove the weights that were made for the next stage only."""
        for run in self.begun()[: self.last]:
            remove(run)

    def list(self) -> int:
        """Print a line a stage: where its run stands, its name, and the command that does it."""
        for stage, overrides in enumerate(self.steps):
            run = self.run_of(stage)
            state = "waiting" if run is None else run.state
            name = f"stage {stage + 1} waits for the one before" if run is None else run.name
            typed = as_shown(overrides) if run is None else run.overrides
            command = f"{program()} {shlex.join([*config_dir(), *typed])}"
            print(f"{state:9} {name}  {command}")
        return FINISHED
