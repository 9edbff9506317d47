"""On which side of a text a tokenizer's files have it cut and filled up, where a run does not.

A run cuts where `budget.truncate` says, and fills up where the model does not read. Files that have
either on the left once decided that without a word, so that what came of them has another name.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from results.errors import UserError
from results.plain_file import read_plain

LARGEST = 2**26  # bytes of a configuration or a tokenizer
_DIRECTION = re.compile(rb'"direction"\s*:\s*"Left"')


def turned_sides(folder: Path, architecture: str) -> tuple[str, ...]:
    """Return which of "padding" and "truncation" a folder has on the left, and a run on the right.

    XLNet reads the end of a text, and its padding stays on the left.
    """
    config, own = json_object(folder / "tokenizer_config.json") or {}, _of_backend(folder)
    sides = {name: config.get(f"{name}_side", own.get(name)) for name in ("padding", "truncation")}
    if architecture == "xlnet":
        del sides["padding"]
    return tuple(name for name, side in sides.items() if str(side).lower() == "left")


def turned_in(turned: Sequence[str], truncate: str) -> list[str]:
    """Return which of these sides decide what a run reads, where it cuts texts as `truncate` says.

    A tokenizer itself cuts the end only.
    """
    return [name for name in turned if name == "padding" or truncate == "head"]


def check_sides(
    named: str, theirs: Mapping[str, Any], turned: Sequence[str], truncate: str
) -> None:
    """Refuse what was trained when the files of its tokenizer decided, as they do no longer.

    `theirs` are the facts of its pretrained files, empty where they are not known.
    """
    before = theirs.get("turned", ())
    if theirs and (sides := [s for s in turned_in(turned, truncate) if s not in before]):
        raise UserError(
            f"{named}: it was made when {sides[0]}_side=left in its tokenizer's files was followed,"
            " which no run does now, so that it would give other answers; do that run again"
        )


def _of_backend(folder: Path) -> dict[str, Any]:
    """Return the directions in tokenizer.json, which is parsed where one is to the left."""
    path = folder / "tokenizer.json"
    try:
        if not _DIRECTION.search(read_plain(path, LARGEST)):
            return {}
    except (OSError, ValueError):
        return {}
    parts = json_object(path) or {}
    return {
        name: part.get("direction")
        for name in ("padding", "truncation")
        if isinstance(part := parts.get(name), dict)
    }


def json_object(path: Path) -> dict[str, Any] | None:
    """Return a file's JSON object; None where there is none."""
    try:
        content = json.loads(read_plain(path, LARGEST).decode("utf-8"))
    except (OSError, ValueError, RecursionError):
        return None
    return content if isinstance(content, dict) else None
