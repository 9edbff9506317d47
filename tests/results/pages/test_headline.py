"""The sentence over a table says no more of its rows than the column that it is of."""

from __future__ import annotations

import pytest

from results.pages.boards_index import leaders
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


@pytest.mark.parametrize(
    ("mean", "said"),
    [
        (0.599, "bitfit is best on cola (65.0), and set apart from all others that have the seeds;"
                " 1 has too few seeds to tell."),
        (0.7, "adapter is best on cola (70.0), by too few seeds of its own to be set apart."),
    ],
)  # fmt: skip
def test_a_row_with_too_few_seeds_is_set_apart_from_none(mean: float, said: str) -> None:
    few = [simulated("adapter", "cola", seed, mean) for seed in (1, 2, 3)]
    [table] = tables([*_runs({"cola": 0.05}), *few])
    judged = judge(table)
    assert headline(table, judged).startswith(said)
    top = leaders(table, judged).top
    first = "the first is set above all others that have the seeds"
    assert top == (first if mean < 0.6 else "1 row is in the top group")
    three = judge(tables([r for r in [*_runs({"cola": 0.05}), *few] if r.seed < 4])[0])
    assert (three.tied, three.untested) == ({}, {})


def test_a_single_comparison_has_no_others_beside_it() -> None:
    [table] = tables(_runs({"cola": 0.0005}))
    said = headline(table, judge(table))
    assert said.endswith(" No row is shown to differ from full on cola.")
