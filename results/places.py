"""Where records lie: one's own, and those that the project ships."""

from __future__ import annotations

from pathlib import Path

OWN = Path("runs")  # in the current folder: what runs write to where out= is not typed
_SHIPPED = Path(__file__).resolve().parent / "runs"


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
