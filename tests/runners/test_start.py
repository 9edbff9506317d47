"""A run starts fast: what is imported before the skip check, and how long the first step takes."""

from __future__ import annotations

import ast
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.conftest import ROOT, Cli, tiny

HEAVY = (
    "torch",
    "transformers",
    "datasets",
    "evaluate",
    "accelerate",
    "sklearn",
    "scipy",
    "peft",
    "pandas",
)


def test_finished_run_is_recognised_before_torch_is_imported(
    cli: Cli, tiny_folder: Callable[[str], Path], tmp_path: Path
) -> None:
    arguments = tiny(tiny_folder("bert"), "task=rte", f"out={tmp_path}")
    assert cli(*arguments).code == 0
    code = (
        "import runpy, sys\n"
        f"sys.argv = ['run.py', *{arguments!r}]\n"
        "try:\n"
        "    runpy.run_path('run.py', run_name='__main__')\n"
        "except SystemExit as done:\n"
        "    assert not done.code\n"
        f"print('HEAVY', [m for m in {HEAVY!r} if m in sys.modules])\n"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert "stored result" in done.stdout, done.stderr
    assert "HEAVY []" in done.stdout


@pytest.mark.parametrize("command", ["run.py", "runners/__main__.py"])
def test_the_end_of_a_command_searches_nothing_for_garbage(command: str) -> None:
    """It looked through all that was imported, the longer the more that was."""
    code = (
        "import os, runpy, sys\n"
        "class Circle:\n"
        "    def __init__(self):\n"
        "        self.itself = self\n"
        "    def __del__(self, write=os.write):\n"
        "        write(1, b'searched\\n')\n"
        "circle = Circle()\n"
        f"sys.argv = [{command!r}, '--help']\n"
        "if __name__ == '__main__':\n"
        f"    runpy.run_path({command!r}, run_name='__main__')\n"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "method=bitfit" in done.stdout
    assert "searched" not in done.stdout


def test_libraries_that_a_run_does_not_need_are_imported_by_nothing_that_it_imports() -> None:
    """evaluate takes seconds, for it imports datasets, pandas and half of transformers."""
    modules = {
        path.relative_to(ROOT).as_posix(): {
            name
            for node in ast.parse(path.read_text()).body
            for name in _imported(node)
            if name in ("datasets", "evaluate", "pandas")
        }
        for path in sorted((ROOT / "runners").rglob("*.py"))
    }
    assert {path: names for path, names in modules.items() if names} == {
        "runners/tasks/glue_metrics/glue_metrics.py": {"datasets", "evaluate"}
    }
    uses = [path for path in (ROOT / "runners").rglob("*.py") if "import GlueMetrics" in
            path.read_text()]  # fmt: skip
    assert not uses


def _imported(node: ast.stmt) -> list[str]:
    if isinstance(node, ast.Import):
        return [alias.name.partition(".")[0] for alias in node.names]
    if isinstance(node, ast.ImportFrom):
        return [(node.module or "").partition(".")[0]]
    return []


def test_wrong_word_is_answered_before_torch_is_imported() -> None:
    start = time.monotonic()
    done = subprocess.run(
        [sys.executable, "run.py", "method=bitft"], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 2
    assert time.monotonic() - start < 5


@pytest.mark.parametrize("several", [[], ["-m", "own_process=false"]])
def test_command_leaves_no_log_where_it_is_typed(several: list[str], tmp_path: Path) -> None:
    """A log that Hydra opens though nobody writes into it."""
    command = [sys.executable, str(ROOT / "run.py"), *several, "method=full", "lr=-1"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert "lr=-1 (must be > 0)" in done.stderr
    assert list(tmp_path.iterdir()) == []
