"""budget.patience ends a run that selects, and changes nothing before its end."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from results.errors import UserError
from results.record import Record, read_all
from runners.jobs.job import Job
from tests.conftest import Cli, configure, tiny
from tests.runners.training.test_checkpoint import outcome, whole_and_cut

Folder = Callable[[str], Path]
SELECT = ("protocol=select", "budget.steps=12", "budget.evaluate=2", "lr=1e-6")
PATIENT = (*SELECT, "budget.patience=2")


def _first_stop(record: Record, patience: int) -> int | None:
    """Return the evaluation at which a run with patience ends, by the run that had none."""
    best, waited = -2.0, 0
    for entry in record.evaluations:
        [score] = entry["selection"].values()
        waited = 0 if score > best else waited + 1
        best = max(best, score)
        if waited == patience:
            return int(entry["step"])
    return None


def test_a_run_ends_when_its_selection_no_longer_gets_better_and_goes_on_to_that_end(
    cli: Cli, tiny_folder: Folder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = tiny(tiny_folder("bert"), "task=sst2", "checkpoint.steps=1")
    assert cli(*given, *SELECT).code == 0
    [full] = read_all(tmp_path / "runs")
    last = _first_stop(full, 2)
    assert last is not None
    assert last < 12
    whole, cut = whole_and_cut(cli, [*given, *PATIENT], tmp_path, monkeypatch, last)
    assert outcome(whole) == outcome(cut)
    assert cut.resumed == [last]
    assert whole.stopped == cut.stopped
    assert whole.selected is not None
    assert whole.stopped is not None
    assert {k: whole.stopped[k] for k in ("step", "of", "patience")} == {
        "step": last,
        "of": 12,
        "patience": 2,
    }
    assert f"than at step {whole.selected['step']}" in whole.stopped["why"]
    assert whole.steps == cut.steps == len(whole.losses) == last
    # The rates are those of the whole budget: what was done is what the other run did.
    assert whole.losses == full.losses[:last]
    assert whole.evaluations == full.evaluations[: len(whole.evaluations)]
    assert (full.steps, full.stopped) == (12, None)
    assert "stopped" not in full.to_json()
    assert "patience" not in full.config["budget"]
    assert whole.run != full.run
    best = next(e for e in whole.evaluations if e["step"] == whole.selected["step"])
    assert whole.scores == best["scores"]


def test_a_kind_that_is_scored_at_the_end_is_scored_at_an_early_one(
    cli: Cli, tiny_folder: Folder, tmp_path: Path
) -> None:
    given = tiny(tiny_folder("bert"), "task=sts", "method=simcse", *SELECT, "budget.patience=1")
    done = cli(*given, "lr=1e-9")
    assert done.code == 0, done.err
    [record] = read_all(tmp_path / "runs")
    assert record.stopped is not None
    assert record.selected is not None
    assert record.steps == record.selected["step"] + 2 < 12
    assert record.scores
    assert record.score is not None
    assert "stopped at step" in done.err


def test_patience_is_of_a_runs_name_only_where_it_is_set() -> None:
    given = ("task=rte", "data=embedded", "protocol=select")
    names = [
        Job(configure(*given, *more)).name
        for more in ((), ("budget.patience=null",), ("budget.patience=3",), ("budget.patience=4",))
    ]
    assert names[0] == names[1]
    assert len(set(names)) == 3


@pytest.mark.parametrize(
    ("typed", "said"),
    [
        (("budget.patience=3",), "which protocol=final has not; use protocol=select"),
        (("budget.patience=3", "protocol=select", "budget.evaluate=end"), "counts evaluations"),
        (("budget.patience=0", "protocol=select"), "budget.patience=0 (must be ≥ 1)"),
        (
            ("budget.patience=3", "protocol=select", "control.equal=updates", "control.stages=[a]"),
            "control=updates is of equal amounts",
        ),
    ],
)
def test_patience_that_would_wait_for_nothing_is_refused(typed: tuple[str, ...], said: str) -> None:
    with pytest.raises(UserError) as refused:
        configure("task=rte", "data=embedded", *typed)
    assert said in str(refused.value), refused.value
