"""Which code made a record."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest
import torch

from runners.machine import environment
from tests.conftest import ROOT


def _git(folder: Path, *arguments: str) -> str:
    done = subprocess.run(
        ["git", "-C", str(folder), "-c", "user.name=a", "-c", "user.email=a@b", *arguments],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    return done.stdout.strip()


def test_commit_is_this_projects_own_and_never_that_of_one_around_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "tunebench").mkdir()
    (tmp_path / "file").write_text("")
    _git(tmp_path, "init", "-q")
    _git(tmp_path, "add", ".")
    _git(tmp_path, "commit", "-qm", "another project")
    monkeypatch.setattr(environment, "ROOT", tmp_path / "tunebench")
    assert environment.commit() == {"commit": None, "dirty": None}
    monkeypatch.setattr(environment, "ROOT", tmp_path)
    assert environment.commit() == {"commit": _git(tmp_path, "rev-parse", "HEAD"), "dirty": False}
    assert tmp_path != ROOT


def test_a_look_at_the_commit_writes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """git status writes its index anew after a file's time changed, under a lock."""
    file, index = tmp_path / "file", tmp_path / ".git" / "index"
    file.write_text("")
    _git(tmp_path, "init", "-q")
    _git(tmp_path, "add", ".")
    _git(tmp_path, "commit", "-qm", "one")
    os.utime(file, (1e9, 1e9))
    before = index.read_bytes()
    monkeypatch.setattr(environment, "ROOT", tmp_path)
    assert environment.commit()["dirty"] is False
    assert index.read_bytes() == before
    _git(tmp_path, "status")
    assert index.read_bytes() != before


def test_an_mps_server_is_where_cuda_looks_for_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CUDA_MPS_PIPE_DIRECTORY", str(tmp_path))
    assert not environment.has_mps()
    (tmp_path / "control").touch()
    assert environment.has_mps()
    assert "mps" not in environment.describe_environment("cpu", "fp32")


def test_a_gpus_record_says_where_fp32_products_are_of_tf32(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "a GPU")
    before = torch.get_float32_matmul_precision()
    try:
        torch.set_float32_matmul_precision("highest")
        assert "tf32" not in environment.describe_environment("cuda:0", "fp32")
        torch.set_float32_matmul_precision("high")
        assert environment.describe_environment("cuda:0", "fp32")["tf32"] is True
        assert "tf32" not in environment.describe_environment("cpu", "fp32")
    finally:
        torch.set_float32_matmul_precision(before)
