"""A tracker of accelerate's that writes CSV files."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from accelerate.tracking import GeneralTracker

from results.whole import whole

STEP = "step"


class CsvTracker(GeneralTracker):  # type: ignore[misc]
    """Writes a file for each part of names such as train/loss: train.csv, a line a step.

    A run that goes on `after` a step keeps the lines up to it and writes the others anew. What is
    logged of a step whose line is kept is there already.
    """

    name = "csv"
    requires_logging_directory = True

    def __init__(self, run_name: str, logging_dir: Path, after: int = 0) -> None:
        super().__init__()
        self.folder, self.after = logging_dir / run_name, after
        self._columns: dict[Path, list[str]] = {}
        self._kept: dict[Path, int] = {}  # the last step of an earlier process in each file

    @property
    def tracker(self) -> Path:
        return self.folder

    def start(self) -> None:
        """Cut what files of an earlier process hold of later steps, and a line cut in half."""
        self.folder.mkdir(parents=True, exist_ok=True)
        for path in self.folder.glob("*.csv"):
            columns, rows = _read(path)
            kept = [row for row in rows if int(row[STEP]) <= self.after]
            self._write(path, columns, kept)
            self._kept[path] = max((int(row[STEP]) for row in kept), default=-1)

    def log(self, values: Mapping[str, float], step: int | None = None, **_: Any) -> None:
        """Append a line to the file of each part."""
        parts: dict[Path, dict[str, Any]] = {}
        for name, value in values.items():
            part, _slash, column = name.rpartition("/")
            path = self.folder / f"{part.replace('/', '.') or 'run'}.csv"
            parts.setdefault(path, {STEP: step})[column] = f"{value:.9g}"
        for place, row in parts.items():
            if step is None or step > self._kept.get(place, -1):
                self._append(place, row)

    def _append(self, path: Path, row: dict[str, Any]) -> None:
        columns = self._columns.get(path, [])
        new = [name for name in row if name not in columns]
        if new:
            self._write(path, [*columns, *new], _read(path)[1] if columns else [])
        with path.open("a", newline="", encoding="utf-8") as stream:
            csv.DictWriter(stream, self._columns[path]).writerow(row)

    def _write(self, path: Path, columns: list[str], rows: list[dict[str, str]]) -> None:
        with whole(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as stream:
            writer = csv.DictWriter(stream, columns)
            writer.writeheader()
            writer.writerows(rows)
        self._columns[path] = columns


def _read(path: Path) -> tuple[list[str], list[dict[str, str]]]:
    """Return a file's columns and whole rows; a last line without its end was cut in half."""
    text = path.read_text(encoding="utf-8", errors="replace")
    lines = text[: text.rfind("\n") + 1].splitlines()
    columns, *rows = list(csv.reader(lines)) or [[STEP]]
    whole_rows = [
        dict(zip(columns, row, strict=True))
        for row in rows
        if len(row) == len(columns) and row[columns.index(STEP)].isdigit()
    ]
    return columns, whole_rows
