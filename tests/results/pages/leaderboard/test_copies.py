"""Copies of one run say nothing of chance, in a browser as in Python."""

from __future__ import annotations

from html import unescape
from pathlib import Path

import pytest

from results.pages.headline import headline
from results.stats.compare import judge
from results.tables.collect import tables
from tests.results.pages.leaderboard.chromium import PATH, WHY, Tables, between, opened
from tests.results.simulated import grid, simulated

pytestmark = pytest.mark.skipif(PATH is None, reason=WHY)


def test_rows_that_no_seed_changes_take_nothing_from_others(tmp_path: Path) -> None:
    """Two untrained rows differ by the same with each seed, which is no test of chance."""
    flat = {"once": 0.5, "linear": 0.66}
    records = grid({"full": 0, "lora": -0.05}, ["rte"], 7)
    records += [simulated(m, "rte", s, score) for m, score in flat.items() for s in range(1, 8)]
    [table] = tables(records)
    judged = judge(table, beside="once")
    assert judged.adjusted["linear", "rte"] == 1
    assert judged.claimed(("full", "rte"))
    shown = opened(table, tmp_path, "#baseline=once")
    assert unescape(between(shown, '<p class="say">', "</p>")) == headline(table, judged)
    rows = {cells[0][0]["data-v"]: attrs for attrs, cells in Tables(
        between(shown, '<table class="ranks">', "</table>")).rows[1:]}  # fmt: skip
    assert rows["linear"]["data-p"] == "1"
    [others] = tables([r for r in records if r.methods != ["linear"]])
    expected = judge(others, beside="once").adjusted["lora", "rte"]
    assert float(rows["lora"]["data-p"]) == expected == judged.adjusted["lora", "rte"]
