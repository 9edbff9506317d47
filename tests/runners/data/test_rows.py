"""A user's table is read and written row by row, and what is written is what was read."""

from __future__ import annotations

import csv
import json
from pathlib import Path

from runners.data.rows import TableWriter, read_table

TEXTS = ["plain", "a \r carriage return", "\r", "two\r\nlines", 'a "quote", a comma', "", "\u2028"]


def test_a_csv_has_a_row_for_each_text_whatever_ends_a_line_in_it(tmp_path: Path) -> None:
    """A carriage return that was not quoted made two rows of one."""
    given, out = tmp_path / "given.jsonl", tmp_path / "out.csv"
    given.write_text("".join(json.dumps({"text": text}) + "\n" for text in TEXTS))
    with out.open("w", encoding="utf-8", newline="") as stream:
        writer = TableWriter(".csv", "text=given.jsonl", stream)
        for row in read_table(given, "text=given.jsonl"):
            writer.write(row, {"prediction": "yes"})
    with out.open(encoding="utf-8", newline="") as stream:
        assert [*csv.reader(stream)] == [["text", "prediction"], *([t, "yes"] for t in TEXTS)]
    assert [row.values for row in read_table(out, "out")] == [[text, "yes"] for text in TEXTS]
