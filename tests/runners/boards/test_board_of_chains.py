"""Rows of a board may be chains: stages are shared, ordered, and their weights last as needed."""

from __future__ import annotations

import json
import shutil
import signal
import time
from pathlib import Path
from typing import Any

import pytest
import yaml

from results.errors import UserError
from results.record import Record, read_all
from results.run_list import read_list
from results.tables.collect import tables
from runners.boards.plan import Board, expand
from runners.boards.planned import Planned, Planner, Slot, starts_by, updates
from runners.machine.warm import Process, start
from tests.conftest import Cli, composed
from tests.runners.boards.test_board import WORKERS, Folder, small

AFTER = "{method: full, stages: [mnli]}"
ROWS = f"board.methods=[full,{AFTER}]"
WHOLE = "estimate=false"
SMALL = ("board.seeds=[1]", "threads=1", "budget.steps=4")


def _by_name(out: Path) -> dict[tuple[str, str], Record]:
    """Return records by task and what tables call their rows."""
    records = read_all(out)
    return {
        (p.record.task, row.method): p.record
        for table in tables(records)
        for row in table.rows
        for cell in row.cells.values()
        for p in cell.points
        if p.record is not None
    }


def test_stages_are_shared_and_their_weights_stay_until_no_run_needs_them(
    cli: Cli, tiny_folder: Folder, tmp_path: Path
) -> None:
    out = tmp_path / "runs"
    given = [*small(tiny_folder("bert"), ROWS, *SMALL), "board.tasks=[rte,mrpc]"]
    listed = cli(*given, "plan=true", "estimate=false")
    assert listed.code == 0, listed.err
    states = [line.split()[0] for line in listed.out.splitlines()]
    assert sorted(states) == ["missing"] * 3 + ["waiting"] * 2
    assert sum("task=mnli" in line for line in listed.out.splitlines()) == 1
    assert all("start=RUN" in x for x in listed.out.splitlines() if x.startswith("waiting"))
    done = cli(*given, *WORKERS)
    assert done.code == 0, done.err
    records = _by_name(out)
    assert set(records) == {
        ("mnli", "full"), ("rte", "full"), ("mrpc", "full"),
        ("rte", "full after mnli"), ("mrpc", "full after mnli"),
    }  # fmt: skip
    stage = records["mnli", "full"].run
    for task in ("rte", "mrpc"):
        assert records[task, "full after mnli"].weights["start"]["run"] == stage
    assert not [*out.glob("*.delta"), *out.glob(".stages")]
    assert "0 to do" in cli(*given, *WORKERS).err
    # Another target later: the stage is done again, and leaves the same.
    more = cli(*given[:-1], "board.tasks=[rte,mrpc,cola]", "keep=true", *WORKERS)
    assert more.code == 0, more.err
    assert _by_name(out)["cola", "full after mnli"].weights["start"]["run"] == stage
    assert [p.stem for p in out.glob("*.delta")] == [stage]
    # The same chain on the command line is the same run.
    before = {p: p.stat().st_mtime_ns for p in out.glob("*.json")}
    common = [a for a in next(x for x in listed.out.splitlines() if "waiting" in x).split()
              if "=" in a and not a.startswith(("task=", "start="))]  # fmt: skip
    assert cli("stages=[mnli,rte]", *common).code == 0
    assert {p: p.stat().st_mtime_ns for p in out.glob("*.json")} == before
    wrote = cli(*given, "plan=true", "estimate=false", f"list={tmp_path}")
    assert wrote.code == 0, wrote.err
    runs = read_list(tmp_path / "smoke" / "runs.json")
    assert runs.methods == ("full", "full after mnli")
    assert {one.run for one in runs.runs} == {r.run for k, r in records.items() if k[0] != "mnli"}


def test_a_task_of_the_board_may_be_a_stage_of_another(
    cli: Cli, tiny_folder: Folder, tmp_path: Path
) -> None:
    """The run is done once, and leaves its weights."""
    given = [*small(tiny_folder("bert"), ROWS, *SMALL), "board.tasks=[mnli,rte]"]
    done = cli(*given, *WORKERS)
    assert done.code == 0, done.err
    records = read_all(tmp_path / "runs")
    assert len(records) == 4
    [plain] = [r.run for r in records if r.task == "mnli" and "start" not in r.weights]
    assert (tmp_path / "runs" / ".logs" / f"{plain}.log").read_text().count("step 4/4") == 1


def test_what_waits_for_a_stage_that_diverged_is_left_and_said(
    cli: Cli, tiny_folder: Folder, tmp_path: Path
) -> None:
    rows = "board.methods=[full,{method: full, stages: [{task: mnli, set: ['lr=1e30']}]}]"
    given = [*small(tiny_folder("bert"), rows, *SMALL), "board.tasks=[rte,mrpc]"]
    done = cli(*given, *WORKERS)
    assert done.code == 1
    assert "\ndiverged: mnli.full" in done.err
    assert "2 finished" in cli(*given, *WORKERS).err
    assert sorted(r.status for r in read_all(tmp_path / "runs")) == ["diverged"] + ["finished"] * 2
    assert "3 to do" in cli(*given, *WORKERS, "retry=failed").err


def test_killed_in_each_stage_a_board_ends_as_if_it_had_not_been(
    cli: Cli, tiny_folder: Folder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = small(tiny_folder("bert"), f"board.methods=[{AFTER}]", *SMALL, "checkpoint.steps=2")
    given += ["budget.steps=12", "board.tasks=[rte]", "workers=1"]
    killed: list[str] = []

    def cut_short(arguments: list[str], *more: Any) -> Process:
        """Kill a process at its first checkpoint."""
        task = next(a for a in arguments if a.startswith("task=")).removeprefix("task=")
        process = start(arguments, *more)
        if any(a.endswith("cut") for a in arguments) and task not in killed:
            while process.poll() is None:
                if list((tmp_path / "cut").glob(f".checkpoints/{task}.*/step*")):
                    process.send_signal(signal.SIGKILL)
                    killed.append(task)
                    break
                time.sleep(0.005)
        return process

    monkeypatch.setattr("runners.boards.pool.start", cut_short)
    assert cli(*given, f"out={tmp_path / 'whole'}").code == 0
    codes = [cli(*given, f"out={tmp_path / 'cut'}").code for _ in range(3)]
    assert killed == ["mnli", "rte"]
    assert codes == [1, 1, 0]
    whole, cut = _by_name(tmp_path / "whole"), _by_name(tmp_path / "cut")
    assert set(whole) == set(cut) == {("mnli", "full"), ("rte", "full after mnli")}
    for key in whole:
        for name in ("run", "losses", "trained_sha256", "predictions", "scores"):
            assert getattr(whole[key], name) == getattr(cut[key], name), (key, name)


def test_controls_train_the_target_alone_as_much(
    cli: Cli, tiny_folder: Folder, tmp_path: Path
) -> None:
    rows = ", ".join(
        ["full", AFTER, *(f"{AFTER[:-1]}, control: {c}}}" for c in ("updates", "data"))]
    )
    given = [*small(tiny_folder("bert"), f"board.methods=[{rows}]"), "board.tasks=[rte]"]
    given += ["board.seeds=[1]", "budget.steps=null", "budget.epochs=1"]
    done = cli(*given, *WORKERS)
    assert done.code == 0, done.err
    records = _by_name(tmp_path / "runs")
    plain, chain = records["rte", "full"], records["rte", "full after mnli"]
    stage = records["mnli", "full"]
    by_updates = records["rte", "full, as many updates as after mnli"]
    by_data = records["rte", "full, as many rows as after mnli"]
    assert by_updates.steps == (plain.steps or 0) + (stage.steps or 0)
    assert chain.steps == plain.steps
    train = {k: r.data["splits"]["train"]["rows"] for k, r in records.items()}
    assert train["rte", "full, as many rows as after mnli"] == (
        train["mnli", "full"] + train["rte", "full"]
    )
    assert by_data.steps == 2 * (plain.steps or 0)
    # All four stand in one column of one table.
    [table] = tables([plain, chain, by_updates, by_data])
    assert table.tasks == ("rte",)
    assert len(table.rows) == 4
    assert len({r.run for r in (plain, chain, by_updates, by_data)}) == 4
    assert "control" not in json.dumps(plain.config)


@pytest.mark.parametrize("select", [(), ("protocol.fraction=0.5",), ("protocol.rows=20",)])
def test_the_control_of_equal_data_trains_on_as_many_rows(
    select: tuple[str, ...], tiny_folder: Folder
) -> None:
    """A part to select by was cut off twice: from each stage's rows, and from their sum."""
    common = (
        f"model.name_or_path={tiny_folder('bert')}", "data=embedded", "data.eval_size=20",
        *(("protocol=select", *select) if select else ()), "method=full",
    )  # fmt: skip
    stages = [[*common, "task=mnli", "data.train_size=31"], [*common, "task=rte",
              "data.train_size=50"]]  # fmt: skip
    planner = Planner(lambda overrides: composed(tuple(overrides)))
    [control] = planner.chain(Slot(0, "rte", 0, stages[1], (stages[0],), "data"))
    rows = [len(planner.job(typed).data.train) for typed in (*stages, control)]
    assert rows[2] == rows[0] + rows[1]


def test_what_is_typed_leaves_a_stages_own_settings(tiny_folder: Folder) -> None:
    """As in a chain: a board's stage of more rows stays of so many where the target has fewer."""
    row = "{method: full, stages: [{task: mnli, set: [data.train_size=40, lr=2e-3]}]}"
    board = Board.model_validate(
        {"name": "b", "methods": [yaml.safe_load(row)], "tasks": ["rte"], "seeds": [1]}
    )
    typed = ["data.train_size=30", "lr=1e-3", f"model.name_or_path={tiny_folder('bert')}"]
    [slot] = expand(board, typed)
    [stage] = slot.stages
    settings = composed(tuple(stage))
    assert (settings["data"]["train_size"], settings["lr"]) == (40, 2e-3)
    assert composed(tuple(slot.overrides))["data"]["train_size"] == 30


def test_a_chain_on_the_command_line_has_controls_too(
    cli: Cli, tiny_folder: Folder, tmp_path: Path
) -> None:
    model = [f"model.name_or_path={tiny_folder('bert')}", "budget=smoke", "data=embedded"]
    given = ["plan=true", "data.train_size=32", "data.eval_size=20", *model]
    [line] = cli("stages=[mnli,rte]", "control=updates", *given).out.splitlines()
    planner = Planner(lambda overrides: composed(tuple(overrides)))
    jobs = [planner.job([f"task={t}", *given[1:]]) for t in ("mnli", "rte")]
    assert f"budget.steps={sum(map(updates, jobs))}" in line
    assert "control.equal=updates" in line
    three = cli("stages=[mnli,qnli,rte]", "control=reversed", *given)
    tasks = [a for x in three.out.splitlines() for a in x.split() if a.startswith("task=")]
    assert tasks == ["task=qnli", "task=mnli", "task=rte"]


@pytest.mark.parametrize(
    ("typed", "said"),
    [
        (["stages=[mnli,rte]", "control=reversed"], "one order"),
        (["stages=[mnli,rte]", "control=upsidedown"], "known: updates, data, reversed"),
        (["stages=[mnli,rte]", "control=data", "data.seed=seed"], "from one draw"),
        (["stages=[cola,mix]", "stages.1.mix.of=[mnli,rte]", "control=data", "data.train_size=40"],
         "control=data draws so many rows of one task"),
        (["control=updates"], "name its stages by stages=[A,B]"),
        (["board=smoke", "board.methods=[{method: full, control: data}]"], "goes with stages"),
        (["board=smoke", "board.methods=[{method: full, stages: [mnlii]}]"], "mnli"),
        (["board=smoke", "board.methods=[{method: full, stages: [sts]}]"], "compares vectors"),
        (["board=smoke", "board.methods=[{method: full, stages: [{task: mnli, set: [seed]}]}]"],
         "sets nothing of a run"),
        (["board=smoke", "board.set=['start=X']"], "sets nothing of a run"),
    ],
)  # fmt: skip
def test_wrong_chains_of_boards_and_controls_are_one_line(
    typed: list[str], said: str, cli: Cli
) -> None:
    done = cli("data=embedded", *typed)
    assert (done.code, done.err.count("\n")) == (2, 1), done.err
    assert said in done.err


def test_weights_that_another_process_removed_are_made_again(
    cli: Cli, tiny_folder: Folder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, removed = tmp_path / "runs", []

    def start_late(arguments: list[str], *more: Any) -> Process:
        if "task=rte" in arguments and not removed:
            removed.extend(out.glob("*.delta"))
            shutil.rmtree(removed[0])
        return start(arguments, *more)

    monkeypatch.setattr("runners.boards.pool.start", start_late)
    given = small(tiny_folder("bert"), f"board.methods=[{AFTER}]", *SMALL, "board.tasks=[rte]")
    done = cli(*given, "workers=1")
    assert done.code == 0, done.err
    assert len(removed) == 1
    assert {r.status for r in read_all(out)} == {"finished"}


def test_a_run_that_cannot_go_on_is_named_and_the_others_are_done(
    cli: Cli, tiny_folder: Folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    every = Planner.go_on

    def go_on(self: Planner, run: Planned) -> None:
        if run.slot.task == "rte":
            raise UserError("the record of its stage is damaged")
        every(self, run)

    monkeypatch.setattr(Planner, "go_on", go_on)
    given = [*small(tiny_folder("bert"), f"board.methods=[{AFTER}]", *SMALL)]
    done = cli(*given, "board.tasks=[rte,mrpc]", *WORKERS)
    assert done.code == 1
    assert "the record of its stage is damaged" in done.err
    assert "2 finished, 1 missing" in cli(*given, "board.tasks=[rte,mrpc]", "plan=true", WHOLE).err


def test_a_plan_says_by_which_key_a_run_takes_its_teacher(cli: Cli, tiny_folder: Folder) -> None:
    taught = "{method: full, set: ['data.pseudo.teacher=stage', 'data.train_size=20']}"
    given = small(tiny_folder("bert"), f"board.methods=[full,{taught}]", *SMALL)
    listed = cli(*given, "board.tasks=[rte]", "plan=true", WHOLE)
    assert listed.code == 0, listed.err
    [line] = [x for x in listed.out.splitlines() if x.startswith("waiting")]
    assert line.endswith(" data.pseudo.teacher=RUN")
    assert "start=RUN" not in line
    assert "=stage" not in line


@pytest.mark.parametrize(
    ("alone", "key"),
    [
        (["seed=1"], "start.run"),
        (["data.pseudo.teacher=stage", "seed=1"], "data.pseudo.teacher"),
        (["data.pseudo.teacher=stage", "data.pseudo.teacher=RUN"], "start.run"),
        (["data.pseudo.teacher=stage", "data.pseudo.teacher=null",
          "data.generated.teacher=stage"], "data.generated.teacher"),
    ],
)  # fmt: skip
def test_what_is_typed_last_says_how_a_run_takes_the_one_before(alone: list[str], key: str) -> None:
    assert starts_by(alone) == key
