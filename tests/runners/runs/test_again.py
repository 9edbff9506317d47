"""A finished run that is done again for its weights does not change its result."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from results import record as records
from results.logits import read_logits
from results.record import Record, read_all
from runners.runs.again import Again, Differs
from runners.runs.lease import Claim
from runners.training import course
from tests import forked
from tests.conftest import Cli, tiny
from tests.results.simulated import simulated

Folder = Callable[[str], Path]


def _elsewhere(record: Record) -> Record:
    """Return a record as another machine would have written it, with its last loss and weights."""
    losses = [*record.losses[:-1], record.losses[-1] + 1e-6]
    return replace(record, losses=losses, trained_sha256="0" * 64)


def _rewritten(out: Path, change: Callable[[Record], Record] = _elsewhere) -> Path:
    [record] = read_all(out)
    return records.write(change(record), out)


def _left(out: Path) -> list[str]:
    return [one.name for one in out.iterdir() if not one.name.startswith(".")]


def test_weights_of_another_machine_do_not_replace_a_result(
    cli: Cli, tiny_folder: Folder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is told at the first loss that differs, before the steps after it are done."""
    out = tmp_path / "runs"
    given = tiny(tiny_folder("bert"), "task=rte", "budget.steps=45", "checkpoint.steps=5")
    assert cli(*given).code == 0
    path = _rewritten(
        out, lambda record: replace(record, losses=[*record.losses[:11], *[9.0] * 34])
    )
    before = path.read_bytes()
    steps: list[int] = []
    saving = course.Saving.__call__
    with monkeypatch.context() as patch:
        patch.setattr(course.Saving, "__call__", lambda self: (steps.append(1), saving(self))[-1])
        done = cli(*given, "save=delta")
    assert done.code == 2
    assert "done again for what save= keeps, it differs from its stored result" in done.err
    assert "(step 12: loss 9 in the record, 0." in done.err
    assert "another folder with out=, or replace it with force=true" in done.err
    assert len(steps) < 25
    assert path.read_bytes() == before
    assert _left(out) == [path.name]
    assert not list(out.glob(".checkpoints/*/step*"))
    assert cli(*given, "save=delta", "force=true").code == 0
    assert path.read_bytes() != before
    assert path.with_suffix(".delta").is_dir()


def test_one_that_comes_to_its_result_gets_what_it_is_done_for(
    cli: Cli, tiny_folder: Folder, tmp_path: Path
) -> None:
    given = tiny(tiny_folder("bert"), "task=rte", "budget.steps=12")
    assert cli(*given).code == 0
    [before] = read_all(tmp_path / "runs")
    assert cli(*given, "save=delta").code == 0
    [after] = read_all(tmp_path / "runs")
    assert (after.losses, after.predictions) == (before.losses, before.predictions)
    assert list((tmp_path / "runs").glob("*.delta"))


@pytest.mark.parametrize("save", ["delta", "logits", "model"])
def test_other_weights_at_the_end_are_not_saved(
    save: str, cli: Cli, tiny_folder: Folder, tmp_path: Path
) -> None:
    given = tiny(tiny_folder("bert"), "task=rte", "budget.steps=2")
    assert cli(*given).code == 0
    path = _rewritten(tmp_path / "runs", lambda r: replace(r, trained_sha256="0" * 64))
    before = path.read_bytes()
    done = cli(*given, f"save={save}")
    assert (done.code, "the weights at its end are others" in done.err) == (2, True), done.err
    assert path.read_bytes() == before
    assert _left(tmp_path / "runs") == [path.name]


@pytest.mark.parametrize("lost", [False, True])
def test_a_refused_rerun_removes_its_own_checkpoints_only(
    lost: bool, cli: Cli, tiny_folder: Folder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another process that has taken the run over goes on from them."""
    given = tiny(tiny_folder("bert"), "task=rte", "budget.steps=12", "checkpoint.steps=5")
    assert cli(*given).code == 0
    _rewritten(tmp_path / "runs")
    monkeypatch.setattr(Claim, "holds", lambda self: not lost)
    assert cli(*given, "save=delta").code == 2
    assert any((tmp_path / "runs" / ".checkpoints").rglob("*")) == lost


def test_a_lever_that_was_not_yet_there_is_off(
    cli: Cli, tiny_folder: Folder, tmp_path: Path
) -> None:
    """It may round otherwise, and the run would be refused."""
    given = tiny(tiny_folder("bert"), "task=sst2", "budget.steps=12", "budget.max_length=64")
    given = [*given, "precision=fp32", "own_process=false"]
    assert cli(*given, "speed.skip_padding=false").code == 0
    [record] = read_all(tmp_path / "runs")
    speed = {k: on for k, on in record.config["speed"].items() if k != "skip_padding"}
    records.write(replace(record, config={**record.config, "speed": speed}), tmp_path / "runs")
    assert cli(*given, "save=delta").code == 0
    [again] = read_all(tmp_path / "runs")
    assert (again.losses, again.environment["skip_padding"]) == (record.losses, False)
    assert cli(*given, "save=model", "force=true").code == 0
    [other] = read_all(tmp_path / "runs")
    assert other.environment["skip_padding"]


def test_it_has_the_threads_of_its_result(
    cli: Cli, tiny_folder: Folder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A board's run has a share of the cores; done alone it had them all, and was refused."""
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    given = tiny(tiny_folder("bert"), "task=rte", "budget.steps=12")
    assert cli(*given, "threads=1").code == 0
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        assert cli(*given, "save=delta").code == 0
        [record] = read_all(tmp_path / "runs")
        assert record.environment["threads"] == 1
        _rewritten(tmp_path / "runs")
        done = cli(*given, "save=model", "threads=2", "speed.onednn=false")
    finally:
        torch.set_num_threads(before)
    assert "It was made with threads 1 (now 2), " in done.err
    assert "speed.onednn True (now False): name" in done.err  # where it pays, its products before


def test_logits_that_are_there_stay_the_records(
    cli: Cli, tiny_folder: Folder, tmp_path: Path
) -> None:
    given = tiny(tiny_folder("bert"), "task=rte", "budget.steps=2")
    assert cli(*given, "save=logits").code == 0
    assert cli(*given, "save=delta").code == 0
    [record] = read_all(tmp_path / "runs")
    assert read_logits(record, tmp_path / "runs")
    assert "stored result" in cli(*given, "save=logits").out


def test_what_is_apart_is_told_as_far_as_it_is_known() -> None:
    stored = simulated("full", "rte", 1, 0.5)
    now = replace(stored, trained_sha256="0" * 64)
    stored = replace(stored, trained_sha256="1" * 64)
    with pytest.raises(Differs, match="Nothing that is known of how it was made differs: name"):
        Again(stored, now).check(now)
    before = {"libraries": {"torch": "2.12"}, "changed": {"threads": [1, 2]}}
    stored = replace(stored, environment=before)
    now = replace(now, environment={"libraries": {"torch": "2.13", "peft": "1"}})
    sentence = r"made with torch 2\.12 \(now 2\.13\), threads that changed as it ran: name"
    with pytest.raises(Differs, match=sentence):
        Again(stored, now).check(now)


def _backwards(record: Record) -> Record:
    """Return a record of the same scores whose answers are of other rows."""
    answers = {
        split: {name: values[::-1] for name, values in answered.items()}
        for split, answered in record.predictions.items()
    }
    return replace(record, predictions=answers, trained_sha256=None)


def test_an_untrained_run_is_held_to_its_answers(
    cli: Cli, tiny_folder: Folder, tmp_path: Path
) -> None:
    given = tiny(tiny_folder("bert"), "task=rte", "method=linear", "budget.epochs=0")
    assert cli(*given).code == 0
    path = _rewritten(tmp_path / "runs", _backwards)
    before = path.read_bytes()
    done = cli(*given, "save=logits")
    assert "validation is answered otherwise" in done.err
    assert path.read_bytes() == before
    assert not list((tmp_path / "runs").glob("*.npz"))


def test_what_a_result_lacks_is_no_difference() -> None:
    """An older record tells of fewer things; one that has more is not to be lost."""
    stored = simulated("full", "rte", 1, 0.5)
    Again().check(stored)
    Again().look([1.0])
    more = replace(stored, trained_sha256=None, predictions={**stored.predictions, "test": {}})
    Again(stored).check(more)
    with pytest.raises(Differs, match="test is not scored now"):
        Again(more).check(stored)
    again = Again(replace(stored, losses=[0.123456789, 2.0]))
    again.look([0.12345678912, 2.0])
    again.look([0.12345678912, 2.0, 5.0])
    with pytest.raises(Differs, match=r"step 2: loss 2 in the record, 2\.5 now"):
        Again(replace(stored, losses=[1.0, 2.0])).look([1.0, 2.5])


@pytest.fixture
def _forks(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def run_alone(arguments: Sequence[str]) -> int:
        return forked.start(arguments, tmp_path / "log").wait()

    monkeypatch.setattr("runners.boards.chain.run_alone", run_alone)


@pytest.mark.usefixtures("_forks")
def test_a_chain_whose_stage_comes_out_otherwise_ends_there(
    cli: Cli, tiny_folder: Folder, tmp_path: Path
) -> None:
    """Its stage was replaced, and what had started from the first one was of no row any more."""
    out = tmp_path / "runs"
    given = [a for a in tiny(tiny_folder("bert"), "threads=1") if not a.startswith("task=")]
    assert cli(*given, "task=cola").code == 0
    path = _rewritten(out)
    before = path.read_bytes()
    done = cli(*given, "stages=[cola,rte]")
    assert done.code == 2
    assert "the chain ends at stage 1, whose weights are not there" in done.err
    assert path.read_bytes() == before
    assert _left(out) == [path.name]
    assert cli(*given, "stages=[cola,rte]", "force=true").code == 0
    assert sorted(one.task for one in read_all(out)) == ["cola", "rte"]


@pytest.mark.usefixtures("forked_runs")
def test_a_board_says_which_stage_came_out_otherwise(
    cli: Cli, tiny_folder: Folder, tmp_path: Path
) -> None:
    out = tmp_path / "runs"
    given = [a for a in tiny(tiny_folder("bert")) if not a.startswith("task=")]
    cells = ["board=smoke", "board.seeds=[1]", "estimate=false", f"out={out}"]
    row = "board.methods=[{method: full, stages: [cola]}]"
    assert cli(*given, *cells, "board.methods=[full]", "board.tasks=[cola]").code == 0
    path = _rewritten(out)
    before = path.read_bytes()
    done = cli(*given, *cells, row, "board.tasks=[rte,mrpc]")
    assert done.code == 1
    [line] = [line for line in done.err.splitlines() if line.startswith("without its weights: ")]
    assert "done again for what save= keeps, it differs from its stored result" in line
    assert path.read_bytes() == before
    assert _left(out) == [path.name]
