"""The sentence over a table says no more of its rows than the column that it is of."""

from __future__ import annotations

from results.pages.headline import headline
from results.record import Record
from results.stats.compare import judge
from results.tables.collect import tables
from tests.results.simulated import simulated


def _runs(gains: dict[str, float]) -> list[Record]:
    """Return eight seeds of full fine-tuning, and of a row that gains so much on each task."""
    wobble = (0.004, -0.003, 0.002, -0.004, 0.003, -0.002, 0.001, -0.001)
    return [
        simulated(method, task, seed, 0.6 + (method == "bitfit") * (gain + off))
        for task, gain in gains.items()
        for seed, off in enumerate(wobble, start=1)
        for method in ("full", "bitfit")
    ]


def test_no_row_differs_on_the_average_though_one_does_on_a_task() -> None:
    [table] = tables(_runs({"cola": 0.05, "rte": -0.0495}))
    judged = judge(table)
    assert judged.claimed(("bitfit", "cola"))
    assert headline(table, judged).endswith(
        " No row is shown to differ from full on the average of 2 tasks, by a test over 3"
        " comparisons with it."
    )


def test_a_single_comparison_has_no_others_beside_it() -> None:
    [table] = tables(_runs({"cola": 0.0005}))
    said = headline(table, judge(table))
    assert said.endswith(" No row is shown to differ from full on cola.")
