"""Records as a pandas frame, a row for each run, and two of its rows compared."""

from __future__ import annotations

import warnings
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from results.errors import UserError
from results.pages.text import NO_RECORDS
from results.pages.two_rows import sheets_of_two, written
from results.places import expanded, read_where
from results.record import Record, read, read_each
from results.tables.collect import device, tables
from results.tables.columns import by_column
from results.tables.conditions import Conditions, conditions
from results.tables.labels import labels

if TYPE_CHECKING:
    import pandas

COLUMNS = (
    *("run", "method", "methods", "task", "model", "seed", "status", "score"),
    *("trainable", "trainable_without_head", "total", "stored_bytes", "steps"),
    *("training_seconds", "eval_seconds", "whole_seconds", "tokens_per_second", "peak_bytes"),
    *("data", "budget", "protocol", "precision", "device", "lr", "table", "file"),
)
FILE = "file"  # the column by which a frame's records are read again


def load_results(folder: str | Path | None = None) -> pandas.DataFrame:
    """Return a frame with a row for each record below a folder, by default of one's own runs.

    `method` is the row in which the record stands in a table, `table` that table's heading.
    `SPLIT/METRIC` holds each score of the splits reported, as a fraction. A file that is no record
    is a warning. The frame may be filtered, joined and saved; `file` is the way back to a record.
    """
    import pandas

    bad: list[str] = []
    each = read_each(read_where(None if folder is None else Path(expanded(str(folder)))), bad)
    for sentence in bad:
        warnings.warn(f"passed over: {sentence}", stacklevel=2)
    records = [record for _, record in each]
    rows, keys = _rows(records), conditions(records)
    facts = [
        _facts(record, rows[key, record.run], key) | {FILE: str(path.absolute())}
        for (path, record), key in zip(each, keys, strict=True)
    ]
    return pandas.DataFrame(facts, columns=None if facts else list(COLUMNS))


def _rows(records: Sequence[Record]) -> dict[tuple[Conditions, str], str]:
    """Return the name of each run's row in the table of its conditions."""
    groups: dict[Conditions, list[Record]] = defaultdict(list)
    for key, record in zip(conditions(records), records, strict=True):
        groups[key] += by_column(record)
    return {
        (key, run): row for key, shown in groups.items() for run, row in labels(shown, {}).items()
    }


def _facts(record: Record, row: str, key: Conditions) -> dict[str, Any]:
    scores = {
        f"{split}/{metric}": value
        for split, metrics in record.scores.items()
        for metric, value in metrics.items()
    }
    parameters = {
        name: record.parameters.get(name)
        for name in ("trainable", "trainable_without_head", "total")
    }
    as_they_are = ("stored_bytes", "steps", "training_seconds", "eval_seconds", "whole_seconds",
                   "tokens_per_second", "peak_bytes")  # fmt: skip
    return {
        "run": record.run,
        "method": row,
        "methods": "+".join(record.methods),
        "task": record.task,
        "model": record.model,
        "seed": record.seed,
        "status": record.status,
        "score": record.score,
        **scores,
        **parameters,
        **{name: getattr(record, name) for name in as_they_are},
        "data": record.data["source"],
        "budget": record.budget,
        "protocol": record.protocol,
        "precision": record.config["precision"],
        "device": device(record),
        "lr": record.config["lr"],
        "table": key.heading(),
    }


@dataclass(frozen=True, repr=False)
class TwoRows:
    """What records say of two rows: the `sentences` of their tables, and all that is printed."""

    sentences: tuple[str, ...]
    text: str

    def __str__(self) -> str:
        return self.text

    __repr__ = __str__  # what a notebook shows


def compare(frame: pandas.DataFrame, first: str, second: str, task: str | None = None) -> TwoRows:
    """Return what `python -m results compare FIRST SECOND` prints of the records of a frame.

    Rows are called as in a table of these records alone. `task` asks about one column instead of
    the average. What the command refuses is a UserError.
    """
    if FILE not in frame.columns:
        raise UserError(f"compare() needs a frame of load_results(): this one has no column {FILE}")
    if lacking := int(frame[FILE].isna().sum()):
        raise UserError(
            f"compare(): {lacking} of {len(frame)} rows of the frame are of no record, as their"
            f" {FILE} is empty; leave them out, by frame.dropna(subset=['{FILE}'])"
        )
    places = dict.fromkeys(frame[FILE])  # a join may name a record in several rows
    known = tables([read(Path(place)) for place in places])
    if not known:
        raise UserError(NO_RECORDS.strip())
    sheets = sheets_of_two(known, first, second, task)
    return TwoRows(tuple(sheet.lead for sheet in sheets), written(sheets, "text"))
