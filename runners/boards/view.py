"""What a board shows on a terminal while its runs go."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rich.console import Console, Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from results.printable import printable

PENDING = "."  # begins the names of files that say how far runs are, among their logs


class View:
    """Shows which runs go on, how far each is, how many are done, and when all will be."""

    def __init__(self, board: str, logs: Path, console: Console) -> None:
        self.board, self.logs, self.console = board, logs, console
        self.began = time.monotonic()
        self._seen: dict[str, float] = {}  # when each run was first shown
        self._live = Live(
            console=console,
            refresh_per_second=4,
            transient=True,
            redirect_stdout=sys.stdout.isatty(),
            redirect_stderr=sys.stderr.isatty(),
        )

    @classmethod
    def where_seen(cls, board: str, logs: Path) -> View | None:
        """Return a view on the terminal that standard error or standard output is; else None."""
        stream = sys.stderr if sys.stderr.isatty() else sys.stdout
        console = Console(file=stream, highlight=False)
        seen = stream.isatty() and not console.is_dumb_terminal
        return cls(board, logs, console) if seen else None

    @contextmanager
    def shown(self) -> Iterator[None]:
        """Show the view while a block runs; lines that are printed meanwhile stand above it."""
        with self._live:
            yield

    def progress(self, run: str) -> Path:
        """Return the file in which a run's process says how far it is."""
        return self.logs / f"{PENDING}{run}.progress"

    def show(
        self, running: Sequence[str], states: Mapping[str, int], ended: int, runs: int
    ) -> None:
        """Draw how far the `running` are, and in which `states` how many of all `runs` are."""
        facts = {run: _read(self.progress(run)) for run in running}
        table = Table(box=None, pad_edge=False, expand=True)
        table.add_column("running", ratio=1, overflow="ellipsis", no_wrap=True)
        table.add_column("", width=16)
        for title in ("step", "loss", "score", "time"):
            table.add_column(title, justify="right", no_wrap=True)
        for run in running:
            since = self._seen.setdefault(run, time.monotonic())
            table.add_row(*_line(run, facts[run], time.monotonic() - since))
        failed = states.get("failed", 0) + states.get("diverged", 0)
        counts = (
            f"board {self.board}: {states.get('finished', 0)} done, {failed} failed,"
            f" {len(running)} running, {runs - ended - len(running)} waiting"
        )
        left = self._left(ended + sum(map(_share, facts.values())), runs)
        head = Table.grid(expand=True)
        head.add_column(ratio=1, no_wrap=True)
        head.add_column(justify="right", no_wrap=True)
        style = "bold red" if failed else "bold"
        head.add_row(Text(printable(counts), style=style), Text(f"time left {left}"))
        logs = Text(printable(f"logs: {self.logs}/RUN.log"), style="dim", overflow="fold")
        self._live.update(Group(head, table, logs))

    def _left(self, done: float, runs: int) -> str:
        """Return the time that is left, from what is done since the view began."""
        if done <= 0:
            return "unknown"
        return clock((time.monotonic() - self.began) / done * (runs - done))


def clock(seconds: float) -> str:
    """Return seconds as hours, minutes and seconds."""
    hours, rest = divmod(round(seconds), 3600)
    return f"{hours}:{rest // 60:02d}:{rest % 60:02d}"


def _read(path: Path) -> dict[str, Any]:
    """Return what a run says of itself; nothing where it has not trained yet."""
    try:
        facts = json.loads(path.read_text())
    except (OSError, ValueError):
        return {}
    return facts if isinstance(facts, dict) else {}


def _share(facts: Mapping[str, Any]) -> float:
    return float(facts.get("step", 0)) / max(1.0, float(facts.get("steps", 1)))


def _line(run: str, facts: Mapping[str, Any], seconds: float) -> list[Any]:
    """Return the cells of a running run."""
    name = Text(printable(run), overflow="ellipsis", no_wrap=True)
    if not facts:
        return [name, Text("begins", style="dim"), "", "", "", clock(seconds)]
    bar = ProgressBar(total=facts["steps"], completed=facts["step"], width=16)
    numbers = [f"{facts[key]:.4f}" if key in facts else "" for key in ("loss", "score")]
    return [name, bar, f"{facts['step']}/{facts['steps']}", *numbers, clock(seconds)]
