"""Chains: stages in their order, each once, and a kill in any of them changes nothing."""

from __future__ import annotations

import shutil
import signal
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from results.errors import UserError
from results.record import Record, read_all
from runners.config.spelling import spelled_out
from runners.machine.processes import worst
from tests import forked
from tests.conftest import Cli, composed, tiny

Folder = Callable[[str], Path]
CHAIN = ("stages=[mnli,mrpc,rte]", "stages.0.budget.steps=6", "stages.1.lr=1e-3", "threads=1")


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[list[str]]:
    """Start stages as forks, and return what each was given."""
    starts: list[list[str]] = []

    def run_alone(arguments: Sequence[str]) -> int:
        starts.append([*arguments])
        return forked.start(arguments, tmp_path / "log").wait()

    monkeypatch.setattr("runners.boards.chain.run_alone", run_alone)
    return starts


def _by_task(out: Path) -> dict[str, Record]:
    return {record.task: record for record in read_all(out)}


def test_a_stages_settings_become_part_of_the_list() -> None:
    typed = ["seed=1", "stages=[mnli,rte]", "stages.0.lr=1e-3", 'stages.1.model.name_or_path=a"b\\']
    [seed, stages] = spelled_out(typed)
    assert seed == "seed=1"
    assert composed((stages,))["stages"] == [
        {"task": "mnli", "set": ["lr=1e-3"]},
        {"task": "rte", "set": ['model.name_or_path=a"b\\']},
    ]
    assert spelled_out([seed, stages]) == [seed, stages]
    assert spelled_out(["start=RUN"]) == ["start.run=RUN"]
    assert spelled_out(["-m", "stages=[a,b]", "seed=1,2"]) == ["-m", "stages=[a,b]", "seed=1,2"]


@pytest.mark.parametrize(
    ("typed", "said"),
    [
        (["stages=[mnli,rte]", "task=rte"], "two targets"),
        (["stages=[mnli,rte]", "start=RUN"], "two starts"),
        (["stages=[mnli,rte]", "stages.2.lr=1"], "stages count from 0 to 1"),
        (["stages=[mnli,rte]", "stages.x.lr=1"], "stages count from 0 to 1"),
        (["stages.0.lr=1"], "of no stage"),
        (["stages=[rte]", "stages.0.lr=1"], "two tasks or more"),
        (["stages=[mnli,3]", "stages.0.lr=1"], r"stages\.1=3"),
        (["stages=[mnli,rte]", "stages.0.save=delta"], "save=delta: what a stage leaves is its"),
        *(
            (["stages=[mnli,rte]", f"stages.0.{setting}"], f"{key}= is of the whole command")
            for key, setting in (
                ("eval", "eval=RUN"),
                ("board", "board=low1k"),
                ("push", "push=me/mine"),
                ("workers", "workers=2"),
                ("stages", "stages=[cola,sst2]"),
                ("hydra", "hydra.verbose=true"),
            )
        ),
    ],
)
def test_wrong_stages_are_named(typed: list[str], said: str) -> None:
    with pytest.raises(UserError, match=said):
        spelled_out(typed)


@pytest.mark.parametrize(
    ("typed", "said"),
    [
        (["stages=[mnli,rtee]"], "did you mean rte?"),
        (["stages=[mnli,sts]"], "compares vectors"),
        (["stages=[rte]"], "two tasks or more"),
        (["stages=[]"], "two tasks or more"),
        (["stages=[mnli,rte]", "workers=2"], "would change nothing"),
        (["stages=[mnli,rte]", "stages.1.lr=-1"], "lr=-1"),
        (["stages=[mnli,rte]", "board=smoke"], "two acts"),
        (["keep=true"], "goes with stages"),
        (
            ["stages=[mnli,rte]", "stages.1.start.head=keep"],
            "start from task=mnli start.head=keep: its labels are",
        ),
        (
            ["stages=[mnli,rte]", "data.train_size=20", "stages.1.data.pseudo.teacher=none"],
            "data.pseudo.teacher=none: no such record",
        ),
    ],
)
def test_wrong_chain_is_one_line_before_anything_runs(
    typed: list[str], said: str, cli: Cli, started: list[list[str]], tmp_path: Path
) -> None:
    done = cli("data=embedded", *typed)
    assert done.code == 2
    assert said in done.err
    assert done.err.count("\n") == 1
    assert not started
    assert not (tmp_path / "runs").exists()


def test_a_stage_of_another_model_is_told_before_anything_runs(
    cli: Cli, tiny_folder: Folder, started: list[list[str]]
) -> None:
    given = tiny(tiny_folder("bert"), "stages=[mnli,rte]")
    done = cli(*given, f"stages.1.model.name_or_path={tiny_folder('roberta')}")
    assert done.code == 2
    assert "start from task=mnli: it was trained from" in done.err
    assert not started


def test_stages_are_done_in_order_once_and_only_the_targets_weights_may_stay(
    cli: Cli, tiny_folder: Folder, tmp_path: Path, started: list[list[str]]
) -> None:
    given, out = tiny(tiny_folder("bert"), *CHAIN), tmp_path / "runs"
    listed = cli(*given, "plan=true")
    assert listed.code == 0
    assert [line.split()[0] for line in listed.out.splitlines()] == ["missing", *["waiting"] * 2]
    assert [line.endswith(" start=RUN") for line in listed.out.splitlines()] == [False, True, True]
    assert not started
    done = cli(*given)
    assert done.code == 0, done.err
    records = _by_task(out)
    assert [s["run"] for s in records["rte"].weights["start"]["chain"]] == [
        records["mnli"].run,
        records["mrpc"].run,
    ]
    assert (records["mnli"].steps, records["mrpc"].config["lr"]) == (6, 1e-3)
    assert records["rte"].config["lr"] != 1e-3
    assert not list(out.glob("*.delta"))
    before = {p: p.stat().st_mtime_ns for p in out.glob("*.json")}
    listed = cli(*given, "plan=true").out.splitlines()
    assert [line.split()[:2] for line in listed] == [
        ["finished", records[task].run] for task in ("mnli", "mrpc", "rte")
    ]
    started.clear()
    assert cli(*given).code == 0
    assert {p: p.stat().st_mtime_ns for p in out.glob("*.json")} == before
    assert len(started) == 1  # the target, which prints the stored result
    # Asked for its weights, the target is done again, and so is what it starts from.
    kept = cli(*given, "save=delta")
    assert kept.code == 0, kept.err
    assert sorted(p.stem for p in out.glob("*.delta")) == [records["rte"].run]
    assert _by_task(out)["rte"].trained_sha256 == records["rte"].trained_sha256
    # Another target shares the first stages; their weights are made again, and are the same.
    other = cli(*tiny(tiny_folder("bert")), "stages=[mnli,stsb]", *CHAIN[1:2], "threads=1",
                "keep=true")  # fmt: skip
    assert other.code == 0, other.err
    assert {p.stem for p in out.glob("*.delta")} == {records["mnli"].run, records["rte"].run}
    assert len(read_all(out)) == 4


def test_chain_ends_at_a_stage_that_diverges(
    cli: Cli, tiny_folder: Folder, tmp_path: Path, started: list[list[str]]
) -> None:
    given = tiny(tiny_folder("bert"), "stages=[mnli,rte]", "stages.0.lr=1e30")
    done = cli(*given)
    assert done.code == 1
    assert "the chain ends at stage 1, which is diverged" in done.err
    assert [r.status for r in read_all(tmp_path / "runs")] == ["diverged"]
    assert cli(*given).code == 1
    assert len(started) == 1  # it would diverge again


def test_a_stage_that_cannot_write_its_weights_is_trained_once(
    cli: Cli, tiny_folder: Folder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    starts: list[Sequence[str]] = []

    def run_alone(arguments: Sequence[str]) -> int:
        """Do a run as on a disk that is full when its weights are written."""
        starts.append(arguments)
        code = forked.start(arguments, tmp_path / "log").wait()
        for delta in (tmp_path / "runs").glob("*.delta"):
            shutil.rmtree(delta)
        return code

    monkeypatch.setattr("runners.boards.chain.run_alone", run_alone)
    done = cli(*tiny(tiny_folder("bert"), *CHAIN))
    assert done.code != 0
    assert "the chain ends at stage 1, whose weights are not there: mnli.full" in done.err
    assert len(starts) == 1


def test_weights_that_another_chain_removed_are_made_again(
    cli: Cli, tiny_folder: Folder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = tiny(tiny_folder("bert"), "stages=[mnli,rte]", "budget.steps=2", "threads=1")
    removed: list[Path] = []

    def run_alone(arguments: Sequence[str]) -> int:
        if "task=rte" in arguments and not removed:
            removed.extend((tmp_path / "runs").glob("*.delta"))
            shutil.rmtree(removed[0])
        return forked.start(arguments, tmp_path / "log").wait()

    monkeypatch.setattr("runners.boards.chain.run_alone", run_alone)
    done = cli(*given)
    assert done.code == 0, done.err
    assert len(removed) == 1
    assert {r.status for r in read_all(tmp_path / "runs")} == {"finished"}


def test_killed_in_each_stage_it_ends_as_if_it_had_not_been(
    cli: Cli, tiny_folder: Folder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = tiny(tiny_folder("bert"), "stages=[mnli,rte]", "threads=1", "budget.steps=12")
    given += ["checkpoint.steps=2"]
    kills: list[str] = []

    def run_alone(arguments: Sequence[str]) -> int:
        process = forked.start(arguments, tmp_path / "log")
        task = next(a for a in arguments if a.startswith("task="))
        out = next(a for a in arguments if a.startswith("out=")).removeprefix("out=")
        while task not in kills and out.endswith("cut") and process.poll() is None:
            if list(Path(out).glob(f".checkpoints/{task.removeprefix('task=')}.*/step*")):
                process.send_signal(signal.SIGKILL)
                kills.append(task)
        return worst([process.wait()])

    monkeypatch.setattr("runners.boards.chain.run_alone", run_alone)
    assert cli(*given, f"out={tmp_path / 'whole'}").code == 0
    cut = f"out={tmp_path / 'cut'}"
    assert [cli(*given, cut).code for _ in range(3)] == [137, 137, 0]
    assert kills == ["task=mnli", "task=rte"]
    whole, again = _by_task(tmp_path / "whole"), _by_task(tmp_path / "cut")
    for task in ("mnli", "rte"):
        for name in ("run", "losses", "trained_sha256", "predictions", "scores"):
            assert getattr(again[task], name) == getattr(whole[task], name), (task, name)
        assert again[task].resumed
    assert not [*(tmp_path / "cut").glob("*.delta"), *(tmp_path / "cut").glob(".stages")]


def test_a_sweep_does_a_chain_for_each_job(
    cli: Cli, tiny_folder: Folder, tmp_path: Path, started: list[list[str]]
) -> None:
    given = tiny(tiny_folder("bert"), "stages=[mnli,rte]", "budget.steps=2", "own_process=false")
    assert cli("-m", *given, "seed=1,2", "stages.0.lr=1e-3").code == 0
    assert sorted((r.task, r.seed) for r in read_all(tmp_path / "runs")) == [
        ("mnli", 1), ("mnli", 2), ("rte", 1), ("rte", 2),
    ]  # fmt: skip


def test_masked_text_is_a_stage_before_a_task(
    cli: Cli, tiny_folder: Folder, tmp_path: Path, started: list[list[str]]
) -> None:
    out = tmp_path / "runs"
    given = tiny(tiny_folder("bert"), "stages=[mlm,rte]", "stages.0.mlm.on=[rte]", "threads=1")
    listed = cli(*given, "plan=true")
    assert listed.code == 0, listed.err
    assert [line.split()[0] for line in listed.out.splitlines()] == ["missing", "waiting"]
    done = cli(*given, "stages.0.mlm.mask=whole_word")
    assert done.code == 0, done.err
    records = _by_task(out)
    assert records["mlm"].config["task"]["mlm"]["mask"] == "whole_word"
    assert records["mlm"].measured["held_out"].keys() == {"before", "after"}
    [stage] = records["rte"].weights["start"]["chain"]
    assert (stage["run"], stage["task"]) == (records["mlm"].run, "mlm(rte, whole word)")
    assert not list(out.glob("*.delta"))
