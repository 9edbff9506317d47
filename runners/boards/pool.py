"""Runs planned runs in processes of their own."""

from __future__ import annotations

import os
import threading
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path

from results import record as records
from results.errors import UserError
from runners.boards.planned import Planned, Planner
from runners.boards.view import View, clock
from runners.machine.console import PROGRESS, first_line, say
from runners.machine.processes import config_dir, end
from runners.machine.warm import Process, start, warm
from runners.runs.passing import mark, unmark
from runners.runs.run import CLAIMED, NOT_FINISHED

WAIT = 2.0  # seconds between looks at runs that other processes do


@dataclass
class Pool:
    """Runs planned runs in `workers` processes at a time and tells how far it is.

    With a `view`, that is also shown on a terminal while it goes.
    """

    planned: list[Planned]
    planner: Planner
    workers: int
    threads: int
    devices: list[str]
    logs: Path
    view: View | None = None
    running: dict[int, Planned] = field(default_factory=dict)
    ended: int = 0
    began: float = field(default_factory=time.monotonic)
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _processes: set[Process] = field(default_factory=set)
    _left: list[Planned] = field(default_factory=list)
    _stopped: bool = False

    def go(self) -> None:
        """Do every run; those that other processes do come last, and are done if these die."""
        self._left = list(self.planned)
        pool = [threading.Thread(target=self._work, args=(i,)) for i in range(self.workers)]
        with warm(len(self.planned) > 1), self.view.shown() if self.view else nullcontext():
            for thread in pool:
                thread.start()
            try:
                for thread in pool:
                    while thread.is_alive():
                        thread.join(0.2)
                        self._show()
            except BaseException:
                self._stop()
                raise

    def _show(self) -> None:
        if self.view is not None:
            with self._lock:
                running, states = list(self.running.values()), self._counts()
            names = [run.name for run in running]
            self.view.show(names, states, self.ended, len(self.planned))

    def _stop(self) -> None:
        with self._lock:
            self._stopped = True
            processes = list(self._processes)
        end(processes)

    def _next(self) -> Planned | None:
        """Take the first run that can be done now; None when nothing is left to take."""
        while not self._stopped:
            with self._lock:
                self._drop_what_waits_in_vain()
                if not self._left:
                    return None
                run = next((r for r in self._left if r.ready() and not r.claimed()), None)
                if run is not None:
                    self._left = [one for one in self._left if one is not run]
                    if run.before is not None and not self._goes_on(run):
                        continue
                    if run.kept:
                        unmark(run.path)
                    if run.passing:
                        run.look()  # somebody may have asked for its weights in the meantime
                        if not run.left():
                            mark(run.path)
                    self.running[id(run)] = run
                    return run
            time.sleep(WAIT)
        return None

    def _goes_on(self, run: Planned) -> bool:
        """Say whether a run that starts from another can begin; if not, the failures tell why.

        It is named anew: what it starts from may have been done again, with other weights.
        """
        try:
            self.planner.go_on(run)
        except UserError as error:
            run.message = str(error)
            self.ended += 1
        return run.state != "waiting"

    def _drop_what_waits_in_vain(self) -> None:
        """Leave out runs whose stage has ended without leaving weights."""
        left: list[Planned] = []
        while len(left) != len(self._left):
            coming = {id(run) for run in self._left}
            left, self._left = (
                self._left,
                [
                    run
                    for run in self._left
                    if run.before is None
                    or run.ready()
                    or id(run.before) in coming
                    or id(run.before) in self.running
                ],
            )
            self.ended += len(left) - len(self._left)

    def _do_again_before(self, run: Planned) -> None:
        """Leave a run to do, after the stages whose weights are gone, back to one that has its."""
        coming = {id(one) for one in (*self._left, *self.running.values())}
        chain = [run]
        while (stage := chain[0].before) is not None and not stage.left():
            chain.insert(0, stage)
        again = [stage for stage in chain[:-1] if id(stage) not in coming]
        self.ended -= len(again)
        self._left += [*again, run]

    def _work(self, worker: int) -> None:
        while (run := self._next()) is not None:
            finished = run.again and run.look() == "finished"  # by another process meanwhile
            claimed = not finished and self._tried(run, worker) == CLAIMED
            with self._lock:
                del self.running[id(run)]
                if self._stopped:
                    return
                if claimed:  # by a process that was a moment earlier
                    self._left.append(run)
                    continue
                if run.look() not in records.DONE and not run.ready():
                    self._do_again_before(run)  # another process removed what it starts from
                    continue
                self.ended += 1
                if run.look() not in records.DONE and run.state != "failed":
                    run.state = "failed"
                self._tell(run)

    def _tried(self, run: Planned, worker: int) -> int:
        """Do as `_once`; a run that this machine has no room to start has failed, with its why."""
        try:
            return self._once(run, worker)
        except OSError as error:
            run.message = first_line(error)
            return NOT_FINISHED

    def _once(self, run: Planned, worker: int) -> int:
        """Start the run's process and wait for it; return its exit code."""
        own = environment(self.workers, self.threads, self.devices, worker)
        if self.view is not None:
            self.view.progress(run.name).unlink(missing_ok=True)  # of a board that was killed
            own[PROGRESS] = str(self.view.progress(run.name))
        log = self.logs / f"{run.name}.log"
        with log.open("ab") as stream:
            with self._lock:
                if self._stopped:
                    return 0
                process = start([*config_dir(), *run.overrides], own, stream.fileno())
                self._processes.add(process)
            code = process.wait()
            with self._lock:
                self._processes.discard(process)
        if self.view is not None:
            self.view.progress(run.name).unlink(missing_ok=True)
        run.message = _last_line(log) if code not in (0, CLAIMED) else ""
        return code

    def _tell(self, run: Planned) -> None:
        states = self._counts()
        left = len(self.planned) - self.ended
        seconds = (time.monotonic() - self.began) / max(1, self.ended) * left
        score = f" {run.score:.4f}" if run.score is not None else ""
        say(
            f"{run.state}{score} {run.name} | done {states['finished']} running"
            f" {len(self.running)} failed {states['failed'] + states['diverged']} remaining {left}"
            f" ends in {clock(seconds)}"
        )

    def _counts(self) -> Counter[str]:
        return Counter(p.state for p in self.planned)


def environment(workers: int, threads: int, devices: Sequence[str], worker: int) -> dict[str, str]:
    """Return what one worker's process finds: its threads, its GPU where there are some."""
    own = {
        **os.environ,
        "OMP_NUM_THREADS": str(threads),
        "MKL_NUM_THREADS": str(threads),
        "TUNEBENCH_RUNS_BESIDE": str(workers - 1),
    }
    if devices:
        own["CUDA_VISIBLE_DEVICES"] = devices[worker % len(devices)]
        own["TUNEBENCH_SHARED_DEVICE"] = str(int(workers > len(devices)))
    return own


def _last_line(log: Path) -> str:
    lines = log.read_text(errors="replace").strip().splitlines()
    return lines[-1][:300] if lines else ""
