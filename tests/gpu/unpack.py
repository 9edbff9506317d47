"""Unpacks the parts that `make gpu-pack` wrote: python unpack.py FOLDER PART ….

Needs Python alone. Parts may come in any order and in several calls; the same one twice does no
harm. Told is which files are not whole yet.
"""

from __future__ import annotations

import hashlib
import sys
import tarfile
from pathlib import Path

OFFSET, TOTAL, SHA256 = (f"TUNEBENCH.{name}" for name in ("offset", "total", "sha256"))


def unpack(folder: Path, parts: list[Path]) -> None:
    """Write what the parts hold into a folder; raise ValueError for what has no place there."""
    for part in parts:
        with tarfile.open(part) as tar:
            for member in tar:
                _write(folder, tar, member)


def _write(folder: Path, tar: tarfile.TarFile, member: tarfile.TarInfo) -> None:
    path = folder / member.name
    content = tar.extractfile(member)
    if content is None or not path.resolve().is_relative_to(folder.resolve()):
        raise ValueError(f"{tar.name}: {member.name} has no place in {folder}")
    path.parent.mkdir(parents=True, exist_ok=True)
    facts = member.pax_headers
    with path.open("r+b" if path.exists() else "x+b") as file:
        file.seek(int(facts[OFFSET]))
        file.write(content.read())
        file.truncate(max(int(facts[TOTAL]), file.tell()))
    path.chmod(member.mode)
    written = folder / ".unpacked"
    with written.open("a") as log:
        log.write("\t".join((member.name, facts[TOTAL], facts[SHA256])) + "\n")


def lacking(folder: Path) -> list[str]:
    """Return the files that are not yet what was packed, in the order of their names."""
    lines = (folder / ".unpacked").read_text().splitlines()
    wanted = {name: (int(total), sha256) for name, total, sha256 in (x.split("\t") for x in lines)}
    return sorted(name for name, facts in wanted.items() if _facts(folder / name) != facts)


def _facts(path: Path) -> tuple[int, str]:
    with path.open("rb") as file:
        return path.stat().st_size, hashlib.file_digest(file, "sha256").hexdigest()


if __name__ == "__main__":
    place = Path(sys.argv[1])
    place.mkdir(parents=True, exist_ok=True)
    unpack(place, [Path(part) for part in sys.argv[2:]])
    missing = lacking(place)
    print(f"not whole yet: {', '.join(missing)}" if missing else f"all that came is whole: {place}")
