"""Claims: at most one process does a run, on one machine or on many that share a folder.

A claim is a file that its owner creates exclusively and whole, with a token of its own, and touches
while it works. A claim whose owner died here, or that was not touched for long and is not while one
watches, is stale: the next process takes over by creating the claim of the next generation, which
again only one can. Files are never taken from under an owner; one that lost its file to something
else puts it back. Ages are measured by the folder's own clock, so machines' clocks may differ, and
by watching, so a clock may jump.
"""

from __future__ import annotations

import contextlib
import errno
import glob
import json
import os
import re
import secrets
import socket
import tempfile
import threading
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from results.errors import UserError
from results.plain_file import read_plain
from runners.machine.processes import uninterrupted

STALE_AFTER = 120.0  # seconds without a touch


BEATS = 8  # touches in that time


WATCHED = 3  # touches that an owner must miss while one watches


_TRIES = 200  # to claim a run in a folder where files come and go


@dataclass
class Claim:
    """The right to do a run of a folder of records: `take` it, and `release` it whatever happened.

    What it holds is known by its token, which it has before any file is written, so an interruption
    at any moment leaves nothing that `release` does not remove.
    """

    folder: Path
    run: str
    stale_after: float = STALE_AFTER
    token: str = field(default_factory=lambda: secrets.token_hex(16))
    generation: int = 0
    _stop: threading.Event = field(default_factory=threading.Event)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def claims(self) -> Path:
        """The folder of the claims."""
        return self.folder / ".claims"

    @property
    def path(self) -> Path:
        """The file that says whose the run is."""
        return self.claims / _name(self.run, self.generation)

    def take(self) -> dict[str, Any] | None:
        """Take the run and touch the claim from a thread; where another process has it, its facts.

        Facts are host, pid, start of the process and of the claim. A folder in which no claim can
        be made is a UserError.
        """
        owner = self._take()
        if owner is None:
            threading.Thread(target=self._beat, daemon=True, name="claim").start()
        return owner

    def _take(self) -> dict[str, Any] | None:
        for attempt in range(_TRIES):
            time.sleep(0.01 * (attempt > 10))
            _make(self.claims)
            generations = _generations(self.claims, self.run)
            newest = max(generations, default=0)
            if newest:
                owner = _owner(generations[newest])
                if owner is None:
                    continue  # released in between
                if not _has_died(owner):
                    if not _is_quiet(generations[newest], self.stale_after):
                        return owner
                    if not _stays_quiet(generations[newest], self.stale_after * WATCHED / BEATS):
                        continue
            created = _create(self.claims / _name(self.run, newest + 1), self.token)
            if created and self._is_newest(newest + 1):
                self.generation = newest + 1
                return None
        raise UserError(
            f"no claim of {self.run} can be made in {self.claims}: what lies there changes or"
            " cannot be read; remove that folder when no run is going on"
        )

    def _beat(self) -> None:
        while not self._stop.wait(self.stale_after / BEATS):
            with contextlib.suppress(OSError, UserError), self._lock:
                self._touch()

    def _touch(self) -> None:
        """Touch the claim, or put it back where somebody removed it and nobody has the run."""
        if self._stop.is_set():
            return
        if self._is_mine(self.path):
            os.utime(self.path)
        elif not _generations(self.claims, self.run):
            self.claims.mkdir(exist_ok=True)
            _create(self.path, self.token)

    def _is_mine(self, path: Path) -> bool:
        return (_owner(path) or {}).get("token") == self.token

    def _is_newest(self, generation: int) -> bool:
        newest = max(_generations(self.claims, self.run), default=None)
        return newest == generation and self._is_mine(self.claims / _name(self.run, generation))

    def holds(self) -> bool:
        """Say whether the claim is there and no other process took the run over."""
        return self._is_newest(self.generation)

    def regain(self) -> bool:
        """Hold the run, or claim it again where nobody who lives has it; False where one has."""
        with self._lock:
            if self.holds():
                return True
            try:
                return self._take() is None
            except UserError:
                return True  # where no claim can be written, no one else has one

    def release(self) -> None:
        """Give the run back, if it was taken. Signals wait until that is done."""
        self._stop.set()
        with uninterrupted(), self._lock:
            for generation, path in sorted(_generations(self.claims, self.run).items()):
                if generation < self.generation or self._is_mine(path):
                    _remove(path)
            whose = "*" if self.generation else self.token  # others' were killed while they claimed
            for draft in self.claims.glob(f".{glob.escape(self.run)}.{whose}.draft"):
                _remove(draft)
            with contextlib.suppress(OSError):
                self.claims.rmdir()


def _make(claims: Path) -> None:
    try:
        claims.mkdir(parents=True, exist_ok=True)
    except FileExistsError:
        raise UserError(f"{claims} is no folder, so no run can be claimed: move it away") from None
    except OSError as error:
        raise UserError(f"no claim can be written in {claims} ({error.strerror})") from None


def _create(path: Path, token: str) -> bool:
    """Create a claim that holds its owner's facts from the first; False where there is one already.

    A process that is killed in between leaves a file that is no claim. Where the file system has
    no links, a claim is empty for a moment, and one killed just then expires like a foreign one.
    """
    facts = json.dumps({**_self(), "token": token})
    run = path.name.rpartition(".claim")[0].rpartition(".")[0]
    draft = path.with_name(f".{run}.{token}.draft")
    try:
        draft.write_text(facts)
        try:
            os.link(draft, path)
        except OSError as error:
            if error.errno not in (errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS):
                raise
            with os.fdopen(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY), "w") as stream:
                stream.write(facts)
    except FileExistsError:
        return False
    except FileNotFoundError:
        return False  # the last owner removed the folder, or the draft with its own
    except OSError as error:
        raise UserError(f"no claim can be written in {path.parent} ({error.strerror})") from None
    finally:
        with contextlib.suppress(OSError):
            draft.unlink()
    return True


def _remove(path: Path) -> None:
    """Remove a claim, or a folder of its name if it is empty; what cannot be removed stays."""
    with contextlib.suppress(OSError):
        if path.is_dir() and not path.is_symlink():
            path.rmdir()
        else:
            path.unlink()


def is_claimed(folder: Path, run: str, stale_after: float = STALE_AFTER) -> bool:
    """Say whether a process that is alive has claimed a run, as far as one look can tell."""
    generations = _generations(folder / ".claims", run)
    if not generations:
        return False
    path = generations[max(generations)]
    owner = _owner(path)
    return owner is not None and not _has_died(owner) and not _is_quiet(path, stale_after)


def _name(run: str, generation: int) -> str:
    return f"{run}.{generation:06d}.claim"


def _generations(claims: Path, run: str) -> dict[int, Path]:
    pattern = re.compile(re.escape(run) + r"\.([0-9]{6,})\.claim")
    try:
        names = [path.name for path in claims.iterdir()]
    except OSError:
        return {}
    numbers = [int(m.group(1)) for m in map(pattern.fullmatch, names) if m]
    return {n: claims / _name(run, n) for n in numbers if _name(run, n) in names}


def _place() -> dict[str, Any]:
    """Return what two processes must share for the number of a process to mean one to both."""
    return {"host": socket.gethostname(), "boot": _boot(), "pid_namespace": _pid_namespace()}


def _self() -> dict[str, Any]:
    return {
        **_place(),
        "pid": os.getpid(),
        "process_start": _process_start(os.getpid()),
        "since": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def _owner(path: Path) -> dict[str, Any] | None:
    """Return a claim's facts; {} where it does not hold them (yet); None when it is gone."""
    try:
        owner = json.loads(read_plain(path, 2**16))
    except FileNotFoundError:
        return {} if path.is_symlink() else None
    except (OSError, ValueError, RecursionError):
        return {}
    return owner if isinstance(owner, dict) else {}


def _has_died(owner: dict[str, Any]) -> bool:
    """Say whether a claim's owner is known to be dead: only where its number means one here."""
    pid, start = owner.get("pid"), owner.get("process_start")
    place = _place()
    if "token" not in owner:  # of a version that wrote the host only, and trusted it
        place = {"host": place["host"]}
    here = all(k in owner and owner[k] == v for k, v in place.items())
    if not here or type(pid) is not int or not 0 < pid < 2**31:
        return False
    now = _process_start(pid)
    return now is None or ("alive" not in (now, start) and now != start)


def _is_quiet(path: Path, stale_after: float) -> bool:
    """Say whether a claim's last touch and the folder's clock lie far apart."""
    try:
        with tempfile.NamedTemporaryFile(dir=path.parent, prefix=".now-") as clock:
            now = Path(clock.name).stat().st_mtime
    except OSError:
        now = time.time()  # no room, or the folder is gone
    try:
        return abs(now - path.lstat().st_mtime) > stale_after
    except OSError:
        return False


def _stays_quiet(path: Path, seconds: float) -> bool:
    """Watch a claim; say whether it stayed, untouched. A clock that jumped has no say in that."""

    def touched() -> tuple[int, int] | None:
        try:
            facts = path.lstat()
        except OSError:
            return None
        return facts.st_ino, facts.st_mtime_ns

    before, end = touched(), time.monotonic() + seconds
    while time.monotonic() < end:
        time.sleep(seconds / 20)
        if touched() != before:
            return False
    return before is not None


def _boot() -> str | None:
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return None


def _pid_namespace() -> str | None:
    try:
        return str(Path("/proc/self/ns/pid").readlink())
    except OSError:
        return None


def _process_start(pid: int) -> str | None:
    """Return what tells a process from a later one of its number; None when there is no such.

    Where only its being there is known, "alive".
    """
    try:
        facts = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return None if facts[0] in "ZX" else facts[19]  # dead, and not yet waited for
    except (OSError, IndexError):
        pass
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return None
    except OSError:
        pass
    return "alive"
