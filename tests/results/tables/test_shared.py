"""Runs that share a GPU have no seconds anywhere, and memory of their own."""

from __future__ import annotations

import csv
import io
import json

import pytest

from results.pages.data import lines, to_csv
from results.pages.front import front
from results.pages.leaderboard.data import to_json
from results.pages.pictures import cost
from results.pages.text import render
from results.record import Record
from results.stats.compare import judge
from results.tables.collect import Table, tables
from tests.results.simulated import BASE, grid

GPU = {**BASE.environment, "device": "cuda", "device_name": "A GPU"}


def _table(shared: bool) -> Table:
    """Return a table whose rows ran beside six or seven others."""
    records: list[Record] = grid({"full": 0.0, "bitfit": -0.01, "lora": -0.02}, ["rte"], 6)
    for record in records:
        beside = 6 + (record.methods != ["full"])
        own = {"runs_beside": beside, "shared_device": True} if shared else {}
        record.environment = {**GPU, **own}
        record.peak_bytes = 10**9 if record.methods == ["full"] else 8 * 10**8
        record.train_seconds = 10.0 * record.seed
    [table] = tables(records)
    return table


def test_a_table_shows_memory_and_no_seconds() -> None:
    text = render([_table(True)], "md", differences=False)
    [heads] = [line for line in text.splitlines() if line.startswith("| method")]
    [full] = [line for line in text.splitlines() if line.startswith("| full")]
    assert "training seconds" not in heads
    assert heads.endswith("| peak MB |")
    assert full.endswith("| 1000 |")
    assert "No seconds, as several runs shared a GPU (A GPU, shared)." in text
    alone = render([_table(False)], "md", differences=False)
    assert "| training seconds | peak MB |" in alone
    assert "Seconds on A GPU, passes before the first step included.\n" in alone


def test_csv_pages_and_the_front_have_no_seconds() -> None:
    table = _table(True)
    judged = judge(table)
    rows = list(csv.DictReader(io.StringIO(to_csv(list(lines([table], [judged]))))))
    assert {(row["training_seconds"], row["device"]) for row in rows} == {("", "A GPU, shared")}
    assert {row["peak_bytes"] for row in rows} == {"1e+09", "800000000"}
    page = json.loads(to_json(table, judged, {row.method: [[]] for row in table.rows}))
    assert {second for row in page["rows"] for second in row["seconds"]} == {None}
    assert page["untimed"] == "No seconds: several runs shared a GPU."
    shown = front("own", table, judged, "index.html")
    assert "×" not in shown
    assert "A GPU, shared, so no times" in shown


@pytest.mark.parametrize(("shared", "drawn"), [(True, 0), (False, 1)])
def test_no_picture_has_their_seconds(shared: bool, drawn: int) -> None:
    figure = cost(_table(shared))
    assert figure is not None
    labels = [panel.get_xlabel() for panel in figure.axes]
    assert labels.count("training seconds") == drawn
    assert labels.count("peak memory, MB") == 1
