"""Takes records into the folder of shipped ones: admit RECORD…, checked or not at all."""

from __future__ import annotations

import argparse
import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from results import record as records
from results.errors import UserError
from results.places import shipped
from results.printable import printable
from results.record import Record
from results.whole import whole
from runners.jobs.identity import recorded_name
from runners.root import ROOT

DEVICE = "cpu"  # of the records in results/runs; another device's stand in a folder of their own
DEVICE_HELP = "what all of them ran on; default: what the folder's records did, else the first"
PLACE = re.compile(r'["=](/\w[^"\s]*|[A-Za-z]:\\\\[^"\s]*)')


def admit(arguments: Sequence[str]) -> int:
    """Copy records that fit into the folder of shipped ones; return 0, or 2 where one does not.

    None is copied where one does not fit; what is wrong with each is told in a line.
    """
    parser = argparse.ArgumentParser(prog="admit", description=__doc__, allow_abbrev=False)
    parser.add_argument("records", nargs="+", type=Path, help="files, or folders of them")
    parser.add_argument("--into", type=Path, default=None, help="default: results/runs")
    parser.add_argument("--device", help=DEVICE_HELP)
    parser.add_argument("--data-dir", help="what a whole path in data.dir= becomes, as ../glue")
    options = parser.parse_args(list(arguments))
    folder = options.into or shipped()
    if not folder.is_dir():
        raise UserError(f"{folder}: no such folder of records; admit is for a clone of the project")
    paths = [path for named in options.records for path in _files(named)]
    originals = {path: records.read(path) for path in paths}
    read = {
        path: with_data_in(moved(record, folder), options.data_dir)
        for path, record in originals.items()
    }
    device = options.device or device_of(folder, next(iter(read.values())))
    wrong = [
        f"{path}: {problem}"
        for path, record in read.items()
        for problem in problems(record, folder, device)
    ]
    wrong += [
        f"{path}: {first} is another record of the run"
        for path, record in read.items()
        if (first := _first_of(record.run, read)) != path and record != read[first]
    ]
    if wrong:
        raise UserError(*wrong)
    for path, record in read.items():
        place = records.record_path(folder, record.run)
        if not place.exists():
            with whole(place) as temporary:
                is_moved = record is not originals[path]
                content = record.to_json().encode() if is_moved else path.read_bytes()
                temporary.write_bytes(content)
        print(printable(str(place)))
    return 0


def _first_of(run: str, read: Mapping[Path, Record]) -> Path:
    return next(path for path, record in read.items() if record.run == run)


def _files(named: Path) -> list[Path]:
    if not named.is_dir():
        return [named]
    paths = sorted(path for path in named.glob("*.json"))
    if not paths:
        raise UserError(f"{named}: no records in that folder")
    return paths


def device_of(folder: Path, first: Record) -> str:
    """Return what the records of a folder ran on; where there is none yet, what the first one did.

    Those of results/runs are a CPU's, read or not. Records of several devices are a UserError.
    """
    if folder.resolve() == shipped().resolve():
        return DEVICE
    there = {_device(record) for record in records.read_all(folder, [])} or {_device(first)}
    if len(there) > 1:
        raise UserError(
            f"{folder}: its records ran on {' and '.join(sorted(there))}; say by --device which of"
            " these the new ones did"
        )
    return there.pop()


def _device(record: Record) -> str:
    return str(record.environment.get("device"))


def moved(record: Record, folder: Path) -> Record:
    """Return a record whose command names `folder` where it named the folder that it was made in.

    That is so where the command has `out=` with a whole path, which is of one machine only.
    """
    words = shlex.split(record.command)
    out = next((w.removeprefix("out=") for w in words if w.startswith("out=/")), None)
    if out is None:
        return record
    there = folder.resolve()
    own = there.relative_to(ROOT) if there.is_relative_to(ROOT) else Path(folder.name)
    place = re.compile(rf"(^|=){re.escape(out.rstrip('/'))}(?=/|$)")
    put = [place.sub(lambda m: f"{m[1]}{own}", word) for word in words]
    return replace(record, command=shlex.join(put))


def with_data_in(record: Record, place: str | None) -> Record:
    """Return a record with `place`, if one is given, for the whole path that `data.dir` said."""
    given = (record.config.get("data") or {}).get("dir")
    if place is None or not isinstance(given, str) or not Path(given).is_absolute():
        return record
    start = re.compile(rf"(^|=){re.escape(given.rstrip('/'))}(?=/|$)")

    def put(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: put(own) for key, own in value.items()}
        if isinstance(value, list):
            return [put(own) for own in value]
        return start.sub(lambda m: m[1] + place, value) if isinstance(value, str) else value

    command = shlex.join(put(shlex.split(record.command)))
    return replace(record, command=command, config=put(record.config))


def problems(record: Record, folder: Path, device: str = DEVICE) -> list[str]:
    """Return why a record may not stand among the shipped ones, a clause each.

    Reading it has held its scores against its predictions, and its content against its hash. Its
    name is made again from its configuration and the hashes of its data and weights.
    """
    if record.status != "finished":
        return [f"the run is {record.status}"]
    environment, place = record.environment, records.record_path(folder, record.run)
    own = _device(record)
    checks = {
        f"its configuration makes another name, {_name(record)}": _name(record) == record.run,
        f"it ran on {own}, not on {device} (--device); give a device's records a folder of their"
        " own (--into)": own == device,
        "the code was changed since its commit, or has none; run it again from a clean clone": (
            environment.get("dirty") is False
            and re.fullmatch(r"[0-9a-f]{40}", str(environment.get("commit"))) is not None
        ),
        "its data is generated, not the task's; give such records a folder of their own": (
            record.data["source"] != "embedded" or folder.resolve() != shipped().resolve()
        ),
        "it was not deterministic": environment.get("deterministic") is True,
        f"it names a place of the machine, {_place(record)}": _place(record) is None,
        f"{place} is there and is another record of the run": (
            not place.exists() or records.read(place) == record
        ),
    }
    return [problem for problem, fits in checks.items() if not fits]


def _name(record: Record) -> str | None:
    """Return the name that a record's content makes; None where its configuration is refused."""
    try:
        return recorded_name(record)
    except (KeyError, TypeError, UserError):
        return None


def _place(record: Record) -> str | None:
    match = PLACE.search(record.to_json())
    return match and match.group(1)
