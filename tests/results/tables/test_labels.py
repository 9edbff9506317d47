"""A row's name says what tells it from others on the same tasks, and nothing that each task has."""

from __future__ import annotations

from dataclasses import replace

import pytest

from methods.registry import registered
from results.pages.sheet import score_sheet
from results.record import Record
from results.run_list import ListedRun, RunList
from results.stats.compare import judge
from results.tables.collect import tables
from results.tables.labels import MIXES_EXAMPLES, labels
from tests.results.simulated import simulated

SHOWN = "full with pseudo-labels"


def _taught(task: str, seed: int, settings: str) -> Record:
    blank = simulated(task=task, seed=seed)
    teacher = {"chain": [{"task": task, "methods": "full", "settings": settings}]}
    data = {**blank.data, "pseudo": {"teacher": teacher}}
    run = f"{blank.run}.{settings}"
    return replace(blank, run=run, data=data, config={**blank.config, "data": {"pseudo": {}}})


def test_every_method_whose_answers_depend_on_a_batch_is_known_here() -> None:
    mixing = {name for name, cls in registered().items() if name != "peft" and cls().mixes_examples}
    assert mixing == MIXES_EXAMPLES
    tuners = {t for t in ("lora", "vera", "lily") if registered()["peft"](tuner=t).mixes_examples}
    assert tuners == MIXES_EXAMPLES


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


def _after(
    seed: int, *contents: str | None, task: str = "cola", run: str | None = None, score: float = 0.5
) -> Record:
    """Return a run after stages that tell their contents, or as an old record does not."""
    chain = [
        {"run": f"mlm.s{seed}.{own}", "task": "mlm", "methods": "full", "settings": "4fafbf44"}
        | ({} if own is None else {"content": own})
        for own in contents
    ]
    start = {"run": run or chain[-1]["run"], "sha256": f"{seed}", "chain": chain}
    blank = simulated(task=task, seed=seed, score=score)
    name = f"{blank.run}.{'.'.join(map(str, contents))}"
    return replace(blank, run=name, weights={**blank.weights, "start": start})


def test_chains_of_other_contents_are_two_rows() -> None:
    """Their settings are the same: the text of a stage lies elsewhere, or its method changed."""
    runs = [_after(s, own) for own in "ab" for s in range(1, 7)]
    [table] = tables(runs)
    assert [(row.method, row.cells["cola"].seeds) for row in table.rows] == [
        (f"full after mlm (content.start={own})", (1, 2, 3, 4, 5, 6)) for own in "ab"
    ]
    half = [_after(s, "a" if s < 4 else "b") for s in range(1, 7)]
    [table] = tables(half)
    assert [row.cells["cola"].seeds for row in table.rows] == [(1, 2, 3), (4, 5, 6)]


def test_contents_are_not_shown_where_settings_tell_rows_apart() -> None:
    runs = [_after(1, "a"), _after(1, "b"), _after(1, "c", task="rte")]
    for run, rate in zip(runs, (1e-4, 1e-3, 1e-4), strict=True):
        run.config = {**run.config, "lr": rate}
    rows = labels(runs, {})
    assert {*rows.values()} == {"full after mlm (lr=0.0001)", "full after mlm (lr=0.001)"}


def test_each_tasks_own_stage_makes_one_row() -> None:
    runs = [
        _after(s, own, task=task) for s in (1, 2) for task, own in (("cola", "a"), ("rte", "b"))
    ]
    assert {*labels(runs, {}).values()} == {"full after mlm"}


@pytest.mark.parametrize("later", [("a",), ("a", "b"), (None, "b")])
def test_a_chain_that_tells_its_contents_stands_with_an_old_one(later: tuple[str, ...]) -> None:
    runs = [_after(1, *[None] * len(later)), _after(2, *later), _after(3, *later)]
    [name] = {*labels(runs, {}).values()}
    assert "content" not in name


def test_the_stage_that_differs_is_named() -> None:
    rows = labels([_after(1, "a", "b"), _after(1, "a", "c")], {})
    assert {*rows.values()} == {
        "full after mlm, mlm (content.start.2=b)", "full after mlm, mlm (content.start.2=c)",
    }  # fmt: skip


def test_a_start_that_took_over_less_once_is_another_row() -> None:
    runs = [_after(seed, "a") for seed in (1, 2)]
    runs[1].weights["start"]["version"] = 2
    assert [*labels(runs, {}).values()] == [f"full after mlm (start.version={v})" for v in (1, 2)]


def test_teachers_of_other_contents_are_two_rows() -> None:
    runs = [_taught("mrpc", seed, "same") for seed in (1, 2, 3)]
    for run, own in zip(runs, "aab", strict=True):
        run.data["pseudo"]["teacher"]["chain"][0]["content"] = own
    assert [*labels(runs, {}).values()] == [f"{SHOWN} (content.teacher={own})" for own in "aab"]
    assert {*labels(runs[:2], {}).values()} == {SHOWN}


def test_rows_of_a_board_stay_two_though_nothing_tells_them_apart() -> None:
    """Old chains say too little; the board knows that they are two."""
    runs = [replace(_after(s, None), run=f"{b}.{s}") for b in "ab" for s in (1, 2)]
    listed = [ListedRun("ba".index(r.run[0]), "cola", r.seed, r.run) for r in runs]
    [table] = tables(runs, RunList("try", ("one", "two"), tuple(listed)))
    assert [(row.method, [p.run for p in row.points_of("cola")]) for row in table.rows] == [
        ("full after mlm", ["b.1", "b.2"]), ("full after mlm#2", ["a.1", "a.2"]),
    ]  # fmt: skip


def test_seeds_that_start_from_one_run_are_marked() -> None:
    own = [_after(s, "a", task=task) for s in (1, 2, 3) for task in ("cola", "rte")]
    one = [
        replace(r, run=f"{r.run}.one", methods=["bitfit"], weights={
            **r.weights, "start": {**r.weights["start"], "run": "mlm.s1"}})
        for r in own
    ]  # fmt: skip
    [table] = tables([*own, *one])
    [note] = [n for n in score_sheet(table, judge(table)).notes if "start from one run" in n]
    assert note == (
        "bitfit after mlm by full: seeds 1, 2 and 3 start from one run, mlm.s1; their spread is of"
        " what came after it."
    )
    [table] = tables(own)
    assert not [n for n in score_sheet(table, judge(table)).notes if "start from" in n]
