"""A run from Python: `run(["method=bitfit", "task=rte"])` returns its record.

It is done in a process of its own, as the command does it. A run sets what a process has one of:
threads, deterministic kernels, the library of matrix products, accelerate's state, the global
random streams; and its record holds the peak of its process's memory. In a notebook's process it
would change what else is done there, and be changed by it.
"""

from __future__ import annotations

import json
import os
import shlex
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TextIO

from results.errors import UserError
from results.places import expanded
from results.record import DONE, Record, read
from runners.config.acts import acts_of, is_chain, refuse_unused, teacher_of
from runners.config.check import check
from runners.config.compose import no_other_hydra
from runners.config.explain import compose_explained
from runners.config.spelling import spelled_out
from runners.config.unlabelled import STAGE
from runners.machine.console import BAR, PROGRESS, in_words
from runners.machine.processes import end
from runners.machine.warm import start
from runners.runs.sweep import NOTES

LOOK_EVERY = 0.1  # seconds between looks at a run
REFUSED, CLAIMED = 2, 3  # exit codes of a run


class RunFailed(RuntimeError):
    """A run ended without a result; `record` says how, where it left one."""

    def __init__(self, line: str, record: Record | None = None) -> None:
        super().__init__(line)
        self.record = record


def run(
    overrides: str | Sequence[str], *, config_dir: str | Path | None = None, show: bool = True
) -> Record:
    """Do the run that these keys ask for, or take its stored result; return the record.

    `overrides` are what the command is given, in a list or as one line: `method=bitfit task=rte`.
    With `show`, standard error gets what the command says there, and a bar of the steps where that
    is a terminal or a notebook. A mistake, and a run that another process does, is a UserError; a
    run that fails is RunFailed; one that diverges has a record of that status.
    """
    typed = shlex.split(overrides) if isinstance(overrides, str) else [*map(str, overrides)]
    folder = None if config_dir is None else Path(expanded(str(config_dir)))
    options = [] if folder is None else ["--config-dir", str(folder)]
    with no_other_hydra():
        _check(typed, folder)
    with tempfile.TemporaryDirectory(prefix="tunebench-run-") as place:
        course = _Course(Path(place), show)
        return _result(course.go([*options, *typed]), course)


def _check(typed: Sequence[str], folder: Path | None) -> None:
    """Raise a UserError where this is not the configuration of one run."""
    if not typed:
        raise UserError(
            "run() takes keys and values, as method=bitfit task=rte, and was given none"
        )
    for argument in typed:
        if argument.startswith("-") or not ("=" in argument or argument.startswith("~")):
            raise UserError(f"run() takes keys and values, as method=bitfit, not {argument!r}")
    if folder is not None and not folder.is_dir():
        raise UserError(f"config_dir={folder}: no such folder")
    composed = compose_explained(typed, folder)
    acts = acts_of(composed)
    refuse_unused(acts, composed, spelled_out(typed))
    several = [key for key in ("board", "stages") if composed.get(key) is not None]
    if other := [*acts.named, *several]:
        raise UserError(f"run() does one run, and {other[0]}= is for the command: python run.py")
    if teacher_of(composed) == STAGE:
        raise UserError(
            f"run() does one run, and a teacher={STAGE} is another before it: do that with"
            " save=delta, and name it as the teacher"
        )
    if is_chain(composed):
        name = composed["task"]["name"]
        raise UserError(f"run() does one run, and task={name} is a chain: type python run.py")
    check(composed)


class _Course:
    """A run's process, and what it says while it goes; all in files of a folder."""

    def __init__(self, place: Path, show: bool) -> None:
        self.place, self.show = place, show
        self.errors: list[str] = []  # lines from "error: " on
        self.last = ""
        self._bar: Any = None

    def go(self, arguments: Sequence[str]) -> int:
        """Do the run and return its exit code; an interruption ends it, after a checkpoint."""
        notes, progress = self.place / "notes", self.place / "progress"
        own = {**os.environ, NOTES: str(notes), PROGRESS: str(progress)}
        printed, said = self.place / "printed", self.place / "said"
        with printed.open("wb") as out, said.open("wb") as errors:
            process = start(arguments, own, out.fileno(), errors.fileno())
        try:
            with said.open(encoding="utf-8", errors="replace") as stream:
                while (code := process.poll()) is None:
                    self._look(stream, progress)
                    time.sleep(LOOK_EVERY)
                self._look(stream, progress)
        except BaseException:
            end([process])
            raise
        finally:
            if self._bar is not None:
                self._bar.close()
        return code

    def record(self) -> Record | None:
        """Return the record that the run wrote, or that was there."""
        try:
            lines = (self.place / "notes").read_text(encoding="utf-8").splitlines()
        except FileNotFoundError:
            return None
        places = [facts["record"] for facts in map(json.loads, lines) if "record" in facts]
        return read(Path(places[-1])) if places else None

    def _look(self, stream: TextIO, progress: Path) -> None:
        """Show what was said since the last look, and how far the run is."""
        while line := self._line(stream):
            if self.errors or line.startswith("error: "):
                self.errors.append(line.removeprefix("error: ").rstrip("\n"))
                continue
            self.last = line.strip() or self.last
            if self.show:
                _bars().write(line.rstrip("\n"), file=sys.stderr)
        if self.show:
            self._advance(progress)

    def _line(self, stream: TextIO) -> str:
        """Return the next line; empty where it is not written to its end."""
        before = stream.tell()
        line = stream.readline()
        if line and not line.endswith("\n"):
            stream.seek(before)
            return ""
        return line

    def _advance(self, progress: Path) -> None:
        try:
            facts = json.loads(progress.read_text())
        except FileNotFoundError:
            return
        if self._bar is None:  # disable=None: it is shown in notebooks and on terminals
            self._bar = _bars()(
                total=facts["steps"], disable=None, leave=False, bar_format=BAR, dynamic_ncols=True
            )
        self._bar.set_postfix_str(in_words(facts), refresh=False)
        self._bar.update(facts["step"] - self._bar.n)


def _bars() -> Any:
    from tqdm.auto import tqdm

    return tqdm


def _result(code: int, course: _Course) -> Record:
    """Return the record of a run that ended with this exit code."""
    if code == REFUSED:
        raise UserError(*(course.errors or [course.last]))
    if code == CLAIMED:
        raise UserError(course.last)
    record = course.record()
    if record is not None and record.status in DONE:
        return record
    reason = (record and record.error) or {}
    line = reason.get("message") or course.last or "it said nothing"
    raise RunFailed(f"the run ended with exit code {code}: {line}", record)
