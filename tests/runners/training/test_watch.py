"""What `log=` names gets each step once, whatever becomes of the run, and changes no bit."""

from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from results.record import read_all
from runners.contract.parts import configure, prepared
from runners.training import course
from tests.conftest import Cli, tiny
from tests.runners.training.test_checkpoint import Killed, outcome

Folder = Callable[[str], Path]
STEPS = ("task=rte", "budget.steps=24", "budget.evaluate=12", "optimizer=adamw")


def _read(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as stream:
        return list(csv.DictReader(stream))


def _columns(folder: Path, name: str) -> dict[int, list[str]]:
    """Return what a file says of each step, but for the tokens a second."""
    rows = _read(folder / name)
    assert [int(row["step"]) for row in rows] == sorted({int(row["step"]) for row in rows})
    return {
        int(row["step"]): [v for k, v in row.items() if k not in ("step", "tokens_per_second")]
        for row in rows
    }


def _events(folder: Path) -> dict[str, dict[int, float]]:
    events = EventAccumulator(str(folder)).Reload()
    logged = {}
    for tag in events.Tags()["scalars"]:
        points = events.Scalars(tag)
        assert len({p.step for p in points}) == len(points), tag
        logged[tag] = {p.step: p.value for p in points}
    return logged


def test_a_killed_run_logs_each_step_once_and_is_the_run_that_logs_nothing(
    cli: Cli, tiny_folder: Folder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given, both = tiny(tiny_folder("bert"), *STEPS), "log=[csv,tensorboard]"
    plain, whole, cut = (tmp_path / name for name in ("plain", "whole", "cut"))
    assert cli(*given, f"out={plain}").code == 0
    assert cli(*given, both, f"out={whole}").code == 0
    every = course.Saving.__call__

    def call(self: course.Saving) -> None:
        every(self)
        if self.course.loop.step == 22:  # steps to 20 are logged, the last checkpoint is of 15
            raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(course.Saving, "__call__", call)
        with pytest.raises(Killed):
            cli(*given, both, "checkpoint.steps=15", f"out={cut}")
    [folder] = (cut / ".logs").iterdir()
    assert len(_read(folder / "train.csv")) == 20
    with (folder / "train.csv").open("a") as stream:
        stream.write("21,0.")  # cut in half
    assert cli(*given, both, f"out={cut}").code == 0
    [run], [logged], [again] = (read_all(out) for out in (plain, whole, cut))
    assert outcome(run) == outcome(logged) == outcome(again)
    assert run.run == logged.run
    assert "log" not in logged.config
    assert not (plain / ".logs").exists()
    assert again.resumed == [15]
    for name, steps in (("train.csv", [*range(1, 25)]), ("validation.csv", [12, 24])):
        rows = _columns(whole / ".logs" / run.run, name)
        assert list(rows) == steps
        assert rows == _columns(folder, name)
    rows = _columns(folder, "train.csv")
    assert [rows[step][0] for step in rows] == [f"{loss:.9g}" for loss in run.losses]
    events, others = _events(whole / ".logs" / run.run), _events(folder)
    assert events.keys() == others.keys()
    for tag in events.keys() - {"train/tokens_per_second"}:
        assert events[tag] == others[tag], tag
    assert list(events["train/loss"].values()) == pytest.approx(run.losses)
    scores = {e["step"]: e["scores"]["validation"]["accuracy"] for e in run.evaluations}
    assert events["validation/accuracy"] == pytest.approx(scores)
    assert min(events["train/tokens_per_second"].values()) > 0


def test_logged_norms_and_rates_are_those_of_the_steps(
    cli: Cli, tiny_folder: Folder, tmp_path: Path
) -> None:
    """Beside a loop of plain torch, whose gradient norms are computed one by one."""
    given = tiny(tiny_folder("bert"), *STEPS, "budget.max_grad_norm=0.5")
    assert cli(*given, "log=csv").code == 0
    [folder] = (tmp_path / "runs" / ".logs").iterdir()
    loop, _ = prepared(configure(*given, "log=null"))
    norms: list[float] = []
    rates: list[float] = []
    clip = torch.nn.utils.clip_grad_norm_

    def by_hand() -> torch.Tensor:
        trained = [p for p in loop.model.parameters() if p.grad is not None]
        norms.append(sum(float(p.grad.double().square().sum()) for p in trained) ** 0.5)
        rates.append(loop.optimizer.param_groups[0]["lr"])
        return clip(trained, 0.5)

    loop._clip = by_hand  # type: ignore[method-assign]
    loop.run(24)
    rows = _read(folder / "train.csv")
    assert [float(row["gradient_norm"]) for row in rows] == pytest.approx(norms, rel=1e-4)
    assert [float(row["learning_rate"]) for row in rows] == pytest.approx(rates)
    assert max(norms) > 0.5


def test_a_run_begun_anew_is_logged_anew(cli: Cli, tiny_folder: Folder, tmp_path: Path) -> None:
    given = tiny(tiny_folder("bert"), "task=rte", "budget.steps=3", "log=csv")
    for more in ((), ("force=true",)):
        done = cli(*given, *more)
        assert done.code == 0, done.err
        [folder] = (tmp_path / "runs" / ".logs").iterdir()
        assert [row["step"] for row in _read(folder / "train.csv")] == ["1", "2", "3"]
    assert len(read_all(tmp_path / "runs")) == 1


def test_a_loop_that_nobody_watches_keeps_no_trace(tiny_folder: Folder) -> None:
    loop, _ = prepared(configure(*tiny(tiny_folder("bert"), "task=rte")))
    loop.run(2)
    assert loop.trace is None


def test_scores_of_a_run_that_trains_nothing_are_logged(
    cli: Cli, tiny_folder: Folder, tmp_path: Path
) -> None:
    done = cli(*tiny(tiny_folder("bert"), "task=sts", "method=embedding", "log=csv"))
    assert done.code == 0, done.err
    [record] = read_all(tmp_path / "runs")
    [folder] = (tmp_path / "runs" / ".logs").iterdir()
    assert sorted(path.stem for path in folder.iterdir()) == sorted(record.scores)
    for split, scores in record.scores.items():
        [row] = _read(folder / f"{split}.csv")
        assert row == {"step": "0", **{name: f"{value:.9g}" for name, value in scores.items()}}
