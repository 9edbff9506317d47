"""Rows that no seed changes are said to be copies, however their gap was rounded."""

from __future__ import annotations

import numpy as np
import pytest

from results.pages.two_rows import verdict
from results.stats.compare import judge
from results.stats.paired import bca_interval, bca_intervals
from results.tables.collect import Table, tables
from tests.results.simulated import simulated

ROWS = 277  # what rte is scored on


def _table(first: list[int], second: list[int], tasks: tuple[str, ...] = ("rte",)) -> Table:
    """Return a table of two rows that answer so many of the rows right, by seed."""
    [table] = tables(
        simulated(method, task, seed, right / ROWS)
        for task in tasks
        for method, counts in (("linear", first), ("full", second))
        for seed, right in enumerate(counts, start=1)
    )
    return table


def _said(table: Table) -> str:
    column = "rte" if len(table.tasks) == 1 else "average"
    return verdict(table, judge(table, beside="full"), "linear", column)


GAPS = [(199, 140), (140, 199), (150, 149), (201, 18), (33, 277), (277, 1)]


@pytest.mark.parametrize(("first", "second"), GAPS)
@pytest.mark.parametrize("seeds", [6, 7, 10])
@pytest.mark.parametrize("tasks", [("rte",), ("rte", "cola", "mrpc")])
def test_a_constant_gap_is_that_of_copies(
    first: int, second: int, seeds: int, tasks: tuple[str, ...]
) -> None:
    said = _said(_table([first] * seeds, [second] * seeds, tasks))
    assert said.endswith(": all pairs are as far apart, as copies of one run are, so no table says"
                         " so.")  # fmt: skip
    few = _said(_table([first] * 3, [second] * 3))
    assert few.endswith("; at least 6 seeds are needed.")


def test_a_gap_is_constant_though_scores_are_not() -> None:
    """Of 240 - 199, 247 - 206, ... in 277ths, the last digits differ."""
    second = [140 + 7 * seed for seed in range(6)]
    table = _table([right + 59 for right in second], second)
    gaps = np.array([(right + 59) / ROWS - right / ROWS for right in second])
    assert np.ptp(gaps) > 0
    interval = bca_interval(gaps)
    assert interval == bca_intervals([gaps])[0] == pytest.approx((59 / ROWS, 59 / ROWS))
    assert "all pairs are as far apart, as copies" in _said(table)


def test_equal_rows_do_not_differ_and_one_size_of_two_signs_is_no_copy() -> None:
    assert _said(_table([199] * 7, [199] * 7)).endswith("; they do not differ.")
    mixed = _said(_table([141, 140, 141, 141, 140, 141, 141], [140, 141, 140, 140, 141, 140, 140]))
    assert "more seeds would show a difference of 0.2" in mixed


def test_gaps_that_vary_are_no_copies() -> None:
    said = _said(_table([199, 200, 199, 198, 199, 200], [140] * 6))
    assert "as copies" not in said
    assert "as a single question." in said
