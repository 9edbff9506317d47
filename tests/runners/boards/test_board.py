"""Boards run what is missing and nothing else, tell what failed, and survive being killed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from unittest.mock import Mock

import pytest
import yaml

from results.errors import UserError
from results.record import read_all
from runners.boards.board import _gpus
from runners.boards.plan import (
    Board,
    Entry,
    Search,
    best_trials,
    expand,
    expand_search,
    listed,
    overrides_of,
    plan,
    row_names,
)
from runners.boards.planned import Planned, Planner, Slot
from runners.boards.pool import Pool
from runners.config.stages import Stage
from runners.root import CONFIGS
from runners.runs.lease import Claim
from tests.claims import take
from tests.conftest import ROOT, Cli, configure
from tests.tiny import save_tiny

Folder = Callable[[str], Path]
WORKERS = ("workers=2", "threads=1")
NO_PLANNER = Planner(lambda overrides: {})  # where no run waits for a stage


def small(folder: Path, *more: str) -> list[str]:
    """Return the arguments of the shipped board of four tiny runs, with a tiny model."""
    return ["board=smoke", "device=cpu", f"model.name_or_path={folder}", *more]


def test_a_board_is_every_method_on_every_task_with_every_seed() -> None:
    board = Board(
        name="b",
        methods=["full", Entry(method="[hype,bitfit]", set=["lr=1e-3"])],
        tasks=["rte", "mrpc"],
        seeds=[1, 2],
        set=["data=local"],
    )
    typed = ["board=b", "board.seeds=[1,2]", "+board.set=[]", "plan=true", "workers=2", "-m"]
    found = [slot.overrides for slot in expand(board, [*typed, "data.dir=x"])]
    assert len(found) == 8
    assert found[0] == ["method=full", "task=rte", "seed=1", "data=local", "data.dir=x"]
    assert found[1] == [
        "method=[hype,bitfit]", "task=rte", "seed=1", "data=local", "lr=1e-3", "data.dir=x"
    ]  # fmt: skip
    assert [f[2] for f in found] == ["seed=1"] * 4 + ["seed=2"] * 4


def test_rows_that_differ_in_a_stage_alone_have_names_of_their_own() -> None:
    """The control of board mlm1k is told apart; what both stages set is in neither name."""
    mlm1k = yaml.safe_load((CONFIGS / "board" / "mlm1k.yaml").read_text())
    assert listed(Board.model_validate(mlm1k), []).methods == (
        "full", "full after mlm", "full after mlm stages.0.mlm.shuffle=true"
    )  # fmt: skip
    stages = [[Stage(task="mlm"), Stage(task="mnli", set=["lr=1e-4", f"seed={n}"])] for n in (1, 2)]
    rows = [Entry(method="lora", set=["lr=1e-3"], stages=one) for one in stages]
    rows += [Entry(method="lora", stages=stages[0]), Entry(method="lora")]
    assert row_names(rows) == [
        "lora lr=1e-3 after mlm,mnli stages.1.seed=1",
        "lora lr=1e-3 after mlm,mnli stages.1.seed=2",
        "lora after mlm,mnli",
        "lora",
    ]


def test_the_same_run_twice_is_refused_before_anything_runs(tmp_path: Path) -> None:
    board = Board(name="b", methods=["full", "full"], tasks=["rte"], seeds=[1])

    def compose(overrides: object) -> dict[str, object]:
        from tests.conftest import composed

        assert isinstance(overrides, list)
        return composed(("data=embedded", f"out={tmp_path}", *overrides))

    with pytest.raises(UserError, match="more than once"):
        plan(board, [], Planner(compose))
    assert configure("seed=1").settings.seed == 1


def test_a_board_runs_what_is_missing(cli: Cli, tiny_folder: Folder, tmp_path: Path) -> None:
    out = tmp_path / "runs"
    given = small(tiny_folder("bert"))
    listed = cli(*given, "plan=true", "estimate=false")
    assert listed.code == 0
    assert listed.out.count("missing") == 4
    assert "python run.py method=full task=rte seed=1" in listed.out
    assert not out.exists()
    found = cli(*given, *WORKERS)
    assert found.code == 0, found.err
    assert "4 runs, 4 missing; 4 to do" in found.err
    assert "done 4 running 0 failed 0 remaining 0" in found.err
    records = read_all(out)
    assert {(r.methods[0], r.seed) for r in records} == {
        (m, s) for m in ("full", "bitfit") for s in (1, 2)
    }
    assert {r.environment["runs_beside"] for r in records} == {1}
    assert {r.environment["threads"] for r in records} == {1}
    assert not (out / ".claims").exists()
    gone = sorted(out.glob("*.json"))[0]
    others = {p: p.stat().st_mtime_ns for p in out.glob("*.json") if p != gone}
    gone.unlink()
    again = cli(*given, *WORKERS)
    assert again.code == 0
    assert "3 finished, 1 missing; 1 to do" in again.err
    assert gone.exists()
    assert {p: p.stat().st_mtime_ns for p in others} == others
    assert "0 to do" in cli(*given, *WORKERS).err
    # One of them alone, in this process, is the same run.
    alone = read_all(out)[0]
    line = next(x for x in listed.out.splitlines() if alone.run in x)
    overrides = line.partition("python run.py ")[2].split()
    assert cli(*overrides, f"out={tmp_path / 'alone'}").code == 0
    [single] = read_all(tmp_path / "alone")
    assert (single.run, single.trained_sha256) == (alone.run, alone.trained_sha256)
    assert single.predictions == alone.predictions


def test_failures_are_listed_and_retried_alone(
    cli: Cli, tiny_folder: Folder, tmp_path: Path
) -> None:
    given = small(tiny_folder("bert"), "lr=1e30")
    found = cli(*given, *WORKERS)
    assert found.code == 1
    states = [r.status for r in read_all(tmp_path / "runs")]
    assert states.count("diverged") == 4
    assert found.err.count("\ndiverged: rte.") == 4
    assert "0 to do" in cli(*given, *WORKERS).err
    retried = cli(*given, *WORKERS, "retry=failed")
    assert "4 diverged; 4 to do" in retried.err
    assert retried.code == 1


def _board(folder: Path, out: Path) -> subprocess.Popen[bytes]:
    given = small(folder, *WORKERS, "board.seeds=[1]", f"out={out}")
    command = [sys.executable, "run.py", *given, "budget.steps=400"]

    def hear_ctrl_c() -> None:  # a shell's background jobs, this test among them, ignore it
        signal.signal(signal.SIGINT, signal.default_int_handler)

    return subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, preexec_fn=hear_ctrl_c)


def _runs(out: Path) -> list[int]:
    """Return the processes that claimed runs."""
    import json

    found = []
    for path in out.glob(".claims/*.claim"):
        try:
            found.append(int(json.loads(path.read_text())["pid"]))
        except (OSError, ValueError):
            continue
    return found


def _wait(condition: Callable[[], object], seconds: float = 120) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.05)


def test_a_killed_run_is_named_and_done_by_the_next_board(cli: Cli, tmp_path: Path) -> None:
    folder, out = save_tiny("bert", tmp_path / "model"), tmp_path / "runs"
    process = _board(folder, out)
    _wait(lambda: _runs(out))
    os.kill(_runs(out)[0], signal.SIGKILL)
    _, told = process.communicate(timeout=300)
    assert process.returncode == 1
    assert told.count(b"\nmissing: rte.") == 1
    assert len(read_all(out)) == 1
    found = cli(*small(folder, *WORKERS, "board.seeds=[1]", f"out={out}", "budget.steps=400"))
    assert found.code == 0
    assert "1 to do" in found.err
    assert len(read_all(out)) == 2


def test_ctrl_c_ends_the_runs_and_leaves_a_clean_state(tmp_path: Path) -> None:
    folder, out = save_tiny("bert", tmp_path / "model"), tmp_path / "runs"
    process = _board(folder, out)
    _wait(lambda: len(_runs(out)) == 2)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130
    last = err.decode().splitlines()[-1]
    assert last.startswith("stopped; runs that were training left a checkpoint each")
    assert " python run.py board=smoke device=cpu" in last
    assert err.count(b"stopped; ") == 1
    assert b"interrupted" not in err
    assert not list(out.glob("**/*.claim"))
    assert not list(out.glob("**/*.tmp"))


def test_a_run_that_another_process_does_is_left_to_it(
    cli: Cli, tiny_folder: Folder, tmp_path: Path
) -> None:
    given = small(tiny_folder("bert"))
    listed = cli(*given, "plan=true", "estimate=false").out.splitlines()[0]
    name, overrides = listed.split()[1], listed.partition("python run.py ")[2].split()
    claim = take(tmp_path / "runs", name)
    assert isinstance(claim, Claim)
    found = cli(*overrides, f"out={tmp_path / 'runs'}")
    assert found.code == 3
    assert f"is being done by process {os.getpid()}" in found.err
    assert "1 claimed" in cli(*given, "plan=true", "estimate=false").err
    claim.release()
    assert cli(*overrides, f"out={tmp_path / 'runs'}").code == 0


def test_a_board_does_other_runs_while_another_process_does_one(
    cli: Cli, tiny_folder: Folder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first run is claimed until three others are there; the board then does it too."""
    given, out = small(tiny_folder("bert")), tmp_path / "runs"
    name = cli(*given, "plan=true", "estimate=false").out.split()[1]
    claim = take(out, name)
    assert isinstance(claim, Claim)
    monkeypatch.setattr("runners.boards.pool.WAIT", 0.05)

    def let_go() -> None:
        _wait(lambda: len(list(out.glob("*.json"))) == 3)
        time.sleep(0.5)
        assert not (out / f"{name}.json").exists()
        claim.release()

    other = threading.Thread(target=let_go)
    other.start()
    found = cli(*given, "workers=1", "threads=1")
    other.join()
    assert found.code == 0, found.err
    lines = [x for x in found.err.splitlines() if x.startswith("finished ")]
    assert len(lines) == 4
    assert name in lines[-1]


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["board=nothing"], "no board called 'nothing'"),
        (["board=smoke", "workers=0"], "workers=0"),
        (["board=smoke", "retry=all"], "retry='all'"),
        (["board=smoke", "board.seeds=[]"], "board.seeds=[]"),
        (["board=smoke", "board.methods=[fulll]"], "no method called 'fulll'"),
        (["board=smoke", "board.tasks=[rtee]"], "no task called 'rtee'"),
        (["board=smoke", 'board.set=["budget.stepz=4"]'], "no key called 'budget.stepz'"),
        (["board=smoke", "search=true"], "has no search"),
        (["board=smoke", "+board.search={lr: [1,2,3], seed: 1}", "lr=3"], "leave lr= out"),
        (["board=smoke", "+board.search={lr: [1,2,3], seed: 1, tasks: []}"], "board.search.tasks"),
        (
            ["board=smoke", "+board.search={lr: [1,2,3], seed: 1, tasks: [colaa]}"],
            "no task called 'colaa'",
        ),
        (["board=smoke", "list=x"], "goes with plan=true"),
        (["board=smoke", "sede=4"], "no key called 'sede'; did you mean seed?"),
    ],
)
def test_wrong_boards_get_one_line(arguments: list[str], sentence: str, cli: Cli) -> None:
    found = cli(*arguments)
    assert found.code == 2
    assert sentence in found.err
    assert found.err.count("\n") == 1


def _searching(tmp_path: Path, folder: Path) -> list[str]:
    return [
        *small(folder, "board.methods=[full,bitfit]", "board.seeds=[1]", "budget.steps=3"),
        "+board.search={lr: [1e-4, 1e-3, 1e-2], seed: 9}",
        f"out={tmp_path / 'runs'}",
    ]


def test_search_tries_every_rate_once_and_the_board_takes_the_best(
    cli: Cli, tiny_folder: Folder, tmp_path: Path
) -> None:
    given = _searching(tmp_path, tiny_folder("bert"))
    waits = cli(*given, "plan=true", "estimate=false")
    assert waits.code == 0, waits.err
    assert "2 runs wait for a learning rate: python run.py board=smoke search=true" in waits.err
    assert cli(*given).code == 1
    assert not list((tmp_path / "runs").glob("*.json"))
    done = cli(*given, "search=true", *WORKERS)
    assert done.code == 0, done.err
    trials = read_all(tmp_path / "runs")
    assert len(trials) == 6
    assert {(r.seed, r.protocol) for r in trials} == {(9, "select")}
    assert {(r.methods[0], r.config["lr"]) for r in trials} == {
        (m, lr) for m in ("full", "bitfit") for lr in (1e-4, 1e-3, 1e-2)
    }
    best = {}
    for record in trials:
        assert record.selected is not None
        pair = (record.selected["score"], -record.config["lr"])
        best[record.methods[0]] = max(best.get(record.methods[0], pair), pair)
    listed = cli(*given, "plan=true", "estimate=false", f"list={tmp_path / 'boards'}")
    assert listed.code == 0, listed.err
    for method, (_, rate) in best.items():
        [line] = [x for x in listed.out.splitlines() if f"method={method} " in x]
        assert line.startswith("missing")
        assert line.endswith(f" lr={-rate:g}")
    assert cli(*given, *WORKERS).code == 0
    final = [r for r in read_all(tmp_path / "runs") if r.protocol == "final"]
    assert {r.methods[0]: r.config["lr"] for r in final} == {m: -r for m, (_, r) in best.items()}


def test_hydras_own_options_are_no_settings_of_a_run() -> None:
    typed = ["-m", "a=1", "--config-dir", "my dir", "board=b", "-cd=x", "--config-dir=y", "b=2"]
    assert overrides_of(typed) == ["a=1", "board=b", "b=2"]


def test_search_goes_to_a_folder_of_its_own_and_needs_three_rates() -> None:
    search = Search(lr=[1e-4, 1e-3, 1e-2], seed=9, set=["budget.epochs=2"])
    board = Board(name="b", methods=["full"], tasks=["rte"], seeds=[1, 2], search=search)
    found = [slot.overrides for slot in expand_search(board, search, ["board=b"])]
    assert found[0] == [
        "method=full", "task=rte", "seed=9", "protocol=select", "budget.epochs=2",
        "out=results/searches/b", "lr=0.0001",
    ]  # fmt: skip
    assert len(found) == 3
    with pytest.raises(ValueError, match="at least 3"):
        Search(lr=[1e-4, 1e-3], seed=9)


def test_a_searchs_tasks_give_a_row_one_rate_the_best_in_their_mean(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    search = Search(lr=[1e-4, 1e-3, 1e-2], seed=9, tasks=["cola", "stsb"])
    board = Board(name="b", methods=["full"], tasks=["rte", "cola"], seeds=[1, 2], search=search)
    slots = expand_search(board, search, [])
    assert {slot.task for slot in slots} == {"cola", "stsb"}
    assert len(slots) == 6
    scores = {"cola": (0.1, 0.2, None), "stsb": (0.8, 0.6, 0.9)}  # None: it diverged
    trials, stored = [], {}
    for slot in slots:
        rate = float(slot.overrides[-1].removeprefix("lr="))
        score = scores[slot.task][search.lr.index(rate)]
        trial = Planned(slot, slot.overrides, "name", tmp_path / f"{len(trials)}.json", "finished")
        stored[trial.path] = Mock(
            selected=None if score is None else {"score": score},
            status="diverged" if score is None else "finished",
            config={"lr": rate},
        )
        trials.append(trial)
    monkeypatch.setattr("results.record.read", stored.get)
    assert best_trials(search, trials) == {(0, None): (1e-4, ())}
    assert {search.decides(slot) for slot in expand(board, [])} == {(0, None)}
    each = search.model_copy(update={"tasks": None})
    assert best_trials(each, trials) == {(0, "cola"): (1e-3, ()), (0, "stsb"): (1e-2, ())}
    trials[-1].state = "missing"
    assert best_trials(search, trials) == {}
    assert best_trials(each, trials) == {(0, "cola"): (1e-3, ())}


def test_each_run_owns_a_gpu_unless_sharing_is_asked_for_and_recorded(
    cli: Cli, tiny_folder: Folder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A GPU that is named and not there: torch then takes the CPU, whose runs show the rest."""
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "7")
    given = [a for a in small(tiny_folder("bert")) if not a.startswith("device=")]
    refused = cli(*given, *WORKERS)
    assert refused.code == 2
    assert "workers=2 on 1 GPU(s): each run owns one" in refused.err
    assert not list((tmp_path / "runs").glob("*.json"))
    assert cli(*given, *WORKERS, "share_device=true", "board.seeds=[1]").code == 0
    assert {r.environment["shared_device"] for r in read_all(tmp_path / "runs")} == {True}
    assert cli(*given, "workers=1", "threads=1", "board.methods=[linear]").code == 0
    alone = [r for r in read_all(tmp_path / "runs") if r.methods == ["linear"]]
    assert {r.environment["shared_device"] for r in alone} == {False}


@pytest.mark.parametrize(
    ("named", "gpus"), [("0,1", ["0", "1"]), ("-1", []), ("2,-1,3", ["2"]), ("", [])]
)
def test_devices_that_are_hidden_are_not_counted(
    named: str, gpus: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", named)
    assert _gpus() == gpus


def test_a_board_gives_out_gpus_by_itself(cli: Cli, tiny_folder: Folder) -> None:
    given = [a for a in small(tiny_folder("bert")) if not a.startswith("device=")]
    refused = cli(*given, "device=cuda:1")
    assert refused.code == 2
    assert "name those it may use by CUDA_VISIBLE_DEVICES=1" in refused.err


def test_what_another_process_finished_meanwhile_is_not_done_again(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Two boards with retry=failed: the one that was slower finds the run finished."""
    started: list[str] = []
    monkeypatch.setattr(Pool, "_once", lambda self, run, worker: started.append(run.name) or 0)
    runs = [
        Planned(Slot(0, "rte", 1, []), [], name, tmp_path / f"{name}.json", again=True)
        for name in ("finished", "failed")
    ]
    monkeypatch.setattr(
        Planned, "look", lambda self: "finished" if self.name == "finished" else "diverged"
    )
    Pool(runs, NO_PLANNER, 1, 1, [], tmp_path).go()
    assert started == ["failed"]


def test_gpus_are_handed_out_one_a_worker(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    class Started:
        def __init__(self, arguments: object, env: dict[str, str], output: int) -> None:
            given.append((env["CUDA_VISIBLE_DEVICES"], env["TUNEBENCH_SHARED_DEVICE"]))

        def wait(self) -> int:
            return 0

    given: list[tuple[str, str]] = []
    monkeypatch.setattr("runners.boards.pool.start", Started)
    run = Planned(Slot(0, "rte", 1, []), [], "name", tmp_path / "name.json")
    for worker in range(3):
        Pool([run], NO_PLANNER, 3, 1, ["4", "6", "7"], tmp_path)._once(run, worker)
        Pool([run], NO_PLANNER, 3, 1, ["4", "6"], tmp_path)._once(run, worker)
    assert given == [("4", "0"), ("4", "1"), ("6", "0"), ("6", "1"), ("7", "0"), ("4", "1")]


@pytest.mark.timeout(60)
def test_a_process_that_cannot_be_started_is_a_failed_run(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """What starts from it waited for ever, and a thread died with a traceback."""

    def start(*_: object) -> None:
        raise OSError(11, "Resource temporarily unavailable")

    monkeypatch.setattr("runners.boards.pool.start", start)
    monkeypatch.setattr("runners.boards.pool.WAIT", 0.01)
    first, other = (
        Planned(Slot(0, "rte", 1, []), [], name, tmp_path / f"{name}.json")
        for name in ("first", "other")
    )
    last = Planned(Slot(0, "rte", 1, []), [], "last", tmp_path / "last.json", before=first)
    pool = Pool([first, last, other], NO_PLANNER, 2, 1, [], tmp_path)
    pool.go()
    assert (first.state, other.state, last.state) == ("failed", "failed", "missing")
    assert first.message == "[Errno 11] Resource temporarily unavailable"
    assert (pool.running, pool.ended) == ({}, 3)
    assert "Traceback" not in capsys.readouterr().err
