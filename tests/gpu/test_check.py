"""The check's book-keeping on a CPU, with tiny models: going on, time that runs out, the table."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import ROOT, Cli, tiny
from tests.gpu import check, timed

PAIR = check.Pair(check.BERTBASE, "fp32", "mrpc", 48, 2)
SIDE = {"whole_seconds": 8.0, "eval_seconds": 1.0, "batch_size": 32, "seconds_a_step": 0.01}


class _Acts:
    """Steps that write down that they were taken; a clock that each moves by ten seconds."""

    def __init__(self) -> None:
        self.taken: list[str] = []
        self.now = 0.0
        self.broken: set[str] = set()

    def step(self, name: str, seconds: float = 10) -> check.Step:
        def act(place: check.Place, left: float) -> check.Result:
            self.taken.append(name)
            self.now += 10
            if name in self.broken:
                raise subprocess.TimeoutExpired(name, left)
            return {"name": name}

        return check.Step(name, seconds, act)


def test_a_check_goes_on_where_it_ended(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    acts, place = _Acts(), check.Place(tmp_path, tmp_path)
    steps = [acts.step("a"), acts.step("b"), acts.step("long", 100), acts.step("c")]
    acts.broken = {"b"}
    done = check.follow(steps, place, 35, lambda: acts.now)
    assert acts.taken == ["a", "b", "c"]
    assert list(done) == ["a", "c"]
    said = capsys.readouterr().out
    assert "long: left for the next call" in said
    assert "b: failed: " in said
    acts.broken, acts.taken = set(), []
    assert list(check.follow(steps, place, 200, lambda: acts.now)) == ["a", "b", "long", "c"]
    assert acts.taken == ["b", "long"]
    acts.taken = []
    check.follow(steps, place, 0, lambda: acts.now)
    assert acts.taken == []


def test_all_steps_fit_into_eight_minutes_as_they_are_expected_to() -> None:
    names = [step.name for step in check.STEPS]
    assert len(set(names)) == len(names) == 3 + len(check.PAIRS)
    assert len(check.PAIRS) == 8
    assert names[:5] == ["tests", "bertbase", "bertbase-bf16-mrpc", "minilm-bf16-mrpc", "board"]
    assert sum(step.seconds for step in check.STEPS[:5]) <= 8 * 60


def test_a_pair_is_timed_on_both_sides(
    tmp_path: Path, tiny_folder: Callable[[str], Path], cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ours for real, on a tiny model; the Trainer's side by what it is asked for."""
    (tmp_path / "out").mkdir()
    shutil.copytree(tiny_folder("bert"), tmp_path / "out" / check.BERTBASE)
    small = [s for s in tiny(tmp_path) if not s.startswith(("model.", "data=", "device="))]
    asked: list[Sequence[str]] = []

    def process(arguments: Sequence[str], seconds: float) -> str:
        asked.append(arguments)
        if arguments[1] == "tests.benchmarks.baseline":
            return f"progress\n{json.dumps(SIDE)}\n"
        own = [a for a in arguments[3:] if not a.startswith("data")]
        code, figures = timed.timed(int(arguments[2]), [*own, *small, "data=embedded"])
        assert code == 0
        return f"a table\n{json.dumps(figures)}\n"

    monkeypatch.setattr(check, "process", process)
    more = ("budget.steps=6",)
    place = check.Place(tmp_path / "out", tmp_path, device="cpu", warm=3, settings=more)
    result = check.compare(PAIR, place, 60)
    ours, theirs = result["ours"], result["trainer"]
    assert ours["steps"] == 6
    assert 0 < 3 * ours["seconds_a_step"] <= ours["train_seconds"] < ours["whole_seconds"]
    assert theirs["seconds_a_step"] == 0.01
    expected = {"--task": "mrpc", "--epochs": "2", "--warm": "3", "--train-size": "48"}
    given = dict(zip(asked[1][2::2], asked[1][3::2], strict=True))
    assert expected.items() <= given.items()
    assert given["--model"].endswith(check.BERTBASE)
    assert f"data.train_size={PAIR.rows}" in asked[0]


def test_a_step_is_timed_after_the_warm_ones_only() -> None:
    watch = timed.Stopwatch(2)
    for step in range(1, 3):
        watch.step(step, last=False)
    assert watch.figures() == {"steps": 2, "seconds_a_step": None}
    watch.at = {2: 10.0, 6: 12.0}
    assert watch.figures() == {"steps": 6, "seconds_a_step": 0.5}


def test_a_board_is_counted_by_its_records(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run that failed makes the command fail, and is a result all the same."""
    place, asked = check.Place(tmp_path, tmp_path), []
    shipped = sorted((ROOT / "results" / "h200").glob("*.json"))[:3]

    def process(arguments: Sequence[str], seconds: float, environment: dict[str, str]) -> str:
        asked.append((arguments, environment))
        (tmp_path / "board").mkdir(exist_ok=True)
        for path in shipped:
            shutil.copy(path, tmp_path / "board")
        record: Any = json.loads(shipped[0].read_text())
        record["status"] = "failed"
        (tmp_path / "board" / shipped[0].name).write_text(json.dumps(record))
        raise RuntimeError("exit code 1: one failed")

    monkeypatch.setattr(check, "process", process)
    found = check.run_board(place, 100)
    assert (found["runs"], found["failed"], found["workers"]) == (3, 1, 15)
    arguments, environment = asked[0]
    assert "board.seeds=[1]" in arguments
    assert environment == {"CUDA_VISIBLE_DEVICES": "0"}
    assert not any(argument.startswith("device=") for argument in arguments)  # a board refuses it
    monkeypatch.setattr(check, "process", lambda *_: "")
    with pytest.raises(RuntimeError, match="left no record"):
        check.run_board(check.Place(tmp_path / "none", tmp_path), 100)


REPORT = """<?xml version="1.0" encoding="utf-8"?><testsuites name="pytest tests"><testsuite
 name="pytest" errors="1" failures="1" skipped="2" tests="6" time="0.1"><testcase classname="t"
 name="test_a" time="0.0" /><testcase classname="t" name="test_b"><failure
 message="assert 1 == 2&#10;  at all">def</failure></testcase><testcase classname="t"
 name="test_c"><error message="no graph">x</error></testcase></testsuite></testsuites>"""


def test_failed_tests_are_a_result_with_their_reasons(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def process(arguments: Sequence[str], seconds: float) -> str:
        [report] = [a.partition("=")[2] for a in arguments if a.startswith("--junitxml=")]
        Path(report).write_text(REPORT)
        raise RuntimeError("exit code 1")

    monkeypatch.setattr(check, "process", process)
    found = check.run_tests(check.Place(tmp_path, tmp_path), 100)
    assert (found["passed"], found["failed"], found["skipped"]) == (2, 2, 2)
    assert found["why"] == {"test_b": "assert 1 == 2 at all", "test_c": "no graph"}


def test_the_table_says_what_was_measured_and_a_dash_what_was_not() -> None:
    slow = {**SIDE, "seconds_a_step": 0.04, "whole_seconds": 20.0, "eval_seconds": 0.5}
    results = {
        PAIR.key: {"ours": SIDE, "trainer": slow},
        "board": {"runs": 72, "workers": 15, "mps": True, "seconds": 44.6, "failed": 0},
        "tests": {"passed": 30, "failed": 1, "skipped": 2},
    }
    other = check.Pair("minilm", "bf16", "sst2", None, 1)
    shown = check.table(results, [PAIR, other], "A device, a day:").splitlines()
    title = "bertbase, fp32, mrpc (48 rows), 2 epoch(s)"
    assert shown[0] == "A device, a day:"
    assert shown[4:7] == [
        f"| {title}: examples/s after the first steps | 3200 | 800 | 4.00 |",
        f"| {title}: whole run, s | 8 | 20 | 2.50 |",
        f"| {title}: evaluation, s | 1 | 0.5 | 0.50 |",
    ]
    assert shown[7] == (
        "| minilm, bf16, sst2, 1 epoch(s): examples/s after the first steps | – | – | – |"
    )
    assert shown[10:] == [
        "| board low1k, 72 runs, 15 at once, through MPS: s | 45, 0 failed | | |",
        "| tests marked `gpu` | 30 passed, 1 failed, 2 skipped | | |",
    ]
    assert {line.count("|") for line in shown[2:]} == {5}
    assert check.heading("cpu").split(", ")[2].startswith("commit ")


def test_without_a_gpu_it_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    monkeypatch.setattr("sys.argv", ["check"])
    with pytest.raises(SystemExit, match="torch sees no GPU here"):
        check.main()
