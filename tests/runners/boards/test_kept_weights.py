"""Weights of a stage: what a chain made for its next run goes, what a user asked for stays."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from results import record as records
from results.errors import UserError
from results.record import read_all
from runners.boards.plan import Board, plan
from runners.boards.planned import Planned, Planner, with_stages
from runners.boards.pool import Pool
from runners.models.about import ABOUT
from runners.runs.passing import PASSING, is_marked, keep_saved, mark, starting_stages
from tests import forked
from tests.conftest import Cli, composed, tiny
from tests.results.simulated import simulated

Folder = Callable[[str], Path]


@pytest.fixture(autouse=True)
def _forks(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def run_alone(arguments: Sequence[str]) -> int:
        return forked.start(arguments, tmp_path / "log").wait()

    monkeypatch.setattr("runners.boards.chain.run_alone", run_alone)


def _deltas(out: Path) -> list[str]:
    return sorted(path.name.partition(".")[0] for path in out.glob("*.delta"))


def test_weights_that_were_asked_for_outlast_the_chain_that_had_begun_them(
    cli: Cli, tiny_folder: Folder, tmp_path: Path
) -> None:
    given = [a for a in tiny(tiny_folder("bert"), "threads=1") if not a.startswith("task=")]
    out = tmp_path / "runs"
    assert cli(*given, "stages=[cola,rte]", "stages.1.lr=1e30").code == 1
    assert _deltas(out) == ["cola"]  # the chain's own, until it ends
    assert "stored result" in cli(*given, "task=cola", "save=delta").out
    assert cli(*given, "stages=[cola,rte]").code == 0
    assert _deltas(out) == ["cola"]


def test_keep_is_said_of_weights_that_an_earlier_command_made_too(
    cli: Cli, tiny_folder: Folder, tmp_path: Path
) -> None:
    given = [a for a in tiny(tiny_folder("bert"), "threads=1") if not a.startswith("task=")]
    out = tmp_path / "runs"
    assert cli(*given, "stages=[cola,rte]", "stages.1.lr=1e30").code == 1
    assert cli(*given, "stages=[cola,rte]", "keep=true").code == 0
    assert cli(*given, "stages=[cola,mrpc]").code == 0
    assert _deltas(out) == ["cola"]


def test_a_mark_is_taken_away_by_a_run_of_ones_own_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(PASSING, raising=False)
    path = tmp_path / "rte.full.x.s1.0.json"
    mark(path)
    keep_saved(path, None)
    with starting_stages():
        keep_saved(path, "delta")
    assert (tmp_path / ".stages" / "rte.full.x.s1.0").is_file()
    keep_saved(path, "delta")
    assert not (tmp_path / ".stages").exists()


def test_a_folder_may_have_any_name(cli: Cli, tiny_folder: Folder, tmp_path: Path) -> None:
    """A run's place is typed for the next one: blanks, brackets and quotes are no grammar there."""
    out = tmp_path / "runs (1), a=b 'x'"
    given = [
        a for a in tiny(tiny_folder("bert"), "threads=1") if not a.startswith(("task=", "out="))
    ]
    done = cli(*given, f'out="{out}"', "stages=[cola,rte]")
    assert done.code == 0, done.err
    assert len(read_all(out)) == 2
    listed = cli(*given, f'out="{out}"', "stages=[cola,rte]", "plan=true")
    assert [line.split()[0] for line in listed.out.splitlines()] == ["finished"] * 2
    shutil.rmtree(out)


CELLS = "board.methods=[full,{method: full, stages: [cola]}]"


def _planned(folder: Path, out: Path, *typed: str) -> tuple[list[Planned], Planner]:
    given = [a for a in tiny(folder) if not a.startswith(("task=", "out="))]
    given = [*given, "board=smoke", CELLS, "board.tasks=[cola,rte]", "board.seeds=[1]", *typed]
    board = Board.model_validate(composed(tuple(given))["board"])
    planner = Planner(lambda overrides: composed(tuple(overrides)))
    return plan(board, [*given, f"out={out}"], planner), planner


def test_what_a_board_is_to_save_of_a_row_that_is_a_stage_too(
    tiny_folder: Folder, tmp_path: Path
) -> None:
    plain, _ = _planned(tiny_folder("bert"), tmp_path)
    assert any(run.passing for run in with_stages(plain))
    kept, _ = _planned(tiny_folder("bert"), tmp_path, "save=delta")
    assert not any(run.passing for run in with_stages(kept))
    with pytest.raises(UserError, match=r"save=logits: cola by .* is also what another run st"):
        _planned(tiny_folder("bert"), tmp_path, "save=logits")


def test_weights_that_came_to_lie_there_since_a_board_was_planned_are_not_its_own(
    tiny_folder: Folder, tmp_path: Path
) -> None:
    runs, planner = _planned(tiny_folder("bert"), tmp_path)
    [stage] = {run.before.name: run.before for run in runs if run.before is not None}.values()
    stage.delta.mkdir(parents=True)
    (stage.delta / ABOUT).write_text("{}")
    record = simulated("full", "cola", 1, 0.5)
    record.run = stage.name
    records.write(record, tmp_path)
    pool = Pool([stage], planner, 1, 1, [], tmp_path)
    pool._left = [stage]
    assert pool._next() is stage
    assert not is_marked(stage.path)


def test_a_run_is_named_by_what_its_stage_left_at_last(
    tiny_folder: Folder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A stage that was done again with other weights made its follower fail under an old name."""
    runs, planner = _planned(tiny_folder("bert"), tmp_path)
    run = next(run for run in runs if run.before is not None)
    run.state, renamed = "missing", []
    monkeypatch.setattr(type(run), "ready", lambda self: True)
    monkeypatch.setattr(Planner, "go_on", lambda self, one: renamed.append(one))
    pool = Pool([run], planner, 1, 1, [], tmp_path)
    pool._left = [run]
    assert pool._next() is run
    assert renamed == [run]


def test_a_file_in_place_of_the_folder_is_told_before_a_chain(
    cli: Cli, tiny_folder: Folder, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("")
    given = [a for a in tiny(tiny_folder("bert")) if not a.startswith(("task=", "out="))]
    done = cli(*given, f"out={tmp_path / 'file'}", "stages=[cola,rte]")
    assert done.code == 2, done.err
    assert done.err.splitlines()[-1].startswith("error: ")
    assert "Traceback" not in done.err


def _board(tiny_folder: Folder, out: Path) -> list[str]:
    given = [a for a in tiny(tiny_folder("bert")) if not a.startswith("task=")]
    return [*given, "board=smoke", "board.seeds=[1]", "estimate=false", f"out={out}"]


@pytest.mark.usefixtures("forked_runs")
def test_a_board_says_which_weights_could_not_be_written(
    cli: Cli, tiny_folder: Folder, tmp_path: Path
) -> None:
    """It ended without a word on why nothing started from them."""
    given = _board(tiny_folder, out := tmp_path / "runs")
    assert cli(*given, "board.methods=[full]", "board.tasks=[cola]").code == 0
    [stage] = read_all(out)
    (out / f"{stage.run}.delta").write_text("a file in the way")
    row = "board.methods=[{method: full, stages: [cola]}]"
    done = cli(*given, row, "board.tasks=[rte,mrpc]")
    assert done.code == 1
    assert f"without its weights: {stage.run}  .logs/{stage.run}.log says why" in done.err
    assert "could not be written" in (out / ".logs" / f"{stage.run}.log").read_text()


@pytest.mark.usefixtures("forked_runs")
def test_a_run_that_dies_with_its_record_written_is_finished(
    cli: Cli, tiny_folder: Folder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    once = Pool._once

    def dies(self: Pool, run: Planned, worker: int) -> int:
        once(self, run, worker)
        run.message = "Segmentation fault"
        return -11

    monkeypatch.setattr(Pool, "_once", dies)
    given = _board(tiny_folder, tmp_path / "runs")
    done = cli(*given, "board.methods=[full]", "board.tasks=[cola]")
    assert (done.code, "without its weights" in done.err) == (0, False)


@pytest.mark.usefixtures("forked_runs")
def test_a_lone_run_is_named_by_what_its_stage_left_at_last(
    cli: Cli, tiny_folder: Folder, tmp_path: Path
) -> None:
    """Nothing else is planned between: it was looked for under its first name, and had failed."""
    given = _board(tiny_folder, out := tmp_path / "runs")
    assert cli(*given, "board.methods=[full]", "board.tasks=[cola]").code == 0
    [stage] = read_all(out)
    records.write(replace(stage, trained_sha256="0" * 64), out)
    row = "board.methods=[{method: full, stages: [cola]}]"
    done = cli(*given, row, "board.tasks=[rte]", "force=true")
    assert done.code == 0, done.err
    assert _deltas(out) == []


@pytest.mark.usefixtures("forked_runs")
def test_stages_whose_weights_another_board_removed_are_all_done_again(
    cli: Cli, tiny_folder: Folder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a chain of three, only the stage before the run was, which cannot start by itself."""
    once, out = Pool._once, tmp_path / "runs"
    removed: list[str] = []

    def removing(self: Pool, run: Planned, worker: int) -> int:
        if run.slot.task == "rte" and not removed:
            removed.extend(_deltas(out))
            for folder in out.glob("*.delta"):
                shutil.rmtree(folder)
        return once(self, run, worker)

    monkeypatch.setattr(Pool, "_once", removing)
    row = "board.methods=[{method: full, stages: [cola, mrpc]}]"
    done = cli(*_board(tiny_folder, out), row, "board.tasks=[rte]")
    assert removed == ["cola", "mrpc"]
    assert done.code == 0, done.err
    assert "remaining 0" in done.err.splitlines()[-1]
    assert _deltas(out) == []


@pytest.mark.usefixtures("forked_runs")
@pytest.mark.parametrize("is_there", [False, True])
def test_weights_that_a_board_is_to_save_outlast_a_chain_that_had_begun_them(
    is_there: bool, cli: Cli, tiny_folder: Folder, tmp_path: Path
) -> None:
    """A chain that was killed in its first stage, or its second, had marked them as its own."""
    given = _board(tiny_folder, out := tmp_path / "runs")
    alone = [*given, "board.methods=[full]", "board.tasks=[cola]", "save=delta"]
    assert cli(*alone).code == 0
    [path] = out.glob("*.json")
    if not is_there:
        path.unlink()
    mark(path)
    assert cli(*given, CELLS, "board.tasks=[cola,rte]", "save=delta").code == 0
    assert path.with_suffix(".delta").is_dir()
    assert not is_marked(path)


@pytest.mark.usefixtures("forked_runs")
def test_a_row_that_is_a_stage_too_leaves_no_weights_unasked(
    cli: Cli, tiny_folder: Folder, tmp_path: Path
) -> None:
    given = _board(tiny_folder, out := tmp_path / "runs")
    assert cli(*given, CELLS, "board.tasks=[cola,rte]").code == 0
    assert _deltas(out) == []


def test_a_boards_stage_has_no_save_of_its_own(cli: Cli, tiny_folder: Folder) -> None:
    """It was dropped, and the weights were removed; in a chain as well."""
    row = "board.methods=[{method: full, stages: [{task: cola, set: ['save=delta']}]}]"
    done = cli(*tiny(tiny_folder("bert")), "board=smoke", row, "plan=true")
    assert done.code == 2
    assert "save=delta: a stage leaves its weights; keep=true keeps them" in done.err
    chain = [a for a in tiny(tiny_folder("bert")) if not a.startswith("task=")]
    listed = cli(*chain, "stages=[cola,rte]", "stages.1.save=delta", "plan=true")
    assert listed.code == 0
    assert listed.out.splitlines()[1].endswith("save=delta start=RUN")
