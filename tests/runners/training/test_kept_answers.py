"""Answers that are kept beside records and are damaged are made again."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from runners.training import filtered, generated, pseudo
from runners.training.pseudo import Votes


def test_damaged_votes_are_none(tmp_path: Path) -> None:
    """A traceback of zipfile ended the run."""
    path = tmp_path / "votes.npz"
    votes = Votes(np.zeros(3, np.int64), np.ones(3), np.ones(3))
    np.savez(path, **vars(votes))
    whole = path.read_bytes()
    assert pseudo._read(path, 3) is not None
    assert pseudo._read(path, 4) is None
    flipped = bytearray(whole)
    flipped[80] ^= 255
    for content in (b"", whole[:100], whole[: len(whole) // 2], whole[:-5], bytes(flipped)):
        path.write_bytes(content)
        assert pseudo._read(path, 3) is None


@pytest.mark.parametrize("content", ["", "{", "[]", "null", "1", "{}", '{"facts": {}}'])
def test_damaged_rows_are_none(tmp_path: Path, content: str) -> None:
    path = tmp_path / "rows.json"
    path.write_text(content)
    assert generated._read(path) is None


def test_damaged_answers_are_none(tmp_path: Path) -> None:
    path = tmp_path / "answers.npy"
    np.save(path, np.zeros(3, np.int64))
    whole = path.read_bytes()
    for content in (b"", whole[:20], whole[:-5]):
        path.write_bytes(content)
        assert filtered._read(path, 3) is None
