"""On a terminal a board is drawn while it goes; elsewhere there are its plain lines."""

from __future__ import annotations

import io
import json
import sys
from pathlib import Path

import pytest
from rich.console import Console

from results.record import read_all
from runners.boards import view as views
from runners.boards.view import View
from tests.conftest import Cli
from tests.runners.boards.test_board import Folder, small


def _drawn(view: View, stream: io.StringIO) -> str:
    view._live.refresh()
    return stream.getvalue()


def test_a_view_says_which_runs_go_on_how_far_they_are_and_when_all_are_done(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = [100.0]
    monkeypatch.setattr(views.time, "monotonic", lambda: clock[0])
    stream = io.StringIO()
    console = Console(file=stream, force_terminal=True, width=110, height=20, color_system=None)
    view = View("smoke", tmp_path, console)
    facts = {"step": 30, "steps": 60, "loss": 0.25, "score": 0.625}
    view.progress("rte.full.s1").write_text(json.dumps(facts))
    view.progress("rte.full.s3").write_text('{"step": 3')  # not whole
    names = ["rte.full.s1", "rte.full.s2", "rte.full.s3"]
    with view.shown():
        view.show(names, {}, 0, 8)
        clock[0] += 60
        view.show(names, {"finished": 1, "failed": 1, "diverged": 1, "missing": 5}, 3, 8)
        lines = _drawn(view, stream).splitlines()
    [head] = {line.rstrip() for line in lines if "1 done, 2 failed, 3 running, 2 waiting" in line}
    # 3 and a half of 8 runs in a minute: 4.5 / 3.5 of one is left.
    assert "board smoke: 1 done" in head
    assert head.endswith("time left 0:01:17")
    [first, *_] = [line for line in lines if "rte.full.s1" in line and "0:01:00" in line]
    assert first.split()[-4:] == ["30/60", "0.2500", "0.6250", "0:01:00"]
    for name in names[1:]:
        assert any(name in line and "begins" in line for line in lines)
    assert any(f"logs: {tmp_path}/RUN.log" in line for line in lines)


def test_there_is_a_view_on_a_terminal_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TERM", "xterm")
    for err, out, seen in ((False, False, False), (True, False, True), (False, True, True)):
        streams = {}
        for name, terminal in (("stderr", err), ("stdout", out)):
            streams[name] = io.StringIO()
            monkeypatch.setattr(streams[name], "isatty", lambda terminal=terminal: terminal)
            monkeypatch.setattr(sys, name, streams[name])
        view = View.where_seen("smoke", tmp_path)
        assert (view is not None) == seen
        if view is not None:
            assert view.console.file is streams["stderr" if err else "stdout"]
    monkeypatch.setenv("TERM", "dumb")
    assert View.where_seen("smoke", tmp_path) is None


def test_a_board_draws_how_far_its_processes_say_they_are(
    cli: Cli, tiny_folder: Folder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stream = io.StringIO()
    logs, read = tmp_path / "runs" / ".logs", views._read
    console = Console(file=stream, force_terminal=True, width=110, height=20, color_system=None)
    monkeypatch.setattr(View, "where_seen", lambda name, logs: View(name, logs, console))
    facts: list[dict[str, object]] = []

    def seen(path: Path) -> dict[str, object]:
        facts.append(read(path))
        return facts[-1]

    monkeypatch.setattr(views, "_read", seen)
    more = ("board.seeds=[1]", "board.methods=[bitfit]", "budget.steps=200")
    done = cli(*small(tiny_folder("bert"), "threads=1", *more))
    assert done.code == 0, done.err
    assert len(read_all(tmp_path / "runs")) == 1
    assert "0 done, 0 failed, 1 running, 0 waiting" in stream.getvalue()
    steps = [one["step"] for one in facts if one]
    assert steps
    assert all(one["steps"] == 200 for one in facts if one)
    assert [path.suffix for path in logs.iterdir()] == [".log"]
