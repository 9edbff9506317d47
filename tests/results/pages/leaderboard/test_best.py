"""Rows that are set below a third row are not thereby told from the best one."""

from __future__ import annotations

import dataclasses
from html import unescape
from pathlib import Path

import pytest

from results.pages.boards_index import leaders
from results.pages.headline import headline
from results.record import Record
from results.stats.compare import judge
from results.tables.collect import tables
from tests.results.pages.leaderboard.chromium import PATH, WHY, between, opened
from tests.results.simulated import simulated

WOBBLE = (0.004, -0.003, 0.002, -0.004, 0.003, -0.002, 0.001, -0.001)


NOISE = (0.16, -0.11, 0.12, -0.09, 0.15, -0.12, 0.11, -0.1)


def _records(noise: float = 1.0) -> list[Record]:
    """Return eight seeds of `lora`, the best; of `full`; and of `bitfit`, close below `full`."""
    scores = {
        "full": [0.6 + off for off in WOBBLE],
        "bitfit": [0.57 - off for off in WOBBLE],
        "lora": [0.66 + noise * off for off in NOISE],
    }
    return [
        simulated(method, "cola", seed, score)
        for method, each in scores.items()
        for seed, score in enumerate(each, start=1)
    ]


def test_a_row_below_a_third_only_is_not_told_from_the_best() -> None:
    [table] = tables(_records())
    judged = judge(table)
    assert judged.tied["cola"] == {"full", "lora"}  # bitfit is below full
    assert judged.beside_best["cola"] == {"full", "bitfit"}
    said = "lora is best on cola (67.5), but 2 of the 2 other rows cannot be told from the best."
    assert headline(table, judged).startswith(said)
    assert leaders(table, judged).top == "2 rows are in the top group"


def test_all_others_are_set_below_a_best_row_of_little_noise() -> None:
    [table] = tables(_records(noise=0.01))
    judged = judge(table)
    assert judged.beside_best["cola"] == frozenset()
    assert "and set apart from all others." in headline(table, judged)
    assert leaders(table, judged).top == "the first is set above all others"


def test_the_first_of_a_top_group_of_one_is_not_above_all_others() -> None:
    [table] = tables(_records())
    judged = judge(table)
    alone = dataclasses.replace(
        judged, tied={"cola": frozenset({"lora"})}, beside_best={"cola": frozenset({"bitfit"})}
    )
    assert leaders(table, alone).top == "1 row is in the top group"
    assert "but 1 of the 2 other rows cannot be told from the best." in headline(table, alone)


@pytest.mark.skipif(PATH is None, reason=WHY)
def test_a_browser_counts_them_too(tmp_path: Path) -> None:
    [table] = tables(_records())
    shown = opened(table, tmp_path, "#baseline=bitfit")
    said = unescape(between(shown, '<p class="say">', "</p>"))
    assert said == headline(table, judge(table, beside="bitfit"))
