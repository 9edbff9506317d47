"""Seeds that learned nothing are counted, and their means shown with and without them."""

from __future__ import annotations

import dataclasses

import pytest
from sklearn.metrics import f1_score

from results.pages.data import lines
from results.pages.sheet import score_sheet
from results.stats.collapsed import collapsed_seeds, majority_score
from results.stats.compare import judge
from results.tables.collect import tables
from tests.results.simulated import simulated

GOLD = [1, 1, 1, 0, 1]


def _kept(gold: list, predicted: list) -> dict:
    return {"validation": {"predictions": predicted, "references": gold}}


def _record(seed: int, score: float, metrics: tuple[str, ...] = ("accuracy",), **more: object):
    more.setdefault("predictions", _kept(GOLD, GOLD))
    scores = {"validation": dict.fromkeys(metrics, score)}
    return dataclasses.replace(simulated("full", "mrpc", seed, score), scores=scores, **more)


def test_majority_is_that_of_the_report_by_the_tasks_metrics() -> None:
    assert majority_score(_record(1, 0.9)) == pytest.approx(0.8)
    both = majority_score(_record(1, 0.9, ("accuracy", "f1")))
    assert both == pytest.approx((0.8 + f1_score(GOLD, [1] * 5)) / 2)
    assert majority_score(_record(1, 0.9, ("matthews_correlation",))) == 0
    scores = _kept([0.1, 2.5, 4.0], [0.0, 1.0, 2.0])
    assert majority_score(_record(1, 0.9, ("pearson", "spearmanr"), predictions=scores)) == 0
    even = _kept([0, 1, 0, 1], [0, 1, 0, 1])
    assert majority_score(_record(1, 0.9, ("f1",), predictions=even)) == pytest.approx(2 / 3)
    assert majority_score(_record(1, 0.9, predictions={})) is None


def test_a_cell_counts_them_and_the_note_gives_the_mean_without() -> None:
    records = [_record(1, 0.9), _record(2, 0.8), _record(3, 0.7), _record(4, 1.0)]
    [table] = tables(records)
    cell = table.rows[0].cells["mrpc"]
    assert collapsed_seeds(cell) == [2, 3]
    judged = judge(table)
    sheet = score_sheet(table, judged)
    assert sheet.body[0][1].text == "85.0 ± 12.9 †2"
    assert any("full on mrpc 2 of 4, 95.0 without" in note for note in sheet.notes)
    [line] = lines([table], [judged])
    assert line["collapsed"] == 2
    assert line["mean_without_collapsed"] == pytest.approx(0.95)
    [whole] = tables([_record(1, 0.9), _record(2, 0.85)])
    assert not any("†" in note for note in score_sheet(whole, judge(whole)).notes)
