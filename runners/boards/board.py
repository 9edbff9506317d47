"""Boards: many runs from one definition, each in a process of its own, and only those missing."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from results import record as records
from results.errors import UserError
from results.places import program
from results.run_list import write_list
from runners.boards.estimate import estimate
from runners.boards.passing import keep, keep_typed, remove_unneeded
from runners.boards.plan import (
    Board,
    board_file,
    listed,
    plan,
    search_command,
)
from runners.boards.planned import Compose, Planned, Planner, as_shown, to_rehearse, with_stages
from runners.boards.pool import Pool, environment
from runners.boards.view import View
from runners.config.acts import Sweep
from runners.config.check import check
from runners.config.problems import sentences
from runners.machine.console import say
from runners.machine.processes import config_dir, stopped_together
from runners.runs.passing import starting_stages


def run_board(composed: dict[str, Any], typed: Sequence[str], compose: Compose) -> int:
    """Run what a board lacks, or list it; return 0 when every run of it is finished."""
    board = _checked(Board, composed["board"], "board.", board_file(typed))
    sweep = _checked(Sweep, {k: composed[k] for k in Sweep.model_fields}, "")
    if sweep.list is not None and (not sweep.plan or sweep.search):
        raise UserError(f"list={sweep.list} goes with plan=true, and not with search=true")
    planner = Planner(compose, composed["keep"])
    cells = plan(board, typed, planner, sweep.search)
    runs = with_stages(cells)
    to_do = to_be_done(runs, ("failed", "diverged") if sweep.retry else ("missing", "claimed"))
    counts = Counter(run.state for run in runs)
    states = ", ".join(f"{n} {state}" for state, n in sorted(counts.items()))
    say(f"board {board.name}: {len(runs)} runs, {states}; {len(to_do)} to do")
    wait = sum(run.awaited() == "waiting" for run in runs)
    if wait:
        say(f"{wait} runs wait for a learning rate: {search_command(typed)} finds it")
    if sweep.plan:
        for run in runs:
            waits = run.before is not None and run.state == "waiting"
            own = as_shown(run.overrides) if waits else run.overrides
            command = f"{program()} {shlex.join([*config_dir(), *own])}"
            print(f"{run.state:9} {run.name}  {command}")
        if sweep.list is not None:
            say(f"list: {write_list(listed(board, cells), Path(sweep.list))}")
        _tell_cost([*to_do, *(r for r in runs if r.awaited() == "waiting")], runs, sweep, compose)
        return 0
    keep_typed(cells)
    if to_do:
        again = [_again(run) for run in to_do] if sweep.retry else to_do
        _do(again, board.name, planner, sweep, typed)
    spoiled = _spoiled(runs, to_do)
    if composed["keep"]:
        keep(runs)
    else:
        remove_unneeded(runs)
    unfinished = [run for run in runs if run.look() != "finished"]
    for run in spoiled:
        why = run.message or f".logs/{run.name}.log says why"
        say(f"without its weights: {run.name}  {why}")
    for run in (run for run in unfinished if run.state != "waiting" or run.message):
        say(f"{run.state}: {run.name}  {run.message}".rstrip())
    return 1 if unfinished else 0


def _spoiled(runs: Sequence[Planned], to_do: Sequence[Planned]) -> list[Planned]:
    """Return the stages that were done and left no weights, where a run is still to start there."""
    later = [run for run in runs if run.before is not None and run.look() not in records.DONE]
    needed = {id(run.before) for run in later}
    done = [run for run in to_do if id(run) in needed and run.look() == "finished"]
    return [run for run in done if not run.left()]


def _do(
    runs: list[Planned], name: str, planner: Planner, sweep: Sweep, typed: Sequence[str]
) -> None:
    """Do runs in the processes that a board may have; what does not fit is told before any."""
    first = check(planner.compose(runs[0].overrides)).settings
    devices = _devices(first.device)
    if len(devices) and sweep.workers > len(devices) and not sweep.share_device:
        raise UserError(
            f"workers={sweep.workers} on {len(devices)} GPU(s): each run owns one; use"
            f" workers={len(devices)}, or share_device=true, which the records then say"
        )
    threads = _threads(first.threads, sweep.workers)
    out = Path(first.out)
    records.check_writable(out)
    if chains := to_rehearse(runs):
        from runners.training.rehearsal import rehearse

        for chain in chains:
            rehearse([planner.job(run.alone) for run in chain])
    logs = out / ".logs"
    logs.mkdir(exist_ok=True)
    view = View.where_seen(name, logs)
    with starting_stages(), stopped_together(typed):
        Pool(runs, planner, sweep.workers, threads, devices, logs, view).go()


def to_be_done(runs: Sequence[Planned], states: Sequence[str]) -> list[Planned]:
    """Return the runs that are in these states or wait for one that is, in their order.

    A stage is done again where its weights are gone and such a run starts from them.
    """
    chosen = {id(run) for run in runs if run.awaited() in states}
    for run in reversed(runs):
        stage = run.before
        if id(run) in chosen and stage is not None and not stage.left():
            chosen.add(id(stage))
    return [run for run in runs if id(run) in chosen]


def _threads(typed: int | None, workers: int) -> int:
    """Return the threads of each run: what was typed, else an equal share of the cores."""
    return typed or max(1, (os.cpu_count() or 1) // workers)


def _tell_cost(
    left: Sequence[Planned], runs: Sequence[Planned], sweep: Sweep, compose: Compose
) -> None:
    """Print what was spent, and what is left to spend."""
    spent = sum(run.seconds for run in runs)
    say(f"done: {sum(r.state in records.DONE for r in runs)} runs, {_hours(spent)} of runs")
    if not left or not sweep.estimate:
        return
    settings = check(compose(left[0].overrides)).settings
    threads = _threads(settings.threads, sweep.workers)
    rows = len({run.slot.row for run in left})
    say(f"calibrating {rows} rows, a few steps each; estimate=false leaves that out")
    devices = _devices(settings.device)
    each = [environment(sweep.workers, threads, devices, i) for i in range(sweep.workers)]
    cost = estimate(left, compose, each)
    say(
        f"to do: {cost.runs} runs, {cost.real_tokens:,} real tokens, about"
        f" {_hours(cost.seconds)} here with workers={sweep.workers} threads={threads}"
    )


def _hours(seconds: float) -> str:
    return f"{seconds / 3600:.3g} hours"


def _again(run: Planned) -> Planned:
    if run.state in ("failed", "diverged"):
        run.overrides, run.again = [*run.overrides, "force=true"], True
    return run


def _checked(schema: type[Any], given: Any, prefix: str, where: str = "") -> Any:
    try:
        return schema.model_validate(given)
    except ValidationError as error:
        raise UserError(where + "; ".join(sentences(error, prefix, given, schema))) from None


def _devices(device: str) -> list[str]:
    """Return the GPUs that a board's runs share out; one by its number is a UserError."""
    if ":" in device:
        number = device.partition(":")[2]
        raise UserError(
            f"board= with device={device}: a board gives each of its runs a GPU; name those it may"
            f" use by CUDA_VISIBLE_DEVICES={number} and leave device= out"
        )
    return [] if device in ("cpu", "mps") else _gpus()


def _gpus() -> list[str]:
    """Return the GPUs that runs may use, without importing torch."""
    named = os.environ.get("CUDA_VISIBLE_DEVICES")
    if named is not None:
        parts = [part.strip() for part in named.split(",")]
        hidden = [i for i, part in enumerate(parts) if not part or part.startswith("-")]
        return parts[: hidden[0]] if hidden else parts  # as CUDA reads it
    try:
        listed = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return []
    return re.findall(r"^GPU (\d+):", listed.stdout, flags=re.MULTILINE)
