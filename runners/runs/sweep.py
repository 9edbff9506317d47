"""The runs of one command with -m: each is announced, and one table at the end is of them all.

A sweep's runs are done by this process, by processes of its own, or by a launcher's. Each adds a
line to a file that the environment names, which so comes from all that share this machine's files.
"""

from __future__ import annotations

import contextlib
import json
import os
import shlex
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser

from results.errors import UserError
from runners.machine.console import say
from runners.machine.processes import as_typed
from runners.machine.warm import warm

NOTES = "TUNEBENCH_SWEEP"  # names the file to which the runs of a sweep add a line each
ENDS = {
    1: "failed or diverged",
    2: "was refused",
    3: "is left to another process",
}


def note(**facts: Any) -> None:
    """Add facts to the notes of the sweep that this run belongs to, if it does."""
    place = os.environ.get(NOTES)
    if place is not None:
        with contextlib.suppress(OSError), Path(place).open("a", encoding="utf-8") as stream:
            stream.write(json.dumps(facts) + "\n")


@dataclass
class Sweep:
    """What was typed for a sweep, and its notes; inside a job of it, which job that is."""

    typed: Sequence[str] = ()
    notes: Path | None = None
    _swept: tuple[int | None, frozenset[str]] | None = None

    @contextlib.contextmanager
    def of(self, typed: Sequence[str]) -> Iterator[None]:
        """Gather the notes of the runs that a block does, and print what they say at its end.

        `typed` are the keys that are set for them. Their processes are forked from a warm one.
        """
        apart = "own_process=false" not in typed
        with warm(apart), tempfile.TemporaryDirectory(prefix="tunebench-sweep-") as folder:
            self.typed, self.notes = typed, Path(folder) / "notes"
            try:
                yield
                self._close()
            finally:
                os.environ.pop(NOTES, None)

    def begin(self) -> None:
        """Say which run of how many begins, and let it and its processes find the notes."""
        if self.notes is None:
            return
        os.environ[NOTES] = str(self.notes)
        count, _ = self._size()
        if count != 1:
            say(f"run {self._number()} of {count or 'several'}: {self._shown()}")

    def end(self, code: int) -> None:
        """Note how a run ended."""
        note(job=self._number(), arguments=self._shown(), code=code)

    def _close(self) -> None:
        """Print the table of the runs, and say which did not finish."""
        notes = self._read()
        jobs = {one["job"]: one for one in notes if "job" in one}
        if len(jobs) < 2:
            return
        _print_table(list(dict.fromkeys(Path(one["record"]) for one in notes if "record" in one)))
        for number, job in sorted(jobs.items()):
            if job["code"]:
                how = ENDS.get(job["code"], f"ended with exit code {job['code']}")
                say(f"run {number} {how}: {job['arguments']}")

    def _read(self) -> list[dict[str, Any]]:
        assert self.notes is not None
        try:
            return [json.loads(line) for line in self.notes.read_text("utf-8").splitlines()]
        except FileNotFoundError:
            return []

    def _number(self) -> int:
        return int(HydraConfig.get().job.num) + 1

    def _size(self) -> tuple[int | None, frozenset[str]]:
        """Return the number of runs, where it can be known, and the keys in which they differ."""
        if self._swept is None:
            try:
                loader = GlobalHydra.instance().config_loader()
                parser = OverridesParser.create(config_loader=loader)
                overrides = parser.parse_overrides([*self.typed])
                [runs] = BasicSweeper.split_arguments(overrides, None)
                keys = {one.get_key_element() for one in overrides if one.is_sweep_override()}
                self._swept = (len(runs), frozenset(keys))
            except Exception:  # another sweeper's own syntax, or a launcher's process
                self._swept = (None, frozenset())
        return self._swept

    def _shown(self) -> str:
        """Return what is typed for this job, of which the same is typed for all is left out."""
        _, keys = self._size()
        typed = as_typed()
        own = [argument for argument in typed if argument.partition("=")[0] in keys]
        return shlex.join(own or typed)


def _print_table(paths: Sequence[Path]) -> None:
    """Print what `python -m results --split` prints of these records alone."""
    from results.pages.text import render, sheets, show
    from results.papers.published import papers
    from results.record import read
    from results.tables.collect import tables

    records = []
    for path in paths:
        try:
            records.append(read(path))
        except UserError as error:
            say(f"passed over: {error}")
    if not records:
        return
    compared = tables(records)
    if sys.stdout.isatty():
        show(sheets(compared, papers()))
    else:
        print(render(compared, "text", papers()), end="", flush=True)
