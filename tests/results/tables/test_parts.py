"""Parts of a run (slices, further sets, a mixture's tasks) stand in the columns they are of."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from results.pages.data import lines
from results.pages.headline import headline
from results.pages.leaderboard.lines import lines as ranked_lines
from results.pages.sheet import difference_sheet, score_sheet
from results.pages.two_rows import sheets_of_two
from results.papers.references import bibtex
from results.record import Record
from results.run_list import ListedRun, RunList
from results.stats.compare import judge
from results.stats.pairing import AVERAGE
from results.tables.collect import Table, tables
from tests.results.simulated import UNSEEN, simulated, sliced


def _arm(seed: int, **more: Any) -> Record:
    """Return a run of `more`, which is `opin` with other rows to train on."""
    train = {"train": {"rows": 2000, "sha256": "5" * 64, "complete": True}}
    return sliced("full", "more", seed, splits=train, definition={"arm_of": "opin"}, **more)


def _counts(table: Table) -> dict[str, dict[str, tuple[int, int]]]:
    """Return by row and column how many runs finished, and of how many."""
    return {
        row.method: {t: (len(c.scores), c.planned) for t, c in row.cells.items()}
        for row in table.rows
    }


def _listed(runs: list[tuple[int, str, int, str]]) -> RunList:
    methods = tuple(f"row {i}" for i in range(1 + max(run[0] for run in runs)))
    return RunList("try", methods, tuple(ListedRun(*run) for run in runs))


def test_slices_of_an_arm_stand_beside_those_of_its_task() -> None:
    records = [r for s in (1, 2) for r in (sliced(seed=s), _arm(s, seen=0.9))]
    for each in (records, records[::-1]):
        [table] = tables(each)
        assert table.tasks == ("opin", "opin seen", "opin unseen")
        assert {row.method for row in table.rows} == {"full", "full on more"}
        both = dict.fromkeys(table.tasks, (2, 2))
        assert _counts(table) == {"full": both, "full on more": both}
    only = [r for r in records if r.task == "more"]
    [table] = tables(only)
    assert table.tasks == ("more", "more seen", "more unseen")
    assert [row.method for row in table.rows] == ["full on more"]


def test_slices_of_an_arm_that_are_other_rows_have_columns_of_their_own() -> None:
    """An arm that trained on more values knows more of the report's."""
    [table] = tables([sliced(), _arm(1, rows=UNSEEN[:5])])
    assert {*table.tasks} == {
        "opin", "more seen", "more unseen", "opin seen", "opin unseen",
    }  # fmt: skip


def test_slices_of_seeds_that_drew_their_own_rows_are_one_column() -> None:
    def of(seed: int) -> Record:
        splits = {"train": {"rows": 100, "sha256": f"{seed}" * 64, "complete": False}}
        drawn = {"train_size": 100, "seed": "seed"}
        record = sliced(seed=seed, rows=UNSEEN[seed:], splits=splits)
        record.config["data"] = {**record.config["data"], **drawn}
        record.data = {**record.data, "drawn_from": "7" * 64}
        return record

    [table] = tables([of(1), of(2)])
    assert table.tasks == ("opin", "opin seen", "opin unseen")


def test_an_arm_on_a_board_is_in_the_column_that_the_board_asks_for() -> None:
    done = [sliced(), _arm(1)]
    runs = [(0, "opin", 1, done[0].run), (1, "opin", 1, done[1].run), (1, "opin", 2, "none")]
    [table] = tables(done, _listed(runs))
    assert table.tasks == ("opin", "opin seen", "opin unseen")
    assert _counts(table)["full on more"] == dict.fromkeys(table.tasks, (1, 2))


def _mixed(method: str, seed: int, mrpc: float | None, rte: float | None) -> Record:
    """Return a run that was trained on two tasks at once."""
    parts = {"mrpc": mrpc, "rte": rte}
    own = {name: {"name": name, "kind": "classification"} for name in parts}
    task = {"name": "mix", "kind": "multitask", "mixture": {"of": [*parts], "tasks": own}}
    record = simulated(method, "mix", seed, None if mrpc is None else 0.5, config={"task": task})
    facts = {"rows": 9, "sha256": "9" * 64, "complete": True}
    known = {f"{name}/validation": {"accuracy": v} for name, v in parts.items() if v is not None}
    return dataclasses.replace(
        record,
        scores=known,
        data={
            **record.data,
            "splits": {f"{name}/validation": facts for name in parts},
            "parts": dict.fromkeys(parts, facts),
        },
    )


@pytest.mark.parametrize("missing", [False, True])
def test_a_board_that_asks_for_a_mixture_has_the_columns_of_its_tasks_alone(missing: bool) -> None:
    records = [_mixed(m, s, 0.6, 0.4) for m in ("full", "bitfit") for s in (1, 2)]
    runs = [(("full", "bitfit").index(r.methods[0]), "mix", r.seed, r.run) for r in records]
    records = records[:-1] if missing else records
    [table] = tables(records, _listed(runs))
    assert table.tasks == ("mrpc", "rte")
    ends = (1, 2) if missing else (2, 2)
    assert [*_counts(table).values()] == [dict.fromkeys(table.tasks, (2, 2)),
                                          dict.fromkeys(table.tasks, ends)]  # fmt: skip
    cells = [line for line in lines([table], [judge(table)]) if line["task"] == AVERAGE]
    assert [cell["mean"] for cell in cells] == [0.5, 0.5]
    assert "best on the average of 2 tasks (50.0)" in headline(table, judge(table))


def test_a_run_that_failed_or_is_missing_counts_in_every_column_of_its_row() -> None:
    done = [sliced(seed=1), sliced(seed=2), sliced(seed=3, seen=None)]
    [table] = tables(done)
    assert _counts(table) == {"full": dict.fromkeys(table.tasks, (2, 3))}
    sheet = score_sheet(table, judge(table))
    assert dict(zip(sheet.heads, sheet.body[0], strict=True))["n"].text == "2/3"
    runs = [(0, "opin", s, done[s - 1].run) for s in (1, 2)] + [(0, "opin", 3, "none")]
    [table] = tables(done[:2], _listed(runs))
    assert _counts(table) == {"full": dict.fromkeys(table.tasks, (2, 3))}


def _with_further(seed: int, score: float | None, sick: float = 0.7) -> Record:
    definition = {"name": "sick", "kind": "classification", "labels": ["no", "yes"]}
    task = {"name": "mnli", "kind": "classification", "labels": ["no", "yes"]}
    task["further"] = {"sick": {"definition": definition}}
    facts = {"sick": {"rows": 9, "sha256": "3" * 64, "complete": True}}
    record = simulated("full", "mnli", seed, score, config={"task": task}, splits=facts)
    known = {} if score is None else {**record.scores, "sick": {"accuracy": sick}}
    return dataclasses.replace(record, scores=known)


def test_two_metrics_of_a_further_set_are_no_scores_of_one_column() -> None:
    """A diagnostic set that a run called otherwise was once scored by its task's metrics."""
    metrics, records = {"metrics": ["accuracy"], "diagnostics": {"ax": ["matthews"]}}, []
    for seed, metric in ((1, "accuracy"), (2, "matthews")):
        one = _with_further(seed, 0.8)
        one.config["task"]["further"]["sick"]["definition"] |= metrics
        records.append(dataclasses.replace(one, scores={**one.scores, "sick": {metric: 0.6}}))
    [table] = tables(records)
    assert [n for n in table.tasks if n.startswith("sick")] == ["sick by mnli", "sick by mnli#2"]
    assert "task.own_metrics=[matthews]" in table.marks["sick by mnli#2"]


def test_a_run_that_failed_counts_where_further_sets_would_be() -> None:
    done = [_with_further(1, 0.8), _with_further(2, None)]
    [table] = tables(done)
    assert _counts(table) == {"full": {"mnli": (1, 2), "sick by mnli": (1, 2)}}
    runs = [(0, "mnli", s, r.run) for s, r in enumerate(done, start=1)] + [(0, "mnli", 3, "none")]
    [table] = tables(done, _listed(runs))
    assert _counts(table) == {"full": {"mnli": (1, 3), "sick by mnli": (1, 3)}}


def test_a_failed_run_is_in_no_column_of_other_rows_of_its_task() -> None:
    """What another training set has a slice of says nothing of this one's."""
    other = {"train": {"rows": 900, "sha256": "6" * 64, "complete": True}}
    [table] = tables([sliced(seed=1), sliced(seed=2, seen=None, splits=other)])
    assert table.tasks == ("opin", "opin#2", "opin seen", "opin unseen")
    assert _counts(table)["full"]["opin#2"] == (0, 1)
    assert _counts(table)["full"]["opin seen"] == (1, 1)


def _on_few_rows() -> list[Record]:
    """Return runs of which lora is better on ten rows of 400 alone, and worse on the task."""
    gains = {"full": (0.8, 0.44), "lora": (0.76, 0.77), "bitfit": (0.7, 0.4)}
    return [
        sliced(m, seed=s, seen=seen + 0.001 * (s * ord(m[0]) % 5), unseen=unseen + 0.002 * s)
        for m, (seen, unseen) in gains.items()
        for s in range(1, 8)
    ]


def test_a_slice_is_in_no_average_rank_or_headline() -> None:
    [table] = tables(_on_few_rows())
    judged = judge(table, examples=True, draws=20)
    assert judged.columns == ("opin", "opin seen", "opin unseen")
    assert judged.ranks is None
    said = headline(table, judged)
    assert said.startswith("full is best on opin (79.3), and set apart from all others.")
    assert [line.name for line in ranked_lines(table, judged)] == ["full", "lora", "bitfit"]
    sheet = score_sheet(table, judged)
    assert "average" not in sheet.heads
    assert [line[0].text for line in sheet.body] == ["full", "lora", "bitfit"]
    assert ("lora", "opin unseen") in judged.differences
    [two] = sheets_of_two([table], "lora", "full", None)
    assert "lora is 3." in two.lead
    assert "below full on opin [" in two.lead


def test_an_average_counts_a_task_with_slices_once() -> None:
    others = [
        simulated(m, "rte", s, gain + 0.001 * s)
        for m, gain in (("full", 0.6), ("lora", 0.59), ("bitfit", 0.55))
        for s in range(1, 8)
    ]
    [table], [plain] = (
        tables([*_on_few_rows(), *others]),
        tables([*(dataclasses.replace(r, slices={}) for r in _on_few_rows()), *others]),
    )
    both = judge(table), judge(plain)
    assert table.tasks == ("rte", "opin", "opin seen", "opin unseen")
    assert both[0].columns == (*table.tasks, AVERAGE)
    for row in ("lora", "bitfit"):
        one, other = (j.differences[row, AVERAGE] for j in both)
        assert (one.mean, one.pairs, one.interval) == (other.mean, other.pairs, other.interval)
    assert both[0].ranks == both[1].ranks
    assert both[0].tied[AVERAGE] == both[1].tied[AVERAGE]
    assert "best on the average of 2 tasks" in headline(table, both[0])
    means = {
        line["method"]: line["mean"]
        for line in lines([table], [both[0]])
        if line["task"] == AVERAGE
    }
    scores = {row.method: [row.cells[t].mean or 0 for t in ("opin", "rte")] for row in table.rows}
    assert means == {name: pytest.approx(sum(two) / 2) for name, two in scores.items()}
    sheet = difference_sheet(table, both[0])
    assert sheet is not None
    assert "The average's test has a pair for each task and seed." in sheet.notes
    assert not any("different seeds" in note for note in sheet.notes)
    assert any("opin seen and opin unseen are" in n for n in score_sheet(table, both[0]).notes)
    assert bibtex([table]) == bibtex([plain])


def test_a_row_of_before_slices_were_kept_has_an_average_and_seconds() -> None:
    rte = [simulated(m, "rte") for m in ("full", "lora")]
    old = dataclasses.replace(sliced("lora"), slices={})
    [table] = tables([sliced(), old, *rte])
    for row in table.rows:
        assert table.training_seconds(row) == 200.0
        assert table.peak_bytes(row) == 10**9
    assert all(line.score is not None for line in ranked_lines(table, judge(table)))


def test_further_sets_of_other_tasks_stay_in_the_average() -> None:
    [table] = tables([_with_further(s, 0.8, 0.6) for s in (1, 2)])
    assert "0 on the average of 2 tasks" in headline(table, judge(table))
