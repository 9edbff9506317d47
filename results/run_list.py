"""What a board asks for: the list of its runs, kept beside its tables in results/boards/NAME."""

from __future__ import annotations

import json
import re
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from results.errors import UserError, nearest
from results.places import program
from results.plain_file import read_json
from results.whole import whole

LIST = "runs.json"
LARGEST = 2**26  # bytes of a file that is taken for such a list


@dataclass(frozen=True)
class ListedRun:
    """One run that a board asks for: the board's row, counted from 0, task, seed, and its name."""

    row: int
    task: str
    seed: int
    run: str


@dataclass(frozen=True)
class RunList:
    """A board's name, the methods of its rows as typed, and every run it asks for.

    `records` is the folder that its pages are made from, as seen from the project: two folders
    above the lists' (results/boards). None is whichever folder is read.
    """

    name: str
    methods: tuple[str, ...]
    runs: tuple[ListedRun, ...]
    records: str | None = None

    @cached_property
    def by_run(self) -> dict[str, ListedRun]:
        return {one.run: one for one in self.runs}

    @cached_property
    def rows(self) -> list[list[ListedRun]]:
        by_row: dict[int, list[ListedRun]] = defaultdict(list)
        for one in self.runs:
            by_row[one.row].append(one)
        return [by_row[i] for i in range(len(self.methods))]

    def to_json(self) -> str:
        """Return JSON, one run a line."""
        lines = [json.dumps([r.row, r.task, r.seed, r.run]) for r in self.runs]
        records = f'"records": {json.dumps(self.records)},\n' if self.records else ""
        return (
            f'{{\n"board": {json.dumps(self.name)},\n{records}'
            f'"methods": {json.dumps(self.methods)},\n"runs": [\n' + ",\n".join(lines) + "\n]\n}\n"
        )


def is_within(folder: str) -> bool:
    """Say whether a folder is named from the project and lies in it, on every machine."""
    return re.fullmatch(r"[\w-][\w.-]*(/[\w-][\w.-]*)*", folder, re.ASCII) is not None


def write_list(listed: RunList, folder: Path) -> Path:
    """Write a board's list of runs to FOLDER/NAME/runs.json."""
    path = folder / listed.name / LIST
    try:
        with whole(path) as temporary:
            temporary.write_text(listed.to_json(), encoding="utf-8")
    except OSError as error:
        raise UserError(f"{path}: cannot be written ({error.strerror})") from None
    return path


def read_list(path: Path) -> RunList:
    """Read a board's list of runs; what is no such list is a UserError that names the file."""
    try:
        content, _ = read_json(path, LARGEST)
        methods, name = content["methods"], content["board"]
        runs = [ListedRun(*entry) for entry in content["runs"]]
        valid = isinstance(name, str) and re.fullmatch("[A-Za-z0-9_-]+", name) is not None
        valid &= all(isinstance(m, str) for m in methods)
        records = content.get("records")
        valid &= records is None or (isinstance(records, str) and is_within(records))
        kinds = (int, str, int, str)
        for one in runs:
            values = (one.row, one.task, one.seed, one.run)
            valid &= all(type(v) is k for v, k in zip(values, kinds, strict=True))
            valid &= 0 <= one.row < len(methods)
        if not valid:
            raise ValueError("an entry is no [row, task, seed, run], or records no folder")
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(
            f"{path} is no list of a board's runs ({error}); make it with {program()} board=NAME"
            " plan=true list=FOLDER"
        ) from None
    if name != path.absolute().parent.name:  # its pages would be written over that board's
        raise UserError(
            f"{path} is the list of board {name}, in a folder of another name; make it with"
            f" {program()} board=NAME plan=true list=FOLDER"
        )
    return RunList(name, tuple(methods), tuple(runs), records)


def read_lists(folder: Path, bad: list[str] | None = None) -> list[RunList]:
    """Read the lists of every board below a folder, in the order of their names.

    With `bad`, files that are no such lists are passed over and named there; without, the first
    one is a UserError.
    """
    lists = []
    for path in sorted(folder.glob(f"*/{LIST}")):
        try:
            lists.append(read_list(path))
        except UserError as error:
            if bad is None:
                raise
            bad.append(str(error))
    return lists


def find_list(name: str | None, folder: Path) -> RunList:
    """Read the list of one board below a folder; a name that is none there is a UserError."""
    names = sorted(path.parent.name for path in folder.glob(f"*/{LIST}"))
    if name in names:
        return read_list(folder / name / LIST)
    known = f"known in {folder}: {', '.join(names) or 'none'}"
    if name is None:
        raise UserError(f"front needs the name of a board: --board NAME; {known}")
    raise UserError(f"--board {name}: no such board{nearest(name, names) or f'; {known}'}")


def absent(listed: RunList, runs: Sequence[str]) -> list[str]:
    """Return the methods of the rows of which no run has a record."""
    there = set(runs)
    return [
        listed.methods[i]
        for i, row in enumerate(listed.rows)
        if not any(one.run in there for one in row)
    ]
