"""A file or a folder is written whole, or what stood there stays and nothing temporary does."""

from __future__ import annotations

import errno
import os
import threading
from collections.abc import Callable
from multiprocessing import get_context
from pathlib import Path

import pytest

from results.whole import EVERYONE, whole

Put = Callable[[Path, str], None]


def put_file(path: Path, word: str) -> None:
    path.write_text(word * 1000)


def put_folder(path: Path, word: str) -> None:
    (path / "inner").mkdir(parents=True)
    for name in ("a", "inner/b"):
        (path / name).write_text(word * 1000)


def content(path: Path) -> dict[str, str]:
    """Return the text of a file, or of every file of a folder, by the path inside."""
    files = [p for p in path.rglob("*") if p.is_file()] if path.is_dir() else [path]
    return {p.relative_to(path).as_posix(): p.read_text() for p in files}


def expected(put: Put, word: str) -> dict[str, str]:
    return dict.fromkeys(["."] if put is put_file else ["a", "inner/b"], word * 1000)


KINDS = pytest.mark.parametrize("put", [put_file, put_folder])


@KINDS
def test_what_the_body_wrote_takes_the_place(put: Put, tmp_path: Path) -> None:
    path = tmp_path / "new" / "it.txt"
    for word in ("old", "new"):
        with whole(path) as temporary:
            assert temporary.parent == path.parent
            assert temporary.name.startswith(".it.txt.")
            put(temporary, word)
            assert not path.exists() or content(path) == expected(put, "old")
        assert content(path) == expected(put, word)
        assert list(path.parent.iterdir()) == [path]


def test_files_that_the_new_folder_lacks_are_gone(tmp_path: Path) -> None:
    path = tmp_path / "it"
    put_folder(path, "old")
    (path / "extra").write_text("old")
    with whole(path) as temporary:
        put_folder(temporary, "new")
    assert content(path) == expected(put_folder, "new")


def _fail_within(path: Path, put: Put, error: BaseException) -> None:
    with whole(path) as temporary:
        put(temporary, "new")
        raise error


@KINDS
@pytest.mark.parametrize("error", [ValueError("no"), KeyboardInterrupt()])
def test_body_that_raises_leaves_the_old_and_nothing_else(
    put: Put, error: BaseException, tmp_path: Path
) -> None:
    path = tmp_path / "it"
    put(path, "old")
    with pytest.raises(type(error)):
        _fail_within(path, put, error)
    assert content(path) == expected(put, "old")
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
    ("put", "call"),
    [
        (put_file, "os.fsync"),
        (put_file, "pathlib.Path.replace"),
        (put_folder, "os.fsync"),
        (put_folder, "pathlib.Path.rename"),
    ],
)
def test_full_disk_leaves_the_old_and_nothing_else(
    put: Put, call: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "it"
    put(path, "old")

    def fail(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(call, fail)
    with pytest.raises(OSError, match="No space left"), whole(path) as temporary:
        put(temporary, "new")
    assert content(path) == expected(put, "old")
    assert list(tmp_path.iterdir()) == [path]


def test_old_folder_comes_back_when_the_new_one_cannot_take_its_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "it"
    put_folder(path, "old")
    rename, failed = Path.rename, []

    def fail_once(self: Path, target: Path) -> Path:
        if target == path and not failed:
            failed.append(self)
            assert not path.exists()
            raise OSError(errno.EIO, "Input/output error")
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", fail_once)
    with pytest.raises(OSError, match="Input/output"), whole(path) as temporary:
        put_folder(temporary, "new")
    assert failed
    assert content(path) == expected(put_folder, "old")
    assert list(tmp_path.iterdir()) == [path]


def test_everything_is_flushed_before_it_takes_the_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, flushed = tmp_path / "it", []
    fsync = os.fsync

    def note(descriptor: int) -> None:
        flushed.append((os.fstat(descriptor).st_ino, path.exists()))
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", note)
    with whole(path) as temporary:
        put_folder(temporary, "new")
    written = {p.stat().st_ino for p in (path, *path.rglob("*"))}
    assert len(written) == 4
    assert {inode for inode, there in flushed if not there} == written
    assert [inode for inode, there in flushed if there] == [tmp_path.stat().st_ino]


@pytest.mark.parametrize("mask", [0o022, 0o027, 0o077])
def test_files_get_the_mode_that_open_gives(mask: int, tmp_path: Path) -> None:
    """A library may make files that only their owner can read."""

    def private(path: Path) -> None:
        os.close(os.open(path, os.O_CREAT | os.O_WRONLY, 0o600))

    before = os.umask(mask)
    try:
        (tmp_path / "plain").open("w").close()
        with whole(tmp_path / "file") as temporary:
            private(temporary)
        with whole(tmp_path / "folder") as temporary:
            temporary.mkdir()
            private(temporary / "inside")
    finally:
        os.umask(before)
    names = ("plain", "file", "folder/inside")
    assert {(tmp_path / name).stat().st_mode & 0o777 for name in names} == {0o666 & ~mask}


def test_a_named_mode_is_given_whatever_the_umask_is(tmp_path: Path) -> None:
    before = os.umask(0o077)
    try:
        for mode in (EVERYONE, 0o640):
            with whole(tmp_path / f"{mode}", mode) as temporary:
                put_folder(temporary, "new")
            with whole(tmp_path / f"{mode}.file", mode) as temporary:
                put_file(temporary, "new")
    finally:
        os.umask(before)
    for mode, folders in ((0o644, 0o755), (0o640, 0o750)):
        place = tmp_path / f"{mode}"
        modes = {
            (path.is_dir(), path.stat().st_mode & 0o777) for path in (place, *place.rglob("*"))
        }
        assert modes == {(True, folders), (False, mode)}
        assert place.with_suffix(".file").stat().st_mode & 0o777 == mode


@KINDS
def test_what_a_killed_process_left_is_written_over(put: Put, tmp_path: Path) -> None:
    left = tmp_path / f".it.{os.getpid()}.tmp"
    put_folder(left, "left")
    with whole(tmp_path / "it") as temporary:
        put(temporary, "new")
    assert content(tmp_path / "it") == expected(put, "new")
    assert list(tmp_path.iterdir()) == [tmp_path / "it"]


def test_file_is_not_taken_for_a_folder_nor_a_folder_for_a_file(tmp_path: Path) -> None:
    for old, new in ((put_file, put_folder), (put_folder, put_file)):
        path = tmp_path / old.__name__
        old(path, "old")
        with pytest.raises((NotADirectoryError, IsADirectoryError)), whole(path) as temporary:
            new(temporary, "new")
        assert content(path) == expected(old, "old")
    assert len(list(tmp_path.iterdir())) == 2


def _write_often(path: Path, put: Put, word: str, times: int) -> None:
    for _ in range(times):
        with whole(path) as temporary:
            put(temporary, word)


@KINDS
def test_two_processes_at_once_leave_one_of_the_two(put: Put, tmp_path: Path) -> None:
    """A file is there and whole at every moment; a folder's are whole whenever they are there."""
    path, stop = tmp_path / "it", threading.Event()
    torn: list[str] = []
    put(path, "x")
    parts = [path / name for name in expected(put, "x")]
    words = {word * 1000 for word in "xyz"}

    def watch() -> None:
        while not stop.is_set():
            for part in parts:
                try:
                    torn.extend({part.read_text()} - words)
                except OSError as error:
                    torn.extend([repr(error)] * (put is put_file))

    watcher = threading.Thread(target=watch)
    watcher.start()
    context = get_context("spawn")
    writers = [context.Process(target=_write_often, args=(path, put, w, 100)) for w in "yz"]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    stop.set()
    watcher.join()
    assert [writer.exitcode for writer in writers] == [0, 0]
    assert torn == []
    assert content(path) in [expected(put, word) for word in "yz"]
    assert list(tmp_path.iterdir()) == [path]
