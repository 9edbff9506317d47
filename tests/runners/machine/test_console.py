"""What a run prints arrives on any stream, and no home folder is needed."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.conftest import ROOT, tiny

NO_HOME = """
import os, pwd, runpy, sys
os.environ.pop("HOME", None)
def nobody(*_):
    raise KeyError("nobody")
pwd.getpwuid = nobody
sys.argv = ["run.py", *sys.argv[1:]]
runpy.run_path("run.py", run_name="__main__")
"""


def test_a_finished_run_is_printed_to_a_stream_of_ascii_and_without_a_home(
    tiny_folder: Callable[[str], Path], tmp_path: Path
) -> None:
    arguments = tiny(tiny_folder("bert"), "task=rte", f"out={tmp_path / 'out'}")
    gone = {"TUNEBENCH_CACHE", "XDG_CACHE_HOME", "HF_HOME", "HOME"}
    own = {"PYTHONIOENCODING": "ascii", "TMPDIR": str(tmp_path)}
    environment = {k: v for k, v in os.environ.items() if k not in gone} | own
    for _ in range(2):  # run, and printed again
        done = subprocess.run(
            [sys.executable, "-c", NO_HOME, *arguments],
            cwd=ROOT,
            env=environment,
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stderr
        assert "Traceback" not in done.stderr
        assert "rte" in done.stdout
        assert done.stdout.isascii()
        assert "\\xb7" in done.stdout  # the middle dot of the table's note
    assert list(tmp_path.glob("cache-*/tunebench/*"))


def test_only_what_an_encoding_lacks_is_escaped(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    from results.printable import print_anything

    for encoding, written in (("utf-8", "1 ± 2 é".encode()), ("latin-1", b"1 \xb1 2 \xe9")):
        with (tmp_path / "out").open("w", encoding=encoding) as stream:
            monkeypatch.setattr(sys, "stdout", stream)
            print_anything()
            print("1 ± 2 é", end="")
        assert (tmp_path / "out").read_bytes() == written
    monkeypatch.setattr(sys, "stdout", None)  # as under pythonw
    print_anything()
