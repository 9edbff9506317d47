"""Weights are chosen by further rows of train, so that few rows to train on stay as many."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from results.errors import UserError
from results.record import read_all
from results.tables.collect import tables
from runners.data.load import load_task_data
from runners.data.split import TaskData
from tests.conftest import Cli, configure, tiny
from tests.runners.data.test_draw import _skewed

SELECT = ("protocol=select", "protocol.rows=50")


def _load(*typed: str) -> TaskData:
    settings = configure(*typed).settings
    return load_task_data(settings.task, settings.data, settings.protocol, seed=settings.seed)


def test_rows_are_those_that_are_not_trained_on_and_train_stays_as_it_is(tmp_path: Path) -> None:
    given = _skewed(tmp_path)
    alone, beside = _load(*given), _load(*given, *SELECT)
    assert beside.selection is not None
    assert beside.train.sha256 == alone.train.sha256
    assert (len(beside.train), len(beside.selection)) == (30, 50)
    assert not set(beside.train.texts) & set(beside.selection.texts)
    # 15 of 20 rare rows are trained on; what is left of train has 5 of them in 170.
    assert sum(beside.selection.labels or ()) <= 5
    again = _load(*given, *SELECT, "seed=7")
    assert again.selection is not None
    assert again.selection.sha256 == beside.selection.sha256
    each = [_load(*given, *SELECT, "data.seed=seed", f"seed={s}").selection for s in (1, 2)]
    assert each[0] is not None
    assert each[1] is not None
    assert each[0].sha256 != each[1].sha256


def test_too_few_left_and_tasks_that_select_otherwise_are_refused(tmp_path: Path) -> None:
    given = _skewed(tmp_path)
    with pytest.raises(UserError, match=r"protocol\.rows=171: of rte's 200 .* 30 are trained on"):
        _load(*given, "protocol=select", "protocol.rows=171")
    with pytest.raises(UserError, match="200 are trained on and 0 are left"):
        _load(*given, "data.train_size=null", *SELECT)
    with pytest.raises(UserError, match="selects by a set of its own"):
        _load("task=sts", "method=embedding", "data=embedded", *SELECT)
    with pytest.raises(UserError, match=r"task=mlm selects by protocol\.fraction"):
        _load("task=mlm", "mlm.on=[rte]", "data=embedded", *SELECT)
    with pytest.raises(UserError, match="rows goes with protocol=select"):
        configure(*given, "protocol.rows=50")


def test_a_run_selects_by_them_under_a_name_of_its_own(
    cli: Cli, tiny_folder: Callable[[str], Path], tmp_path: Path
) -> None:
    small = tiny(tiny_folder("bert"), "task=rte", "data.train_size=20", "budget.evaluate=2")
    for typed in (["protocol.rows=40"], ["protocol.rows=40", "protocol.fraction=0.3"], []):
        done = cli(*small, "protocol=select", *typed)
        assert done.code == 0, done.err
    by_rows, cut = sorted(
        read_all(tmp_path / "runs"), key=lambda r: -r.data["splits"]["train"]["rows"]
    )
    assert by_rows.data["splits"]["train"]["rows"] == 20
    assert by_rows.data["splits"]["selection"]["rows"] == 40
    assert by_rows.selected is not None
    assert cut.data["splits"]["train"]["rows"] == 18
    assert "protocol.rows=40" in " ".join(t.conditions.heading() for t in tables([by_rows, cut]))
    done = cli(f"verify={by_rows.run}", "device=cpu")
    assert "equal to the bit" in done.out
