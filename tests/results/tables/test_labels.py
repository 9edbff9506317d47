"""A row's name says what tells it from others on the same tasks, and nothing that each task has."""

from __future__ import annotations

from dataclasses import replace

from results.record import Record
from results.tables.labels import labels
from tests.results.simulated import simulated

SHOWN = "full with pseudo-labels"


def _taught(task: str, seed: int, settings: str) -> Record:
    blank = simulated(task=task, seed=seed)
    teacher = {"chain": [{"task": task, "methods": "full", "settings": settings}]}
    data = {**blank.data, "pseudo": {"teacher": teacher}}
    run = f"{blank.run}.{settings}"
    return replace(blank, run=run, data=data, config={**blank.config, "data": {"pseudo": {}}})


def test_each_tasks_own_teacher_makes_one_row() -> None:
    runs = [_taught(task, seed, task) for task in ("mrpc", "rte") for seed in (1, 2)]
    assert set(labels(runs, {}).values()) == {SHOWN}


def test_two_teachers_of_one_task_make_two_rows() -> None:
    runs = [_taught("mrpc", 1, "a"), _taught("mrpc", 1, "b"), _taught("rte", 1, "c")]
    rows = labels(runs, {})
    assert [rows[run.run] for run in runs[:2]] == [f"{SHOWN} (teacher=a)", f"{SHOWN} (teacher=b)"]


def _mined(task: str, seed: int, pattern: str) -> Record:
    """Return a run on rows whose hash follows from task and pattern."""
    blank = simulated(task=task, seed=seed)
    own = {**blank.config["task"], "mine": {"patterns": [pattern]}}
    mined = {"from": "a file", "sha256": f"{task} by {pattern}"}
    config = {**blank.config, "task": own, "data": {"mine": {}}}
    run = f"{blank.run}.{pattern}"
    return replace(blank, run=run, data={**blank.data, "mined": mined}, config=config)


def test_each_tasks_own_patterns_make_one_row() -> None:
    runs = [_mined(task, seed, task) for task in ("mrpc", "rte") for seed in (1, 2)]
    assert set(labels(runs, {}).values()) == {"full on mined rows"}


def test_two_patterns_of_one_task_are_named_and_not_the_hashes_that_follow() -> None:
    rows = labels([_mined("mrpc", 1, "a"), _mined("mrpc", 1, "b"), _mined("mrpc", 2, "a")], {})
    assert sorted(rows.values()) == [
        f"full on mined rows (task.mine.patterns={[each]})" for each in ("a", "a", "b")
    ]
