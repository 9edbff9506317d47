"""Finds the record that a run's name, the start of one, or a path means."""

from __future__ import annotations

import difflib
from pathlib import Path

from results.errors import UserError
from results.places import expanded
from results.plain_file import is_folder, is_there

NAMED = 3  # runs that a refusal lists


def find_run(named: str, folder: Path) -> Path:
    """Return the file of a run's record; what is none, or several, is a UserError."""
    path = Path(expanded(named))
    if is_folder(path):
        raise UserError(
            f"report {named}: is a folder, and a report is of one run; for a folder of records type"
            f" python -m results {named} --split"
        )
    for place in (path, path.with_name(f"{path.name}.json")):
        if is_there(place):
            return place
    if not is_folder(folder):
        raise UserError(
            f"report {named}: no such file, and no folder {folder} to look for a run in; name the"
            " run's record, RUN.json, or its folder behind the run's name"
        )
    try:
        runs = sorted(path.stem for path in folder.iterdir() if path.suffix == ".json")
    except OSError as error:
        raise UserError(f"{folder}: cannot be read ({error.strerror})") from None
    wanted = named.removesuffix(".json")
    if wanted in runs:
        return folder / f"{wanted}.json"
    begun = [run for run in runs if wanted and run.startswith(wanted)]
    if len(begun) == 1:
        return folder / f"{begun[0]}.json"
    if begun:
        more = ", …" if len(begun) > NAMED else ""
        raise UserError(
            f"report {named}: {len(begun)} runs in {folder} begin so"
            f" ({', '.join(begun[:NAMED])}{more}); name one of them whole"
        )
    raise UserError(f"report {named}: no such run in {folder}{_nearest(wanted, runs)}")


def _nearest(wanted: str, runs: list[str]) -> str:
    """Return the run that was perhaps meant; where none is like it, how to see what there is."""
    close = difflib.get_close_matches(wanted, runs, n=1, cutoff=0.6)
    if close:
        return f"; did you mean {close[0]}?"
    if not runs:
        return ", which holds no records; name the run's folder behind its name"
    return f", which holds {len(runs)} records, such as {runs[0]}"
