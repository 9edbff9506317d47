"""Sums of right answers tie often, and a browser counts each tie as Python does."""

from __future__ import annotations

import json
import shutil
import subprocess

import numpy as np
import pytest

from results.pages.leaderboard.data import to_json
from results.stats.compare import judge
from results.stats.max_t import step_down
from results.tables.collect import Table, tables
from tests.conftest import ROOT
from tests.results.simulated import simulated

NODE = shutil.which("node")


ROWS = 277  # what rte is scored on


ADJUSTED = """
const boards = JSON.parse(require('fs').readFileSync(0, 'utf8'));
console.log(JSON.stringify(boards.map(([base, data]) => {
  const gaps = differencesTo(data, base, [[0]]);
  return data.rows.map((_, row) => row === base ? null : gaps.get(row + ' 0').p);
})));
"""


def _table(right: dict[str, list[int]]) -> Table:
    """Return a table of so many right answers by row and seed."""
    [table] = tables(
        simulated(method, "rte", seed, count / ROWS)
        for method, counts in right.items()
        for seed, count in enumerate(counts, start=1)
    )
    return table


def _in_browser(boards: list[tuple[Table, str]]) -> list[list[float | None]]:
    """Return by board and row the p value that the page's script computes beside a baseline."""
    given = []
    for table, base in boards:
        judged = judge(table)
        none = {row.method: [[]] for row in table.rows}
        place = [row.method for row in table.rows].index(base)
        given.append((place, json.loads(to_json(table, judged, none))))
    folder = ROOT / "results/pages/leaderboard"
    source = "".join((folder / f"{name}.js").read_text() for name in ("scale", "statistics"))
    done = subprocess.run(
        [str(NODE), "-e", source + ADJUSTED],
        input=json.dumps(given), capture_output=True, text=True, check=True,
    )  # fmt: skip
    result: list[list[float | None]] = json.loads(done.stdout)
    return result


@pytest.mark.skipif(NODE is None, reason="needs node")
def test_a_page_counts_each_tie_of_sums() -> None:
    """Rows of 6 to 8 seeds, one of them with the same sum as the baseline."""
    rng = np.random.default_rng(2)
    boards = []
    for place in range(24):
        seeds = 6 + place % 3
        right = {
            name: [int(k) for k in rng.integers(140, 140 + 6 * (1 + place % 4), seeds)]
            for name in ("bitfit", "full", "hype", "lora")
        }
        right["mixout"] = right["full"][::-1]
        boards.append((_table(right), ("full", "hype")[place % 2]))
    shown = _in_browser(boards)
    for (table, base), ps in zip(boards, shown, strict=True):
        cells = {row.method: row.cells["rte"].by_seed for row in table.rows}
        names = [name for name in cells if name != base]
        gaps = [{s: cells[name][s] - cells[base][s] for s in cells[base]} for name in names]
        own = dict(zip(names, step_down(gaps), strict=True))
        assert dict(zip(cells, ps, strict=True)) == {base: None} | {
            name: pytest.approx(p, abs=1e-12) for name, p in own.items()
        }


@pytest.mark.skipif(NODE is None, reason="needs node")
def test_no_claim_rests_on_a_missed_tie() -> None:
    """Of 128 patterns, 8 are as far from zero as the one observed."""
    right = {
        "full": [161, 154, 165, 160, 165, 163, 144],
        "hype": [159, 151, 166, 159, 164, 159, 142],
    }
    gaps = np.array(right["hype"]) - right["full"]
    signs = 1 - 2 * (np.arange(2**7)[:, None] >> np.arange(7) & 1)
    exact = float(np.mean(np.abs(signs @ gaps) >= abs(gaps.sum())))  # of whole numbers
    assert exact == 0.0625
    table = _table(right)
    assert judge(table, beside="full").adjusted["hype", "rte"] == exact
    [ps] = _in_browser([(table, "full")])
    assert ps[[row.method for row in table.rows].index("hype")] == exact


def test_sums_of_zero_are_no_evidence() -> None:
    """Of right answers that are as many, only rounding tells the sum from zero."""
    gaps = [a / ROWS - b / ROWS for a, b in zip([150, 163, 171], [171, 150, 163], strict=True)]
    assert step_down([dict(enumerate(gaps * 3))]) == [1.0]
