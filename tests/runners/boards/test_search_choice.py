"""A search of several seeds takes no rate that collapses at times, and may try options too."""

from __future__ import annotations

import math
from pathlib import Path
from statistics import fmean, stdev
from unittest.mock import Mock

import pytest

from results.errors import UserError
from results.tables.trials import best_choice, sure_of
from runners.boards.plan import Board, Search, best_trials, expand, expand_search
from runners.boards.planned import Planned

LR = [1e-4, 1e-3, 1e-2]


def test_a_rate_that_is_best_on_average_and_collapses_once_is_not_chosen() -> None:
    steady, lucky = [0.70, 0.71, 0.72], [0.95, 0.93, 0.30]
    assert fmean(lucky) > fmean(steady)
    tried = {
        1e-3: dict(enumerate([[s] for s in steady])),
        1e-2: dict(enumerate([[s] for s in lucky])),
    }
    assert best_choice(tried) == 1e-3
    assert sure_of(lucky) == pytest.approx(fmean(lucky) - stdev(lucky) / math.sqrt(3))
    assert sure_of([0.5]) == 0.5
    assert sure_of([0.5, -math.inf, 0.6]) == -math.inf
    even = {1e-2: {1: [0.5]}, 1e-3: {1: [0.5]}}
    assert best_choice(even) == 1e-3


def test_tasks_are_averaged_by_seed_before_the_spread_is_taken() -> None:
    """Tasks differ by far more than seeds, which must not count as spread."""
    tried = {1e-3: {1: [0.1, 0.9], 2: [0.1, 0.9]}, 1e-4: {1: [0.49, 0.49], 2: [0.5, 0.5]}}
    assert best_choice(tried) == 1e-3


def _board(search: Search) -> Board:
    rows = ["full", "lora", "[hype,lora]"]
    return Board(name="b", methods=rows, tasks=["rte"], seeds=[1], search=search)


def test_each_row_tries_the_options_of_its_own_methods_at_each_rate_and_seed() -> None:
    search = Search(lr=LR, seeds=[1, 2, 3], options={"lora": {"rank": [4, 8]}})
    slots = expand_search(_board(search), search, [])
    assert len(slots) == 3 * (3 + 2 * 3 + 2 * 3)
    by_row = [{slot.trial for slot in slots if slot.row == row} for row in range(3)]
    assert by_row[0] == {(rate, ()) for rate in LR}
    assert by_row[1] == {(rate, (f"method.lora.rank={r}",)) for rate in LR for r in (4, 8)}
    assert by_row[2] == by_row[1]
    last = slots[-1]
    assert last.overrides[-2:] == ["lr=0.01", "method.lora.rank=8"]
    assert {slot.seed for slot in slots} == {1, 2, 3}


def test_the_board_takes_rate_and_option_that_are_best_less_their_error(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    search = Search(lr=LR, seeds=[1, 2], options={"lora": {"rank": [4, 8]}})
    board = _board(search)
    stored, trials = {}, []
    for slot in expand_search(board, search, []):
        assert slot.trial is not None
        rate, options = slot.trial
        score = {1e-4: 0.5, 1e-3: 0.6, 1e-2: (0.9, 0.1)[slot.seed - 1]}[rate]
        score += 0.05 * ("method.lora.rank=8" in options)
        trial = Planned(slot, slot.overrides, "n", tmp_path / f"{len(trials)}.json", "finished")
        stored[trial.path] = Mock(selected={"score": score}, status="finished")
        trials.append(trial)
    monkeypatch.setattr("results.record.read", stored.get)
    best = best_trials(search, trials)
    assert best[0, "rte"] == (1e-3, ())
    assert best[1, "rte"] == best[2, "rte"] == (1e-3, ("method.lora.rank=8",))
    assert {search.decides(slot) for slot in expand(board, [])} == set(best)


def test_slips_in_a_search_are_named() -> None:
    with pytest.raises(ValueError, match="give one of the two"):
        Search(lr=LR)
    with pytest.raises(ValueError, match="give one of the two"):
        Search(lr=LR, seed=1, seeds=[1, 2])
    search = Search(lr=LR, seed=1, options={"loar": {"rank": [4]}})
    with pytest.raises(UserError, match=r"options\.loar: no row of b has it; did you mean lora"):
        expand_search(_board(search), search, [])


def test_of_choices_that_all_diverged_at_times_the_one_that_did_least_is_best() -> None:
    lost = -math.inf
    tried = {
        1e-4: {1: [lost], 2: [lost], 3: [lost]},
        3e-4: {1: [0.9], 2: [lost], 3: [lost]},
        1e-3: {1: [0.2], 2: [lost], 3: [0.2]},
        3e-3: {1: [0.3], 2: [0.3], 3: [lost]},
    }
    assert best_choice(tried) == 3e-3
    assert best_choice({**tried, 1e-2: {1: [0.1], 2: [0.1], 3: [0.1]}}) == 1e-2
