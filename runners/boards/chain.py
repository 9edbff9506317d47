"""A chain of runs: each stage starts from what the one before it left, the last is the target.

Every stage is an ordinary run with a record of its own, in a process of its own. What is finished
is not done again; a stage that another process does is waited for.
"""

from __future__ import annotations

import shlex
import shutil
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from results.errors import UserError
from runners.boards.plan import Compose, Planned, Planner, Slot, overrides_of
from runners.config.acts import CHAIN_KEYS
from runners.config.check import check
from runners.config.stages import Stage, checked
from runners.config.typed import is_typed
from runners.machine.console import say
from runners.machine.processes import config_dir, run_alone
from runners.runs.run import CLAIMED, FINISHED, NOT_FINISHED

WAIT = 2.0  # seconds between looks at a stage that another process does


@dataclass
class Step:
    """A stage with what is typed for its run, but for its start; `run` is known once it can be."""

    stage: Stage
    overrides: list[str]
    run: Planned | None = None


def run_chain(composed: dict[str, Any], typed: Sequence[str], compose: Compose) -> int:
    """Do what a chain lacks, or list it; return 0 when its last run is finished."""
    steps = steps_of(checked(composed["stages"]), typed)
    for step in steps:
        settings = check(compose(step.overrides)).settings
        if settings.task.facts.vectors:
            raise UserError(
                f"stages: task={settings.task.name} compares vectors of sentences, and a chain"
                " is of tasks with labels; use start=RUN"
            )
    planner = Planner(compose)
    if composed["plan"]:
        return _list(steps, planner)
    created: list[Path] = []
    for number, step in enumerate(steps):
        started = _starting(steps, number)
        run = planner.planned(Slot(0, step.stage.task, 0, started))
        say(f"stage {number + 1} of {len(steps)}, task={step.stage.task}: {run.name}")
        kept = run.path.with_suffix(".delta")
        was_there = kept.is_dir()
        code = _finish(run, last=number == len(steps) - 1)
        step.run = planner.planned(run.slot)
        if code != FINISHED:
            say(f"the chain ends at stage {number + 1}, which is {step.run.state}")
            return code
        if number < len(steps) - 1 and not was_there:
            created.append(kept)
    if not composed["keep"]:
        for folder in created:
            shutil.rmtree(folder, ignore_errors=True)
    return FINISHED


def steps_of(stages: Sequence[Stage], typed: Sequence[str]) -> list[Step]:
    """Return each stage with what is typed for it: what is common, its task, its own settings."""
    common = [
        a for a in overrides_of(typed) if not is_typed([a], "plan", "own_process", *CHAIN_KEYS)
    ]
    last = len(stages) - 1
    return [
        Step(stage, [*common, f"task={stage.task}", *stage.set, *(["save=delta"] * (i < last))])
        for i, stage in enumerate(stages)
    ]


def _starting(steps: Sequence[Step], number: int) -> list[str]:
    """Return what is typed for a stage, with the run before it, which is finished."""
    step = steps[number]
    before = steps[number - 1].run if number else None
    return step.overrides if before is None else [*step.overrides, f"start.run={before.name}"]


def _finish(run: Planned, last: bool) -> int:
    """Do a run unless it is done and left what the next stage needs; return its exit code."""
    while True:
        lacks = not last and not run.path.with_suffix(".delta").is_dir()
        if run.look() == "diverged" and not last:
            return NOT_FINISHED
        if run.state == "finished" and not lacks and not last:
            return FINISHED
        code = run_alone([*config_dir(), *run.overrides])
        if code != CLAIMED:
            return code
        time.sleep(WAIT)


def _list(steps: Sequence[Step], planner: Planner) -> int:
    """Print a line a stage: where its run stands, its name, and the command that does it."""
    known = True
    for number, step in enumerate(steps):
        if known:
            run = planner.planned(Slot(0, step.stage.task, 0, _starting(steps, number)))
            step.run, state, name = run, run.state, run.name
            overrides = run.overrides
        else:
            state, name = "waiting", f"{step.stage.task} after stage {number}"
            overrides = [*step.overrides, "start=RUN"]
        command = shlex.join(["python", "run.py", *config_dir(), *overrides])
        print(f"{state:9} {name}  {command}")
        known = known and state == "finished"
    return FINISHED
