"""Where records lie, one's own and those that the project ships, and what makes them."""

from __future__ import annotations

import glob
import sys
from pathlib import Path

OWN = Path("runs")  # in the current folder: what runs write to where out= is not typed
_SHIPPED = Path(__file__).resolve().parent / "runs"


def expanded(path: str) -> str:
    """Return a path with the home folder for `~`; where there is none, and else, as it is."""
    try:
        return str(Path(path).expanduser()) if path.startswith("~") else path
    except RuntimeError:
        return path


def program() -> str:
    """Return what a user types to start this: run.py in a clone, else the installed command."""
    is_installed = not (_SHIPPED.parent.parent / "run.py").is_file()
    return "tunebench" if is_installed or Path(sys.argv[0]).name == "tunebench" else "python run.py"


def shipped() -> Path:
    """Return the folder of the shipped records, seen from the project's folder where that is here.

    An installed package has none.
    """
    here = Path("results/runs")
    return here if here.resolve() == _SHIPPED else _SHIPPED


def stored(path: Path) -> Path:
    """Return where the record of a run lies that is written to `path`.

    That is `path`, but for a run in the own folder whose record is shipped and not there.
    """
    if path.parent != OWN or path.exists():
        return path
    other = shipped() / path.name
    return other if other.is_file() else path


def read_where(folder: Path | None) -> Path:
    """Return the folder that is read: the typed one, else the own, else the shipped one."""
    if folder is not None:
        return folder
    return OWN if OWN.is_dir() or not _SHIPPED.is_dir() else shipped()


def folder_of(run: str, folder: Path | None) -> Path:
    """Return where a run is looked for by its name: a typed folder, else one that has it."""
    begin = f"{glob.escape(Path(run).name.removesuffix('.json'))}*.json"
    having = (place for place in (OWN, shipped()) if any(place.glob(begin)))
    return folder or next(having, read_where(None))
