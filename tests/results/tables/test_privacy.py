"""Private rows are named by what they promise, and never hold two promises."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from results.pages.text import render
from results.record import Record
from results.tables.collect import tables
from tests.results.simulated import simulated


def _private(seed: int, planned: float | None = None, task: str = "mrpc", **dp: Any) -> Record:
    methods = [{"name": "dp", "version": 1, **dp}, {"name": "bitfit", "version": 1}]
    report = {} if planned is None else {"dp": {"planned_epsilon": planned}}
    record = simulated("dp+bitfit", task, seed, config={"method": methods}, method_reports=report)
    return replace(record, run=f"{record.run}.{sorted(dp.items())}")


def _names(*records: Record) -> list[str]:
    [table] = tables([*records, simulated("full", seed=1)])
    return [row.method for row in table.rows if row.method != "full"]


def test_rows_say_epsilon_accountant_delta_and_sampling() -> None:
    assert _names(_private(1)) == ["dp+bitfit, ε=8 (PRV, δ=1/2N, Poisson)"]
    assert _names(_private(1, epsilon=3.0, delta=1e-5, accountant="rdp")) == [
        "dp+bitfit, ε=3 (RDP, δ=1e-05, Poisson)"
    ]
    assert _names(_private(1, noise=0.0)) == ["dp+bitfit, ε=∞ (PRV, δ=1/2N, Poisson)"]
    assert _names(_private(1, noise=1.0)) == ["dp+bitfit, ε of noise 1 (PRV, δ=1/2N, Poisson)"]
    [shuffled] = _names(_private(1, sampling="shuffled"))
    assert shuffled == "dp+bitfit, ε=8 (PRV, δ=1/2N, shuffled: approximate accounting)"


def test_a_damaged_promise_costs_the_other_rows_nothing() -> None:
    damaged = [_private(1, epsilon="8"), _private(2, delta="x"), _private(3, noise=1.0)]
    damaged[2].method_reports["dp"] = {"planned_epsilon": [2]}
    for record in damaged:
        assert len(_names(record)) == 1


def test_one_row_never_mixes_two_epsilons() -> None:
    """Equal noise promises less where there are fewer rows."""
    one, other = _private(1, 2.1013, noise=1.0), _private(1, 7.5, "rte", noise=1.0)
    assert _names(one, other) == [
        "dp+bitfit, ε=2.101 (PRV, δ=1/2N, Poisson)",
        "dp+bitfit, ε=7.5 (PRV, δ=1/2N, Poisson)",
    ]
    assert len(_names(_private(1), _private(2), _private(1, epsilon=3.0))) == 2


def test_a_table_with_private_rows_says_what_epsilon_does_not_count() -> None:
    said = "dev counts as public, and searches for learning rates"
    assert said in render(tables([simulated("full", seed=1), _private(1)]), "md")
    assert said not in render(tables([simulated("full", seed=1)]), "md")
