"""A real file system that runs full, in the middle of a run or at its end, costs nothing else."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from results.record import read, read_all
from tests.conftest import Cli, tiny

BYTES = 512 * 1024


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """Mount a file system of half a megabyte, in memory; skipped where that is not allowed."""
    place = tmp_path / "disk"
    place.mkdir()
    if sys.platform != "linux" or os.geteuid() != 0:
        pytest.skip("only root on Linux may mount a file system")
    mount = ["mount", "-t", "tmpfs", "-o", f"size={BYTES}", "tmpfs", str(place)]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("this machine does not let a file system be mounted")
    yield place
    subprocess.run(["umount", str(place)], check=True)


def fill(place: Path) -> Path:
    """Leave no room on the file system that holds a folder; return the file that takes it."""
    path = place / "ballast"
    with path.open("wb", buffering=0) as stream:
        for size in (4096, 1):
            try:
                while True:
                    stream.write(b"\0" * size)
            except OSError:
                continue
    return path


def test_checkpoints_without_room_cost_only_themselves(
    cli: Cli, tiny_folder: Callable[[str], Path], small_disk: Path
) -> None:
    """Not every checkpoint of this model fits, and one that does not is told."""
    out = small_disk / "runs"
    given = tiny(tiny_folder("bert"), "task=rte", "budget.steps=6", f"out={out}")
    whole = cli(*given)
    assert whole.code == 0, whole.err
    [before] = read_all(out)
    cut = cli(*given, "checkpoint.steps=1", "force=true")
    assert cut.code == 0, cut.err
    assert "not written (" in cut.err
    assert "the run goes on without" in cut.err
    [after] = read_all(out)
    assert after.predictions == before.predictions
    assert not list(out.glob("**/*.tmp"))


def test_record_without_room_is_kept_elsewhere_and_harms_no_other(
    cli: Cli, tiny_folder: Callable[[str], Path], small_disk: Path, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    out, spare = small_disk / "runs", tmp_path / "spare"
    given = tiny(tiny_folder("bert"), "task=rte", f"out={out}")
    assert cli(*given, "seed=1").code == 0
    [first] = out.glob("*.json")
    before = first.read_bytes()
    # Room for a claim and for the start of a run, and not for its record.
    ballast = fill(small_disk)
    os.truncate(ballast, ballast.stat().st_size - 12 * 1024)
    spare.mkdir()
    monkeypatch.setattr("results.record.tempfile.gettempdir", lambda: str(spare))
    large = ("seed=2", "budget.steps=90", "budget.evaluate=1")
    done = cli(*given, *large)
    assert done.code == 2, done.err
    assert "No space left on device" in done.err
    assert f"kept at {spare}" in done.err
    assert first.read_bytes() == before
    [kept] = spare.glob("*.json")
    assert read(kept).status == "finished"
    assert [p.name for p in out.glob("*.json")] == [first.name]
    assert not list(out.glob("**/*.tmp"))
    ballast.unlink()
    assert cli(*given, *large).code == 0
    assert len(read_all(out)) == 2
