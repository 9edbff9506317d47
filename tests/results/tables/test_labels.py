"""A row's name says what tells it from others on the same tasks, and nothing that each task has."""

from __future__ import annotations

from dataclasses import replace

from results.record import Record
from results.tables.collect import tables
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


def _filtered(task: str, words: str | None, by: str | None = "mlm_prompt") -> Record:
    blank = simulated(task=task, seed=1)
    prompt = {"template": "{sentence} [MASK]", "words": {"no": words, "yes": "great"}}
    said = {} if words is None else {"prompt": prompt}
    splits = {"in_place_of": {"train": blank.data["splits"]["train"]}}
    mined = {"from": "FILE", **splits, **({} if by is None else {"filter": {"name": by}})}
    config = {**blank.config, "task": {"name": task, **said}, "data": {"mine": {}}}
    run = f"{blank.run}.{words}.{by}"
    return replace(blank, run=run, data={**blank.data, "mined": mined}, config=config)


def test_words_of_a_filter_make_a_row_and_no_column() -> None:
    own = _filtered("mrpc", None, None)
    own = replace(own, run="own", data={**own.data, "mined": None})
    runs = [own, _filtered("mrpc", None, None), _filtered("mrpc", "bad"), _filtered("mrpc", "dull")]
    [table] = tables(runs)
    assert table.tasks == ("mrpc",)
    by_words = "full on mined rows filtered by mlm_prompt (task.prompt.words.no="
    rows = {"full", "full on mined rows", f"{by_words}bad)", f"{by_words}dull)"}
    assert {row.method for row in table.rows} == rows


def test_each_tasks_own_words_of_a_filter_make_one_row() -> None:
    runs = [_filtered("mrpc", "bad"), _filtered("rte", "dull")]
    assert {*labels(runs, {}).values()} == {"full on mined rows filtered by mlm_prompt"}
