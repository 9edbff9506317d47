"""Writes a file or a folder whole or not at all."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import stat
from collections.abc import Iterator
from pathlib import Path

EVERYONE = 0o644  # may read what is made to be given away


@contextlib.contextmanager
def whole(path: Path, mode: int | None = None) -> Iterator[Path]:
    """Yield a temporary path beside `path`; what the body writes there takes its place at the end.

    The body makes a file or a folder. It reaches the disk before it takes the place, and its files
    get the mode that open() gives, or `mode`, and its folders then one that lets the same people
    in. Where the body or the writing fails, the error goes on, what stood at `path` is unharmed,
    and nothing temporary is left.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    _remove(temporary)
    try:
        temporary.touch()
        plain = temporary.stat().st_mode
        temporary.unlink()
        yield temporary
        _settle(temporary, plain, mode)
        if temporary.is_dir():
            _replace_folder(temporary, path)
        else:
            temporary.replace(path)
    finally:
        with contextlib.suppress(OSError):
            _remove(temporary)
    _flush_folder(path.parent)


def _settle(written: Path, plain: int, mode: int | None) -> None:
    """Flush a file, or every file and folder below a folder, to the disk; give them their modes.

    `plain` is what open() gives files where no `mode` is named.
    """
    below = sorted(written.rglob("*")) if written.is_dir() else []
    for path in (*below, written):
        if path.is_dir():
            if mode is not None:
                path.chmod(mode | (mode & 0o444) >> 2)  # who may read may enter
            _flush_folder(path)
            continue
        wanted = plain if mode is None else mode
        if stat.S_IMODE(path.stat().st_mode) != stat.S_IMODE(wanted):
            path.chmod(stat.S_IMODE(wanted))  # safetensors makes files only their owner can read
        with path.open("rb") as stream:
            os.fsync(stream.fileno())


def _flush_folder(folder: Path) -> None:
    """Flush a folder's list of files, where the system can."""
    try:
        descriptor = os.open(folder, os.O_RDONLY)
    except PermissionError:
        return
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP, errno.EOPNOTSUPP, errno.EBADF):
            raise
    finally:
        os.close(descriptor)


def _replace_folder(new: Path, path: Path) -> None:
    """Rename a folder; one that stands there steps aside first and comes back if that fails."""
    aside = new.with_suffix(".old")
    while True:
        _remove(aside)
        with contextlib.suppress(FileNotFoundError):
            if path.is_dir():
                path.rename(aside)
        try:
            new.rename(path)
            break
        except OSError as error:
            if error.errno in (errno.ENOTEMPTY, errno.EEXIST):
                continue  # another process put its own there in between
            if aside.exists():
                aside.rename(path)
            raise
    with contextlib.suppress(OSError):
        _remove(aside)


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
