"""Rows with unseen attributes are scored apart, from predictions that a record holds."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from results.errors import UserError
from results.pages.calibration import calibration_sheets
from results.record import Record, read
from results.tables.collect import tables
from runners.data.attributes import unseen_rows
from runners.jobs.job import Job
from tests.conftest import Cli, configure, narrow, tiny

Folder = Callable[[str], Path]


def _given(folder: Path, method: str, *more: str) -> list[str]:
    given = [a for a in tiny(folder) if not a.startswith("task=")]
    return [*given, "task=tastes", *narrow(method), "budget.steps=2", *more]


def test_a_row_is_unseen_where_a_value_is_unknown_and_an_empty_cell_is_none() -> None:
    known = {"user": ["a", "b"], "genre": ["x"]}
    rows = [(("a",), ("x",)), (("a", "c"), ("x",)), ((), ()), (("b",), ("y",)), (("a", "b"), ())]
    assert unseen_rows(rows, known) == [1, 3]


def _right(record: Record, rows: list[int]) -> float:
    kept = record.predictions["validation"]
    return sum(kept["predictions"][i] == kept["references"][i] for i in rows) / len(rows)


def test_a_record_scores_seen_and_unseen_rows_whatever_its_method_reads(
    cli: Cli, tiny_folder: Folder, tmp_path: Path
) -> None:
    for method in ("bitfit", "attributes"):
        done = cli(*_given(tiny_folder("bert"), method), "save=logits")
        assert done.code == 0, done.err
    paths = sorted((tmp_path / "runs").glob("*.json"))
    records = [read(path) for path in paths]
    job = Job(configure(*_given(tiny_folder("bert"), "bitfit")))
    learned = {guest for guests, _ in job.data.train.attributes or () for guest in guests}
    wanted = job.data.train.attributes
    assert wanted is not None
    occasions = {one for _, cell in wanted for one in cell}
    rows = job.data.report["validation"].attributes or ()
    unseen = [
        i
        for i, (guests, cell) in enumerate(rows)
        if not (set(guests) <= learned and set(cell) <= occasions)
    ]
    assert 0 < len(unseen) < len(rows)
    for record in records:
        kept = record.slices["validation"]
        assert kept["unseen"] == unseen
        seen = [i for i in range(len(rows)) if i not in unseen]
        assert kept["scores"] == {
            "seen": {"accuracy": pytest.approx(_right(record, seen))},
            "unseen": {"accuracy": pytest.approx(_right(record, unseen))},
        }
        assert record.score == pytest.approx(_right(record, [*range(len(rows))]))
    [table] = tables(records)
    assert table.tasks == ("tastes", "tastes seen", "tastes unseen")
    bad: list[str] = []
    [sheet] = calibration_sheets(records, tmp_path / "runs", bad)  # logits are of whole splits
    assert sheet
    assert bad == []

    content = json.loads(paths[0].read_text())
    content.pop("content_sha256")
    whole = json.dumps(content)
    for damage in (
        lambda slices: slices["scores"]["unseen"].update(accuracy=0.987),
        lambda slices: slices["unseen"].append("x"),
        lambda slices: slices["scores"].update(other={}),
        lambda slices: slices.update(unseen=[*range(len(rows))]),
    ):
        content = json.loads(whole)
        damage(content["slices"]["validation"])
        paths[0].write_text(json.dumps(content))
        with pytest.raises(UserError, match="is damaged"):
            read(paths[0])


def test_a_run_without_attributes_has_no_slices(
    cli: Cli, tiny_folder: Folder, tmp_path: Path
) -> None:
    assert cli(*_given(tiny_folder("bert"), "bitfit", "task.attributes=[]")).code == 0
    [path] = (tmp_path / "runs").glob("*.json")
    assert read(path).slices == {}
    assert "slices" not in json.loads(path.read_text())
