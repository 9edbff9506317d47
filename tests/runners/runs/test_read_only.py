"""What was finished is read from a folder that cannot be written, and nothing is tried there."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from results.__main__ import main as results_main
from results.record import read_all
from tests.conftest import Cli, tiny
from tests.runners.runs.test_full_disk import small_disk  # noqa: F401


@pytest.fixture
def read_only(small_disk: Path) -> Iterator[Callable[[], None]]:  # noqa: F811
    """Return a function after which the small disk cannot be written."""

    def close() -> None:
        again = ["mount", "-o", "remount,ro", str(small_disk)]
        if subprocess.run(again, capture_output=True, check=False).returncode:
            pytest.skip("this machine does not let a file system be made read-only")
        with pytest.raises(OSError, match="Read-only file system"):
            (small_disk / "probe").touch()

    yield close
    subprocess.run(["mount", "-o", "remount,rw", str(small_disk)], check=True)


def test_a_read_only_folder_of_finished_runs_is_read_by_every_command(
    cli: Cli,
    tiny_folder: Callable[[str], Path],
    small_disk: Path,  # noqa: F811
    read_only: Callable[[], None],
    capfd: pytest.CaptureFixture[str],
) -> None:
    out = small_disk / "runs"
    given = [*tiny(tiny_folder("bert"), "method=bitfit", "task=rte", f"out={out}"), "save=delta"]
    assert cli(*given).code == 0
    [record] = read_all(out)
    before = sorted((p, p.stat().st_mtime_ns) for p in out.rglob("*"))
    read_only()
    stored = cli(*given)
    assert stored.code == 0, stored.err
    assert "stored result" in stored.out
    board = [a for a in given if not a.startswith(("task=", "method="))]
    plan = cli(
        "board=smoke", "board.methods=[bitfit]", "board.tasks=[rte]", "board.seeds=[42]",
        "plan=true", "estimate=false", *board,
    )  # fmt: skip
    assert plan.code == 0, plan.err
    assert "finished" in plan.out
    assert record.run in plan.out
    scored = cli(f"eval={out / record.run}.delta")
    assert scored.code == 0, scored.err
    assert "predictions equal the record's" in scored.out
    verified = cli(f"verify={record.run}", f"out={out}")
    assert verified.code == 0, verified.err
    assert "equal to the bit" in verified.out
    for arguments in ([], ["--format=md"], ["--format=html"], ["--format=csv"], ["--format=tex"]):
        assert results_main([str(out), *arguments]) == 0
        printed = capfd.readouterr()
        assert "bitfit" in printed.out
        assert printed.err == ""
    assert sorted((p, p.stat().st_mtime_ns) for p in out.rglob("*")) == before
    # What is not done yet is refused there, in a line and before training.
    other = cli(*given, "seed=2")
    assert other.code == 2
    assert other.err.splitlines()[-1] == (
        f"error: out={out}: cannot be written (Read-only file system); name another folder with"
        " out="
    )
    assert cli(*given, "force=true").code == 2


@pytest.mark.skipif(sys.platform == "win32" or os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_without_the_right_to_write_is_read(
    cli: Cli, tiny_folder: Callable[[str], Path], tmp_path: Path
) -> None:
    given = tiny(tiny_folder("bert"), "task=rte")
    assert cli(*given).code == 0
    (tmp_path / "runs").chmod(0o555)
    try:
        assert "stored result" in cli(*given).out
        assert cli(*given, "seed=2").code == 2
    finally:
        (tmp_path / "runs").chmod(0o755)
