"""Services get each value once, under one name of the run; a tracker that fails costs no run."""

from __future__ import annotations

import importlib
import json
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from accelerate import PartialState
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from results.errors import UserError
from results.record import read_all
from runners.machine.csv_tracker import CsvTracker
from runners.machine.trackers import Logged, Trackers
from tests.conftest import Cli, tiny

# Modules in a service's place: they write down every call that reaches them.
RUN = """
class Run:
    info = type("Info", (), {"run_id": "r1"})
    def log(self, values, step):
        write("log", step, values)
    def finish(self):
        write("finish")
"""
COMMON = """
import json, os
def write(*call):
    with open(os.environ["CALLS"], "a") as stream:
        stream.write(json.dumps([__name__, *call], sort_keys=True) + "\\n")
"""
STAND_INS = {
    "wandb": COMMON + RUN + "def init(**given):\n    write('init', given)\n    return Run()\n",
    "trackio": COMMON + RUN + "def init(**given):\n    write('init', given)\n    return Run()\n",
    "mlflow": COMMON + RUN + """
class utils:
    class validation:
        MAX_PARAM_VAL_LENGTH, MAX_PARAMS_TAGS_PER_BATCH = 500, 100
def search_experiments(filter_string):
    return []
def create_experiment(**given):
    return "e1"
def start_run(**given):
    write("init", {k: v for k, v in given.items() if v})
    return Run()
def log_params(values):
    write("params", values)
def log_metrics(values, step):
    write("log", step, values)
def end_run():
    write("finish")
""",
}  # fmt: skip


@pytest.fixture(autouse=True)
def _state() -> None:
    """accelerate's trackers ask which process they are in."""
    PartialState(cpu=True)


@pytest.fixture
def services(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Put the modules where Python finds them; yield the file in which they write."""
    folder, calls = tmp_path / "modules", tmp_path / "calls"
    folder.mkdir()
    for name, text in STAND_INS.items():
        (folder / f"{name}.py").write_text(text)
    monkeypatch.syspath_prepend(str(folder))
    monkeypatch.setenv("CALLS", str(calls))
    importlib.invalidate_caches()
    yield calls
    for name in STAND_INS:
        sys.modules.pop(name, None)


def _calls(file: Path, service: str) -> list[list[object]]:
    calls = [json.loads(line) for line in file.read_text().splitlines()]
    return [call[1:] for call in calls if call[0] == service]


ROWS = [(step, {"train/loss": 1.0 / step, "train/learning_rate": 0.5}) for step in (1, 2, 3, 4)]
MEAN = {"train/loss": (1 + 1 / 2 + 1 / 3 + 1 / 4) / 4, "train/learning_rate": 0.5}


def test_services_get_each_look_once_however_often_the_run_goes_on(
    services: Path, tmp_path: Path
) -> None:
    """Killed after step 4, with a checkpoint of step 2: they are told of step 6 next."""
    names = ("wandb", "mlflow", "trackio")
    first = Trackers(Logged(names, tmp_path, "RUN", {"lr": 1.0, "budget": {"steps": 6}}))
    first.steps(ROWS)
    first.scores(4, {"dev": {"accuracy": 0.5}})
    first.close()
    second = Trackers(Logged(names, tmp_path, "RUN", {"lr": 1.0, "budget": {"steps": 6}}, after=2))
    second.steps(ROWS[2:])
    second.scores(4, {"dev": {"accuracy": 0.5}})
    second.steps([(6, {"train/loss": 0.1})])
    second.close()
    once = [["log", 4, MEAN], ["log", 4, {"dev/accuracy": 0.5}], ["finish"]]
    later = [["log", 6, {"train/loss": 0.1}], ["finish"]]
    settings = {"lr": 1.0, "budget.steps": 6}
    [begun, *calls] = _calls(services, "wandb")
    assert calls == [*once, begun, *later]
    assert begun[0] == "init"
    given = begun[1]
    assert isinstance(given, dict)
    assert len(given.pop("id")) == 16
    folder = str(tmp_path / ".logs" / "RUN")
    same = {"project": "tunebench", "name": "RUN", "config": settings}
    assert given == {**same, "resume": "allow", "dir": folder}
    assert _calls(services, "trackio") == [
        *(["init", {**same, "resume": "never"}], *once),
        *(["init", {**same, "resume": "allow"}], *later),
    ]
    run = {"experiment_id": "e1", "run_name": "RUN"}
    assert _calls(services, "mlflow") == [
        *(["init", run], ["params", settings], *once),
        *(["init", {**run, "run_id": "r1"}], *later),
    ]
    Trackers(Logged(names, tmp_path, "RUN")).close()  # begun anew: another run for wandb
    assert _calls(services, "wandb")[-2][1]["id"] != begun[1]  # type: ignore[index]


def test_a_run_reaches_a_service_and_ends_it(
    cli: Cli, services: Path, tiny_folder: Callable[[str], Path], tmp_path: Path
) -> None:
    given = tiny(tiny_folder("bert"), "task=rte", "budget.steps=12", "log=[trackio,csv]")
    done = cli(*given)
    assert done.code == 0, done.err
    [record] = read_all(tmp_path / "runs")
    begun, ten, twelve, scores, finish = _calls(services, "trackio")
    assert begun[1]["config"]["budget.steps"] == 12  # type: ignore[index]
    assert [ten[1], twelve[1]] == [10, 12]
    assert ten[2]["train/loss"] == pytest.approx(sum(record.losses[:10]) / 10)  # type: ignore[index]
    assert scores[1:] == [12, {"validation/accuracy": record.scores["validation"]["accuracy"]}]
    assert finish == ["finish"]


@pytest.mark.parametrize("name", ["wandb", "mlflow", "trackio"])
def test_a_tracker_that_is_not_installed_is_named_before_anything_is_done(
    name: str, cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / name).mkdir()  # what a service left there is no package
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    for board in ([], ["board=smoke"]):
        done = cli(f"log=[csv,{name}]", "data=embedded", *board)
        assert (done.code, done.err.count("\n")) == (2, 1)
        assert f"log={name}: {name} is not installed; type pip install {name}" in done.err
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize(
    ("typed", "sentence"),
    [
        ("log=tensorbord", "log='tensorbord' (did you mean tensorboard?"),
        ("log=[csv,excel]", "log.1='excel' (known: csv, mlflow, tensorboard, trackio, wandb)"),
        ("log=3", "log=3"),
    ],
)
def test_what_is_no_tracker_is_named(typed: str, sentence: str, cli: Cli) -> None:
    done = cli(typed, "data=embedded")
    assert (done.code, done.err.count("\n")) == (2, 1)
    assert sentence in done.err


def test_a_tracker_that_cannot_start_is_named_and_the_others_end(
    services: Path, tmp_path: Path
) -> None:
    text = STAND_INS["wandb"].replace("write('init', given)", "raise OSError('no key\\nat all')")
    (tmp_path / "modules" / "wandb.py").write_text(text)
    with pytest.raises(UserError, match=r"log=wandb: it could not be started \(no key\); set"):
        Trackers(Logged(("trackio", "wandb"), tmp_path, "RUN"))
    assert _calls(services, "trackio")[-1] == ["finish"]


def test_a_tracker_that_fails_later_is_left_out_and_the_others_go_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    trackers = Trackers(Logged(("csv", "tensorboard"), tmp_path, "RUN"))
    trackers.steps(ROWS[:1])

    def full(self: CsvTracker, *_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(CsvTracker, "log", full)
    trackers.steps(ROWS[1:])
    trackers.close()
    err = capsys.readouterr().err
    assert err.count("log=csv ends at step 2 ([Errno 28] No space left on device)") == 1
    assert (tmp_path / ".logs" / "RUN" / "train.csv").read_text() == (
        "step,loss,learning_rate\n1,1,0.5\n"
    )
    [events] = (tmp_path / ".logs" / "RUN").glob("events.*")
    assert events.read_bytes().count(b"train/loss") >= 4


def test_a_csv_file_gets_columns_that_come_later(tmp_path: Path) -> None:
    tracker = CsvTracker("RUN", tmp_path)
    tracker.start()
    tracker.log({"train/loss": 0.25, "a/b/c": 1.0}, step=1)
    tracker.log({"train/loss": 0.5, "train/rate": 2.0}, step=2)
    folder = tmp_path / "RUN"
    assert (folder / "train.csv").read_text() == "step,loss,rate\n1,0.25,\n2,0.5,2\n"
    assert (folder / "a.b.csv").read_text() == "step,c\n1,1\n"
    again = CsvTracker("RUN", tmp_path, after=1)
    again.start()
    assert (folder / "train.csv").read_text() == "step,loss,rate\n1,0.25,\n"


def _stands(folder: Path, tag: str) -> list[int]:
    """Return the steps at which TensorBoard shows a value."""
    events = EventAccumulator(str(folder))
    events.Reload()
    return [event.step for event in events.Scalars(tag)]


def test_an_evaluation_at_the_checkpoints_own_step_stands_once(tmp_path: Path) -> None:
    """Killed while it was logged: the checkpoint is of before it, and it is done again."""
    names, folder = ("csv", "tensorboard"), tmp_path / ".logs" / "RUN"
    killed = Trackers(Logged(names, tmp_path, "RUN"))
    killed.steps(ROWS)
    killed.scores(4, {"dev": {"accuracy": 0.5}})
    [cut] = folder.glob("events.*")
    for _ in range(2):  # killed a second time at once
        cut.write_bytes(cut.read_bytes() + b"\x40")  # a record that was begun
        again = Trackers(Logged(names, tmp_path, "RUN", after=4))
        again.scores(4, {"dev": {"accuracy": 0.5}, "test": {"accuracy": 0.25}})
    again.scores(8, {"dev": {"accuracy": 0.75}})
    again.close()
    assert (folder / "dev.csv").read_text() == "step,accuracy\n4,0.5\n8,0.75\n"
    assert (folder / "test.csv").read_text() == "step,accuracy\n4,0.25\n"
    assert _stands(folder, "dev/accuracy") == [4, 8]
    assert _stands(folder, "test/accuracy") == [4]
    assert _stands(folder, "train/loss") == [1, 2, 3, 4]


def test_an_evaluation_that_an_earlier_checkpoint_made_void_is_logged_again(tmp_path: Path) -> None:
    names, folder = ("csv", "tensorboard"), tmp_path / ".logs" / "RUN"
    scores = {"dev": {"accuracy": 0.5}}
    for after in (None, 2, 4):  # the second is killed before it evaluates
        trackers = Trackers(Logged(names, tmp_path, "RUN", after=after))
        trackers.steps(ROWS[after or 0 :])
        if after != 2:
            trackers.scores(4, scores)
        trackers.close()
        time.sleep(1.1)  # the names of event files are of seconds
    assert (folder / "dev.csv").read_text() == "step,accuracy\n4,0.5\n"
    assert _stands(folder, "dev/accuracy") == [4]
    assert _stands(folder, "train/loss") == [1, 2, 3, 4]


@pytest.mark.parametrize("name", ["mlflow", "trackio"])
def test_a_service_alone_is_told_once_too(name: Any, services: Path, tmp_path: Path) -> None:
    for after in (None, 2):
        trackers = Trackers(Logged((name,), tmp_path, "RUN", after=after))
        trackers.steps(ROWS)
        trackers.close()
    calls = _calls(services, name)
    assert [call[0] for call in calls].count("log") == 1
    if name == "mlflow":
        assert [call[1].get("run_id") for call in calls if call[0] == "init"] == [None, "r1"]
