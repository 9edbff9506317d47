"""Attributes are read as values, each once, are part of what a split is, and have numbers."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pytest
import torch

from results.errors import UserError
from runners.data import hub
from runners.data.attributes import known_values, numbered, values_of
from runners.data.local import read_local
from runners.data.split import Split, count_copies, count_overlap
from runners.jobs.job import Job
from runners.tasks.collate import Collator
from runners.tasks.on_device import OnDevice
from runners.tasks.tokens import Tokens
from tests.conftest import configure, tiny

TRAIN = """review,stars,user,genre
dull film,bad,anna,drama | war
warm film,good,bruno,war
dull plot,bad,anna,
warm plot,good,chloe, war|war |drama
"""
DEV = "review,stars,user,genre\ndull film,good,dora,drama|noir\nwarm film,good,anna,\n"
OWN = """name: reviews
text: [review]
labels: [bad, good]
metrics: [accuracy]
local:
  train: train.csv
  report: {validation: dev.csv}
  columns: {label: stars}
"""


@pytest.fixture
def written(tmp_path: Path) -> Path:
    """Return a folder with a task of one's own, whose YAML lies in task/, and its files."""
    (tmp_path / "train.csv").write_text(TRAIN)
    (tmp_path / "dev.csv").write_text(DEV)
    (tmp_path / "task").mkdir()
    (tmp_path / "task" / "reviews.yaml").write_text(OWN)
    return tmp_path


def _task(written: Path, *typed: str) -> Any:
    given = ("task=reviews", f"data.dir={written}", *typed)
    return configure(*given, config_dir=written).settings.task


def _job(written: Path, *typed: str) -> Job:
    given = ("task=reviews", f"data.dir={written}", *typed)
    return Job(configure(*given, config_dir=written))


BOTH = "task.attributes=[user,genre]"


@pytest.mark.parametrize(
    ("cell", "separator", "values"),
    [
        ("b|a", "|", ("a", "b")),
        (" a |a| ", "|", ("a",)),
        ("", "|", ()),
        (None, "|", ()),
        ("a|b", None, ("a|b",)),
        ("a, b", ", ", ("a", "b")),
        (7, "|", ("7",)),
        (["b|c", None, 1], "|", ("1", "b|c")),
    ],
)
def test_a_cell_holds_values_each_once(
    cell: Any, separator: str | None, values: tuple[str, ...]
) -> None:
    assert values_of(cell, separator) == values


def test_columns_are_read_and_what_is_not_in_train_is_unknown(written: Path) -> None:
    task = _task(written, BOTH)
    train, report = read_local(task, written, skip_malformed=False)
    assert train.attributes == (
        (("anna",), ("drama", "war")),
        (("bruno",), ("war",)),
        (("anna",), ()),
        (("chloe",), ("drama", "war")),
    )
    known = known_values(task, train)
    assert known == {"user": ["anna", "bruno", "chloe"], "genre": ["drama", "war"]}
    assert report["validation"].attributes is not None
    numbers = numbered(report["validation"].attributes, known)
    # dora and noir are unknown, an empty cell too; -1 fills up.
    assert numbers.tolist() == [[[0, -1], [0, 1]], [[1, -1], [0, -1]]]
    assert train.take([2, 0]).attributes == (train.attributes[2], train.attributes[0])


def test_attributes_are_part_of_a_split_only_where_there_are_some(written: Path) -> None:
    plain, _ = read_local(_task(written), written, skip_malformed=False)
    split, _ = read_local(_task(written, BOTH), written, skip_malformed=False)
    other, _ = read_local(_task(written, "task.attributes=[genre]"), written, skip_malformed=False)
    assert plain.attributes is None
    assert replace(split, attributes=None).sha256 == plain.sha256
    assert len({s.sha256 for s in (plain, split, other)}) == 3
    # The order of values in a file is none: the same content, the same hash.
    lines = TRAIN.replace("drama | war", "war|drama")
    (written / "train.csv").write_text(lines)
    assert read_local(_task(written, BOTH), written, False)[0].sha256 == split.sha256


def test_a_run_is_another_where_attributes_are_named(
    written: Path, tiny_folder: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = f"model.name_or_path={tiny_folder('bert')}"
    names = [_job(written, model, *more).name for more in ([], [BOTH], ["task.separator=|"])]
    assert names[0] == names[2] != names[1]
    assert "attributes" not in _task(written).model_dump(mode="json")
    dumped = _task(written, BOTH).model_dump(mode="json")
    assert dumped["attributes"] == ["user", "genre"]
    assert "separator" not in dumped


def test_equal_texts_with_other_attributes_are_other_examples() -> None:
    rows = Split("a", (("x y",), ("x  y",), ("x y",)), None)
    values = ((("u",),), (("u",),), (("v",),))
    assert count_copies(rows) == 2
    assert count_copies(replace(rows, attributes=values)) == 1
    own, other = replace(rows, attributes=values), replace(rows, attributes=((("w",),),) * 3)
    assert count_overlap(own, [own]).also_in_train == 3
    assert count_overlap(own, [other]).also_in_train == 0


def test_batches_hold_them_made_here_or_on_the_device() -> None:
    lengths = [3, 1, 2, 2]
    offsets = np.cumsum([0, *lengths])
    ids = np.arange(1, 9, dtype=np.int32)
    tokens = Tokens(ids, None, offsets.astype(np.int64), np.zeros(4, dtype=np.bool_))
    numbers = np.arange(16, dtype=np.int64).reshape(4, 2, 2)
    collate = Collator(tokens, np.asarray([0, 1, 0, 1]), 0, attributes=numbers)
    indices = np.asarray([3, 0])
    batch = collate(indices)
    assert torch.equal(batch["attributes"], torch.from_numpy(numbers[[3, 0]]))
    cpu = torch.device("cpu")
    [lying] = OnDevice(collate.on(cpu), cpu).batches([indices])
    assert lying.keys() == batch.keys()
    assert all(torch.equal(lying[name], batch[name]) for name in batch)
    padded = collate.padded_to(8)
    assert torch.equal(padded(indices)["attributes"], batch["attributes"])
    assert "attributes" not in replace(collate, attributes=None)(indices)


@pytest.mark.parametrize(
    ("typed", "said"),
    [
        (["task.attributes=[review]"], "attribute review is a text's too"),
        (["task.attributes=[label]"], "attribute label is the answer's too"),
        (["task.attributes=[stars]"], "column stars of attribute stars is the answer's too"),
        (["task.attributes=[user,user]"], "user is named twice"),
        (
            ["task.attributes=[who]", "+task.local.columns.who=review"],
            "column review of attribute who is that of review too",
        ),
        (["task.separator=/"], "task=reviews has none; name their columns"),
    ],
)
def test_an_attribute_that_is_no_column_of_its_own_is_refused(
    typed: list[str], said: str, written: Path
) -> None:
    with pytest.raises(UserError, match=said):
        _task(written, *typed)


def test_other_tasks_in_a_run_have_the_same_attributes_or_none_are_read() -> None:
    with pytest.raises(UserError, match=r"mix\.of: task=tastes has attributes"):
        configure("mix=[tastes,sst2]")
    merge = "merge: {complaint: negative, praise: positive}"
    with pytest.raises(UserError, match="has the attributes guests, occasion, and task=sst2 has n"):
        configure("task=tastes", f"+task.further.sst2={{task: sst2, {merge}}}")


def test_columns_of_the_hub_may_be_lists(written: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = {
        "review": ["dull", "warm"],
        "label": ["bad", "good"],
        "author": ["anna", None],
        "genre": [["war", "drama"], []],
    }
    table = datasets.Dataset.from_dict(rows)
    monkeypatch.setattr(hub, "hub_table", lambda *_: table)
    hub_of = "+task.hub={path: a/b, report: {validation: dev}, columns: {user: author}}"
    split = hub._read(_task(written, BOTH, hub_of), None, "train", "train", None)
    assert split.attributes == ((("anna",), ("drama", "war")), ((), ()))
    monkeypatch.setattr(hub, "hub_table", lambda *_: table.remove_columns("genre"))
    with pytest.raises(UserError, match="has no column 'genre', an attribute; it has review, lab"):
        hub._read(_task(written, BOTH, hub_of), None, "train", "train", None)


@pytest.mark.parametrize("task", ["sts", "mlm"])
def test_kinds_without_attributes_refuse_them(task: str) -> None:
    more = ["method=simcse"] if task == "sts" else ["mlm.on=[cola]"]
    with pytest.raises(UserError, match=f"task={task} is of kind="):
        configure(f"task={task}", "task.attributes=[user]", *more)


def test_a_file_without_the_column_is_named_with_those_that_it_has(written: Path) -> None:
    task = _task(written, "task.attributes=[users]")
    with pytest.raises(
        UserError,
        match=r"train.csv has no column 'users', an attribute; it has review, stars, user, genre$",
    ):
        read_local(task, written, skip_malformed=False)


def test_generated_data_have_no_attributes_of_ones_own(tiny_folder: Any) -> None:
    given = [a for a in tiny(tiny_folder("bert")) if not a.startswith("task=")]
    with pytest.raises(UserError, match="generated data of sst2 has no attribute user"):
        _ = Job(configure(*given, "task=sst2", "task.attributes=[user]")).data
