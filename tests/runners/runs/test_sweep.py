"""A sweep announces its runs and ends with one table of them, whoever did them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from results.__main__ import main as results_main
from results.record import read_all, write
from tests.conftest import Cli, tiny

Folder = Callable[[str], Path]


@pytest.mark.usefixtures("forked_runs")
def test_a_sweep_ends_with_the_table_of_its_own_runs_and_says_what_failed(
    cli: Cli, tiny_folder: Folder, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """In this process, then in processes of their own, with a run beside them that is no part."""
    small = tiny(tiny_folder("bert"), "task=rte", "budget.steps=2", f"out={tmp_path / 'runs'}")
    assert cli(*small, "method=full", "seed=5").code == 0
    typed = ("-m", "method=full,bitfit", "seed=1", "lr=1e-3", *small)
    here = cli(*typed, "own_process=false")
    assert here.code == 0, here.err
    said = [line for line in here.err.splitlines() if line.startswith("run ")]
    assert said == ["run 1 of 2: method=full", "run 2 of 2: method=bitfit"]
    for record in read_all(tmp_path / "runs"):
        if record.seed != 5:
            write(record, tmp_path / "swept")
    assert _ends_with(here.out, tmp_path / "swept", capfd)
    wrong = cli("-m", "method=full", "seed=1,-2", "lr=1e-3", *small)
    assert wrong.code == 2
    assert [line for line in wrong.err.splitlines() if line.startswith("run ")] == [
        *("run 1 of 2: seed=1", "run 2 of 2: seed=-2", "run 2 was refused: seed=-2"),
    ]
    for path in (tmp_path / "swept").glob("*.bitfit.*"):
        path.unlink()
    assert _ends_with(wrong.out, tmp_path / "swept", capfd)


def _ends_with(out: str, folder: Path, capfd: pytest.CaptureFixture[str]) -> bool:
    """Say whether a text ends with the tables of a folder's records."""
    assert results_main(["--split", str(folder)]) == 0
    return out.endswith(capfd.readouterr().out)


def test_a_sweep_of_one_run_and_one_that_diverges(cli: Cli, tiny_folder: Folder) -> None:
    small = tiny(tiny_folder("bert"), "task=rte", "budget.steps=2", "own_process=false")
    one = cli("-m", *small, "method=bitfit")
    assert one.code == 0
    assert "run 1" not in one.err
    assert one.out.count("EMBEDDED data") == 1  # one table, not two
    both = cli("-m", *small, "method=bitfit", "lr=1e-3,1e30")
    assert both.code == 1
    assert both.err.splitlines()[-1] == "run 2 failed or diverged: lr=1e+30"
    assert both.out.count("DIVERGED: ") == 1
