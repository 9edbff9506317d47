"""Claims: at most one process does a run, on one machine or on many that share a folder.

A claim is a file that its owner creates exclusively and whole, and touches while it works. A claim
whose owner died on this machine, or that was not touched for long, is stale: the next process takes
over by creating the claim of the next generation, which again only one can. Files are never taken
from under an owner. Ages are measured by the folder's own clock, so machines' clocks may differ.
"""

from __future__ import annotations

import contextlib
import errno
import glob
import json
import os
import re
import socket
import tempfile
import threading
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from results.errors import UserError

STALE_AFTER = 120.0  # seconds without a touch


BEATS = 8  # touches in that time


@dataclass
class Claim:
    """The right to do a run; `release` it, or leave it to go stale."""

    path: Path
    run: str
    generation: int
    interval: float
    _stop: threading.Event = field(default_factory=threading.Event)

    def beat(self) -> None:
        """Touch the claim from a thread until it is released."""

        def touch() -> None:
            while not self._stop.wait(self.interval):
                with contextlib.suppress(OSError):
                    os.utime(self.path)

        threading.Thread(target=touch, daemon=True, name="claim").start()

    def holds(self) -> bool:
        """Say whether no other process took the run over."""
        generations = _generations(self.path.parent, self.run)
        return bool(generations) and max(generations) == self.generation

    def release(self) -> None:
        """Give the run back."""
        self._stop.set()
        for generation, path in sorted(_generations(self.path.parent, self.run).items()):
            if generation <= self.generation:
                path.unlink(missing_ok=True)
        for draft in self.path.parent.glob(f".{glob.escape(self.run)}.*.draft"):
            draft.unlink(missing_ok=True)  # of a process that was killed while it claimed
        with contextlib.suppress(OSError):
            self.path.parent.rmdir()


def take(folder: Path, run: str, stale_after: float = STALE_AFTER) -> Claim | dict[str, Any]:
    """Claim a run in a folder of records; where another process has it, return that owner's facts.

    Facts are host, pid, start of the process and of the claim.
    """
    claims = folder / ".claims"
    while True:
        claims.mkdir(parents=True, exist_ok=True)
        generations = _generations(claims, run)
        newest = max(generations, default=0)
        if newest:
            owner = _owner(generations[newest])
            if owner is None:
                continue  # released in between
            if not _is_stale(generations[newest], owner, stale_after):
                return owner
        path = claims / f"{run}.{newest + 1:06d}.claim"
        if not _create(path):
            continue
        claim = Claim(path, run, newest + 1, stale_after / BEATS)
        if not claim.holds():
            continue
        claim.beat()
        return claim


def _create(path: Path) -> bool:
    """Create a claim that holds its owner's facts from the first; False where there is one already.

    A process that is killed in between leaves a file that is no claim. Where the file system has
    no links, a claim is empty for a moment, and one killed just then expires like a foreign one.
    """
    facts = json.dumps(_self())
    run = path.name.rpartition(".claim")[0].rpartition(".")[0]
    draft = path.with_name(f".{run}.{os.getpid()}-{threading.get_ident()}.draft")
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


def is_claimed(folder: Path, run: str, stale_after: float = STALE_AFTER) -> bool:
    """Say whether a process that is alive has claimed a run."""
    generations = _generations(folder / ".claims", run)
    if not generations:
        return False
    path = generations[max(generations)]
    owner = _owner(path)
    return owner is not None and not _is_stale(path, owner, stale_after)


def _generations(claims: Path, run: str) -> dict[int, Path]:
    pattern = re.compile(re.escape(run) + r"\.(\d{6})\.claim")
    try:
        names = [path.name for path in claims.iterdir()]
    except FileNotFoundError:
        return {}
    return {int(m.group(1)): claims / m.string for m in map(pattern.fullmatch, names) if m}


def _self() -> dict[str, Any]:
    return {
        "host": socket.gethostname(),
        "boot": _boot(),
        "pid": os.getpid(),
        "process_start": _process_start(os.getpid()),
        "since": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def _owner(path: Path) -> dict[str, Any] | None:
    """Return a claim's facts; {} while its owner is still writing them; None when it is gone."""
    try:
        owner = json.loads(path.read_text())
    except FileNotFoundError:
        return None
    except ValueError:
        return {}
    return owner if isinstance(owner, dict) else {}


def _is_stale(path: Path, owner: dict[str, Any], stale_after: float) -> bool:
    here = owner.get("host") == socket.gethostname() and owner.get("boot") == _boot()
    pid = owner.get("pid")
    if here and isinstance(pid, int) and _process_start(pid) != owner.get("process_start"):
        return True
    try:
        with tempfile.NamedTemporaryFile(dir=path.parent, prefix=".now-") as now:
            return Path(now.name).stat().st_mtime - path.stat().st_mtime > stale_after
    except FileNotFoundError:
        return False


def _boot() -> str | None:
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return None


def _process_start(pid: int) -> str | None:
    """Return what tells a process from a later one of its number; None when there is no such."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]
    except (OSError, IndexError):
        pass
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return None
    except OSError:
        pass
    return "alive"
