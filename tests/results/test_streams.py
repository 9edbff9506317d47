"""Tables reach any stream, and need no home folder."""

from __future__ import annotations

import io
import os
import subprocess
import sys
from pathlib import Path

import pytest

from results.__main__ import main
from results.record import write
from results.run_list import ListedRun, RunList, write_list
from tests.conftest import ROOT
from tests.results.simulated import grid

NO_HOME = """
import os, pwd, runpy, sys
os.environ.pop("HOME", None)
def nobody(*_):
    raise KeyError("nobody")
pwd.getpwuid = nobody
sys.argv = ["results", *sys.argv[1:]]
runpy.run_module("results", run_name="__main__")
"""


def _folder(tmp_path: Path) -> Path:
    records = grid({"full": 0, "bitfit": -0.15}, ["mrpc", "rte"], 6)
    for record in records:
        write(record, tmp_path / "runs")
    rows = ("full", "bitfit")
    runs = [ListedRun(rows.index(r.methods[0]), r.task, r.seed, r.run) for r in records]
    write_list(RunList("try", rows, tuple(runs)), tmp_path / "boards")
    (tmp_path / "runs" / "é.json").write_text("{")
    return tmp_path / "runs"


class _Stream(io.TextIOWrapper):
    """A stream of an encoding, which says of itself whether it is a terminal."""

    terminal = False

    def isatty(self) -> bool:
        return self.terminal


@pytest.mark.parametrize("terminal", [False, True])
@pytest.mark.parametrize("encoding", ["ascii", "latin-1"])
def test_every_form_is_printed_to_a_stream_that_lacks_its_letters(
    encoding: str, terminal: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = _folder(tmp_path)
    boards = ["--boards", str(tmp_path / "boards")]
    for form in (
        *([[str(folder), f"--format={f}"] for f in ("text", "md", "tex", "html", "csv")]),
        ["power", str(folder)],
        ["claims", str(folder)],
        ["front", str(folder), "--board", "try", *boards],
        ["search", str(folder)],  # an error: there are no trials
        ["front", str(folder), "--board", "±", *boards],
    ):
        streams = {name: _Stream(io.BytesIO(), encoding=encoding) for name in ("stdout", "stderr")}
        for name, stream in streams.items():
            stream.terminal = terminal
            monkeypatch.setattr(sys, name, stream)
        code = main(form)
        texts = {}
        for name, stream in streams.items():
            stream.flush()
            texts[name] = stream.buffer.getvalue().decode(encoding)  # type: ignore[attr-defined]
        monkeypatch.undo()
        assert code == (2 if form[0] == "search" or "±" in form else 0), form
        assert bool(texts["stdout"]) == (code == 0)
        reads = "±" not in form  # there is no such board
        assert ("passed over: " in texts["stderr"]) == reads
        if reads and encoding == "ascii":
            assert "\\xe9.json" in texts["stderr"]
            assert "\\xb7" in texts["stdout"] or code or form[0] == "front" or "tex" in form[1]


def test_boards_are_drawn_without_a_home_and_named_in_ascii(tmp_path: Path) -> None:
    folder, boards = _folder(tmp_path), tmp_path / "boards"
    gone = ("HOME", "XDG_CACHE_HOME", "XDG_CONFIG_HOME", "MPLCONFIGDIR")
    own = {"PYTHONIOENCODING": "ascii", "LC_ALL": "C", "TMPDIR": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-c", NO_HOME, "boards", str(folder), "--boards", str(boards)],
        cwd=ROOT,
        env={k: v for k, v in os.environ.items() if k not in gone} | own,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    assert str(boards / "try" / "index.html") in done.stdout
    assert "seeds.svg" in {path.name for path in (boards / "try").iterdir()}
