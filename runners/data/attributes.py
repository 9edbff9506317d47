"""What tasks say of an example besides its texts: the values of categorical columns.

A model knows the values that its training set holds, each by a number from 1. What it does not
know, and a cell without any value, is number 0.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from results.errors import UserError
from runners.config.task import Task
from runners.data.split import Split, Values

UNKNOWN, NOTHING = 0, -1
Known = Mapping[str, Sequence[str]]


def values_of(cell: Any, separator: str | None) -> tuple[str, ...]:
    """Return the values of a cell, each once and in alphabetical order; an empty cell has none.

    A list, as the hub has them, is taken as it is; a text is divided at the separator. Blanks
    around a value are no part of it.
    """
    if isinstance(cell, list | tuple):
        parts = list(cell)
    elif isinstance(cell, str) and separator is not None:
        parts = list(cell.split(separator))
    else:
        parts = [cell]
    words = {"" if part is None else str(part).strip() for part in parts}
    return tuple(sorted(words - {""}))


def lacking(name: str, columns: Sequence[str], where: str) -> UserError:
    """Say that a file or table has no column for an attribute, and which ones it has."""
    shown = ", ".join(columns[:12]) + (", …" if len(columns) > 12 else "")
    return UserError(f"{where} has no column '{name}', an attribute; it has {shown}")


def known_values(task: Task, train: Split) -> dict[str, list[str]]:
    """Return the values of each of a task's attributes in its training rows, in order."""
    rows = train.attributes or ()
    return {
        name: sorted({value for row in rows for value in row[place]})
        for place, name in enumerate(task.attributes)
    }


def numbered(rows: Sequence[Values], known: Known) -> NDArray[np.int64]:
    """Return the numbers of all rows' values, [rows, attributes, most values of a cell].

    They are in order, and filled up with NOTHING.
    """
    places = [{value: n for n, value in enumerate(values, 1)} for values in known.values()]
    numbers = [
        [
            sorted(of.get(value, UNKNOWN) for value in cell) or [UNKNOWN]
            for of, cell in zip(places, row, strict=True)
        ]
        for row in rows
    ]
    most = max((len(cell) for row in numbers for cell in row), default=1)
    filled = np.full((len(rows), len(known), most), NOTHING, dtype=np.int64)
    for i, row in enumerate(numbers):
        for j, cell in enumerate(row):
            filled[i, j, : len(cell)] = cell
    return filled


def unseen_rows(rows: Sequence[Values], known: Known) -> list[int]:
    """Return the rows of which a value is not known; an empty cell holds none."""
    sets = [set(values) for values in known.values()]
    return [
        i
        for i, row in enumerate(rows)
        if not all(own.issuperset(cell) for own, cell in zip(sets, row, strict=True))
    ]
