"""What is listed beside records, and what is freed."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from runners.subcommands.clean import KINDS
from tests.conftest import Cli

RUN = "rte.full.tiny.s1.0123456789ab"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a folder with a record, all that may lie beside it, and what is somebody's own."""
    folder, caches = tmp_path / "runs", tmp_path / "caches"
    monkeypatch.setenv("TUNEBENCH_CACHE", str(caches))
    files = [f"{RUN}.json", f".checkpoints/{RUN}/7.pt", f".stages/{RUN}", f".logs/{RUN}.log",
             f"{RUN}.delta/delta.json", f"{RUN}.model/config.json", f"{RUN}.logits.npz",
             ".pseudo/0123.npz", ".generated/0123.json", ".mined/0123.npy", "mine.model/weights",
             "notes.txt"]  # fmt: skip
    for path in (*(folder / file for file in files), caches / "tokens-1.npz"):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"0" * 1_000_000)
    old = time.time() - 10 * 24 * 3600
    os.utime(folder / f"{RUN}.logits.npz", (old, old))
    return folder


def _files(folder: Path) -> set[str]:
    return {str(p.relative_to(folder)) for p in folder.parent.rglob("*") if p.is_file()
            and p.is_relative_to(folder)}  # fmt: skip


def test_it_lists_by_kind_and_removes_nothing_unasked(cli: Cli, folder: Path) -> None:
    before = _files(folder)
    done = cli("clean", str(folder))
    assert done.code == 0, done.err
    for kind in KINDS:
        assert f"{kind}: 1, 1.0 MB; --free {kind} removes them" in done.out
    assert _files(folder) == before
    assert "mine.model" not in done.out


def test_it_frees_what_is_named_and_of_that_age_and_never_a_record(cli: Cli, folder: Path) -> None:
    assert "freed: 1.0 MB" in cli("clean", str(folder), "--free", "deltas").out
    assert not (folder / f"{RUN}.delta").exists()
    done = cli("clean", str(folder), "--free", *KINDS, "--older", "5")
    assert "freed: 1.0 MB" in done.out
    assert not (folder / f"{RUN}.logits.npz").exists()
    assert (folder / f"{RUN}.model").is_dir()
    cli("clean", str(folder), "--free", *KINDS)
    assert _files(folder) == {f"{RUN}.json", "mine.model/weights", "notes.txt"}
    assert "nothing is left there but records" in cli("clean", str(folder)).out
    with pytest.raises(SystemExit):
        cli("clean", str(folder), "--free", "records")


def test_what_a_running_run_needs_stays(
    cli: Cli, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("runners.subcommands.clean.is_claimed", lambda folder, run: run == RUN)
    done = cli("clean", str(folder), "--free", "checkpoints", "deltas")
    assert "freed" not in done.out
    assert done.out.count("in use") == 6
    assert (folder / ".checkpoints" / RUN / "7.pt").is_file()


def test_a_link_that_leads_nowhere_and_a_file_that_vanishes_are_no_failure(
    cli: Cli, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = folder / "cola.full.tiny.s1.0123456789ab.delta"
    other.with_suffix(".json").write_text("{}")
    other.symlink_to(folder / "gone")
    (folder / f"{RUN}.delta" / "a.tmp").symlink_to(folder / f"{RUN}.json")
    lstat = Path.lstat

    def look(path: Path) -> os.stat_result:
        if path.suffix == ".tmp":
            raise FileNotFoundError(path)
        return lstat(path)

    monkeypatch.setattr(Path, "lstat", look)
    done = cli("clean", str(folder), "--free", "deltas")
    assert done.code == 0, done.err
    assert f"{other}  freed" in done.out
    assert not other.is_symlink()
