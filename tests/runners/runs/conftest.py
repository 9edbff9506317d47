"""Runs whose deltas answer texts, done once a file of tests."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from runners.command import main
from tests.conftest import tiny
from tests.runners.runs.answered import RUNS

Folder = Callable[[str], Path]


@pytest.fixture(scope="module")
def given(tiny_folder: Folder) -> Callable[[str], list[str]]:
    return lambda name: tiny(tiny_folder("bert"), *RUNS[name], "lr=1e-3", "seed=1")


@pytest.fixture(scope="module")
def runs(given: Callable[[str], list[str]], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of a run of each task, with their deltas."""
    out = tmp_path_factory.mktemp("runs")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TUNEBENCH_CACHE", str(tmp_path_factory.mktemp("cache")))
        for name in RUNS:
            patch.setattr("sys.argv", ["run.py", *given(name), "save=delta", f"out={out}"])
            assert main() == 0
    return out
