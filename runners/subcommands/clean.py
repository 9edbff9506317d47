"""Lists what runs left beside their records and in caches, and frees it: clean [FOLDER]."""

from __future__ import annotations

import argparse
import contextlib
import os
import shutil
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from results.errors import UserError
from results.places import OWN
from results.printable import printable
from results.record import record_path
from runners.root import cache_folder
from runners.runs.lease import is_claimed

DAY = 24 * 3600
# What lies beside records, by the word that frees it.
BESIDE = {
    "checkpoints": (".checkpoints/*",),
    "stages": (".stages/*",),
    "logs": (".logs/*",),
    "deltas": ("*.delta",),
    "models": ("*.model", "*.sentence-transformers"),
    "logits": ("*.logits.npz",),
    "pseudo": (".pseudo/*",),
    "generated": (".generated/*",),
    "mined": (".mined/*",),
}
CACHES = "caches"
KINDS = (*BESIDE, CACHES)


@dataclass(frozen=True)
class Left:
    """A file or folder that a run left: of which kind, its bytes, and its age in days."""

    kind: str
    path: Path
    size: int
    days: float
    is_used: bool


def clean(arguments: Sequence[str]) -> int:
    """Print what lies in a folder of records besides them; with --free, remove some of it.

    Records are never removed, nor what belongs to a run that a process does now.
    """
    parser = argparse.ArgumentParser(prog="clean", description=__doc__, allow_abbrev=False)
    parser.add_argument("folder", nargs="?", type=Path, default=OWN, help="records (%(default)s)")
    parser.add_argument("--free", nargs="+", choices=KINDS, default=[], help="remove these")
    parser.add_argument("--older", type=float, default=0.0, metavar="DAYS", help="only of that age")
    options = parser.parse_args(list(arguments))
    if not options.folder.is_dir():
        raise UserError(f"{options.folder}: no such folder of records; name one: clean FOLDER")
    left = [one for one in (*_beside(options.folder), *_cached()) if one.days >= options.older]
    freed = [one for one in left if one.kind in options.free and not one.is_used]
    for one in freed:
        _remove(one.path)
    _tell(left, freed)
    return 0


def _beside(folder: Path) -> Iterator[Left]:
    """Yield what lies in hidden folders of ours, and what bears the name of a record."""
    for kind, patterns in BESIDE.items():
        for pattern in patterns:
            for path in sorted(folder.glob(pattern)):
                run = _run(path)
                if pattern.startswith(".") or record_path(folder, run).exists():
                    yield _left(kind, path, is_claimed(folder, run))


def _cached() -> Iterator[Left]:
    for path in sorted(cache_folder().glob("*")):
        yield _left(CACHES, path, False)


def _run(path: Path) -> str:
    """Return the name of the run that left a file: that without what is added to it."""
    name = path.name
    for ending in (".delta", ".model", ".sentence-transformers", ".logits.npz", ".log"):
        name = name.removesuffix(ending)
    return name


def _left(kind: str, path: Path, is_used: bool) -> Left:
    files = [path] if not path.is_dir() else [p for p in path.rglob("*") if p.is_file()]
    facts = list[os.stat_result]()
    for file in files:
        with contextlib.suppress(FileNotFoundError):  # a run that goes on renames and removes some
            facts.append(file.lstat())
    newest = max((fact.st_mtime for fact in facts), default=time.time())
    size = sum(fact.st_size for fact in facts)
    return Left(kind, path, size, (time.time() - newest) / DAY, is_used)


def _remove(path: Path) -> None:
    try:
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)
    except OSError as error:
        raise UserError(f"{path}: cannot be removed ({error.strerror})") from None


def _tell(left: Sequence[Left], freed: Sequence[Left]) -> None:
    gone = {one.path for one in freed}
    for one in (one for one in left if one.kind != CACHES):  # they are many, and alike
        state = "freed" if one.path in gone else "in use" if one.is_used else ""
        line = f"{one.kind:12} {one.size / 1e6:9.1f} MB {one.days:6.1f} days  {one.path}  {state}"
        print(printable(line.rstrip()))
    for kind in KINDS:
        of_kind = [one for one in left if one.kind == kind and one.path not in gone]
        if of_kind:
            size = sum(one.size for one in of_kind) / 1e6
            print(f"{kind}: {len(of_kind)}, {size:.1f} MB; --free {kind} removes them")
    if freed:
        print(f"freed: {sum(one.size for one in freed) / 1e6:.1f} MB")
    if not left:
        print("nothing is left there but records")
