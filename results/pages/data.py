"""Writes tables as data, one line for each cell: CSV and Parquet."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

from results.printable import printable
from results.stats.collapsed import collapsed_seeds
from results.stats.compare import Comparison
from results.stats.pairing import AVERAGE, average
from results.tables.collect import Table

COLUMNS = (
    *("table", "method", "task", "mean", "sd", "finished", "asked", "seeds", "scores"),
    *("collapsed", "mean_without_collapsed", "tied"),
    *("difference", "difference_low", "difference_high", "pairs", "p", "p_max_t"),
    *("examples_low", "examples_high", "trainable", "stored_bytes", "training_seconds"),
    *("peak_bytes", "device", "runs"),
)


def lines(tables: Sequence[Table], comparisons: Sequence[Comparison]) -> Iterator[dict[str, Any]]:
    """Yield a mapping for each cell: scores are fractions, differences those to the baseline.

    `collapsed` counts the seeds at or below the majority class; `tied` is None where the column's
    seeds could separate nothing, or the row has too few or no score; `seeds`, `scores` and `runs`
    are lists joined by spaces.
    """
    for table, comparison in zip(tables, comparisons, strict=True):
        for row in table.rows:
            for column in comparison.columns:
                cell = row.cells.get(column)
                if cell is None and column != AVERAGE:
                    continue
                key = (row.method, column)
                difference = comparison.differences.get(key)
                low, high = (difference and difference.interval) or (None, None)
                over = comparison.over_examples.get(key, (None, None))
                mean = cell.mean if cell else average(row, table.counted)
                alone = mean is None or row.method in comparison.untested.get(column, ())
                tied = None if alone else comparison.tied.get(column)
                bad = collapsed_seeds(cell) if cell else []
                left = [v for s, v in cell.by_seed.items() if s not in bad] if cell else []
                yield {
                    "table": table.conditions.heading(),
                    "method": row.method,
                    "task": column,
                    "mean": mean,
                    "sd": cell.sd if cell else None,
                    "finished": len(cell.scores) if cell else None,
                    "asked": cell.planned if cell else None,
                    "seeds": " ".join(map(str, cell.seeds)) if cell else "",
                    "scores": " ".join(f"{s:.9g}" for s in cell.scores) if cell else "",
                    "collapsed": len(bad) if cell else None,
                    "mean_without_collapsed": fmean(left) if left else None,
                    "tied": None if tied is None else row.method in tied,
                    "difference": difference.mean if difference else None,
                    "difference_low": low,
                    "difference_high": high,
                    "pairs": difference.pairs if difference else None,
                    "p": difference.p if difference else None,
                    "p_max_t": comparison.adjusted.get(key),
                    "examples_low": over[0],
                    "examples_high": over[1],
                    "trainable": row.trainable,
                    "stored_bytes": row.stored_bytes,
                    "training_seconds": cell.cost("training_seconds") if cell else None,
                    "peak_bytes": cell.cost("peak_bytes") if cell else None,
                    "device": "; ".join(row.devices),
                    "runs": " ".join(p.run for p in cell.points if p.record) if cell else "",
                }


def to_csv(cells: Sequence[dict[str, Any]]) -> str:
    """Return CSV with a head; numbers have nine digits, None is empty."""
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(COLUMNS)
    for line in cells:
        writer.writerow([_shown(line[name]) for name in COLUMNS])
    return stream.getvalue()


def _shown(value: Any) -> Any:
    if isinstance(value, str):
        return escaped(value)
    return f"{value:.9g}" if isinstance(value, float) else "" if value is None else value


def escaped(text: str) -> str:
    """Return text that no spreadsheet takes for a formula; numbers, one or several, stay as is."""
    text = printable(text)
    if text.lstrip()[:1] not in _FORMULAS or all(map(_is_number, text.split())):
        return text
    return f"'{text}"


_FORMULAS = ("=", "+", "-", "@", "＝", "＋", "－", "＠")


def _is_number(word: str) -> bool:
    return re.fullmatch(r"-?\d+(\.\d+)?(e[+-]?\d+)?", word) is not None


def write_parquet(cells: Sequence[dict[str, Any]], path: Path) -> None:
    """Write the same lines as a Parquet file."""
    import pyarrow
    import pyarrow.parquet

    text = {"table", "method", "task", "seeds", "scores", "device", "runs"}
    whole = {"finished", "asked", "collapsed", "pairs"}
    kinds = {"tied": pyarrow.bool_()}
    schema = pyarrow.schema(
        (name, kinds.get(name) or (pyarrow.string() if name in text else pyarrow.int64())
         if name in text | whole | set(kinds) else pyarrow.float64())
        for name in COLUMNS
    )  # fmt: skip
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(list(cells), schema=schema), path)
