"""A task's own file may put stages before it, on the command line and on a board."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from results.record import read_all
from tests.conftest import Cli
from tests.runners.boards.test_board import WORKERS, Folder, small
from tests.runners.boards.test_chain import started  # noqa: F401

SMALL = ("data=embedded", "budget=smoke", "data.train_size=32", "data.eval_size=20")
ROW = "{}\t{}\t{}\n"


def _write(folder: Path, name: str, stages: str, data: Path | None = None) -> None:
    """Write a task of two texts and two labels, with stages, whose files lie in `data`."""
    (folder / "task").mkdir(parents=True, exist_ok=True)
    files = f"{{train: {data}/train.tsv, report: {{validation: {data}/train.tsv}}}}"
    (folder / "task" / f"{name}.yaml").write_text(
        f"name: {name}\ntext: [a, b]\nlabels: ['no', 'yes']\nmetrics: [accuracy]\n"
        f"local: {files}\nstages: {stages}\n"
    )


@pytest.fixture
def lines(tmp_path: Path) -> Path:
    """Return a folder with a file of forty labelled pairs."""
    folder = tmp_path / "data"
    folder.mkdir()
    rows = [ROW.format(f"a word {i}", f"a thing {i % 7}", ("no", "yes")[i % 2]) for i in range(40)]
    (folder / "train.tsv").write_text(ROW.format("a", "b", "label") + "".join(rows))
    return folder


def _tasks(plan: str) -> list[str]:
    return [a for line in plan.splitlines() for a in line.split() if a.startswith("task=")]


def test_its_stages_come_first_each_with_its_own_settings(
    cli: Cli,
    tiny_folder: Folder,
    tmp_path: Path,
    lines: Path,
    started: list[list[str]],  # noqa: F811
) -> None:
    own = tmp_path / "own"
    _write(own, "first", "[]", lines)
    _write(own, "second", "[first]", lines)
    _write(own, "third", "[{task: second, set: [budget.steps=2]}]", lines)
    given = ["--config-dir", str(own), "task=third", "budget=smoke", "device=cpu", "threads=1",
             f"model.name_or_path={tiny_folder('bert')}"]  # fmt: skip
    assert _tasks(cli(*given, "plan=true").out) == ["task=first", "task=second", "task=third"]
    done = cli(*given)
    assert done.code == 0, done.err
    records = {r.task: r for r in read_all(tmp_path / "runs")}
    chain = records["third"].weights["start"]["chain"]
    assert [stage["task"] for stage in chain] == ["first", "second"]
    assert (records["second"].steps, records["third"].steps) == (2, 4)
    assert len(started) == 3
    assert "stages" not in records["third"].config["task"]
    [alone] = cli(*given, "plan=true", "control=updates").out.splitlines()
    assert "budget.steps=8" in alone  # two and two, and its own four
    shutil.rmtree(tmp_path / "runs")
    plain = cli(*given, "task.stages=[]")
    assert plain.code == 0, plain.err
    assert [r.task for r in read_all(tmp_path / "runs")] == ["third"]


def test_a_board_puts_them_before_the_tasks_runs(
    cli: Cli, tiny_folder: Folder, tmp_path: Path, lines: Path
) -> None:
    own = tmp_path / "own"
    _write(own, "second", "[rte]", lines)
    given = [*small(tiny_folder("bert")), "board.seeds=[1]", "board.tasks=[second]"]
    given += ["board.methods=[full]", "board.set=['budget=smoke']", f"data.dir={_rte(tmp_path)}"]
    done = cli("--config-dir", str(own), *given, *WORKERS)
    assert done.code == 0, done.err
    assert sorted(r.task for r in read_all(tmp_path / "runs")) == ["rte", "second"]


def _rte(tmp_path: Path) -> Path:
    folder = tmp_path / "glue" / "RTE"
    folder.mkdir(parents=True)
    rows = [f"{i}\tA cat is {i}.\tIt is {i % 5}.\t{('not_', '')[i % 2]}entailment\n"
            for i in range(40)]  # fmt: skip
    for name in ("train", "dev"):
        (folder / f"{name}.tsv").write_text("index\tsentence1\tsentence2\tlabel\n" + "".join(rows))
    return folder.parent


@pytest.mark.parametrize(
    ("stages", "said"),
    [
        ("[looped]", "its stages come back to it: looped → looped"),
        ("[nothing]", "nothing"),
        ("[sts]", "compares vectors"),
        ("rte", "stages"),
    ],
)
def test_wrong_stages_of_a_task_are_one_line(
    stages: str, said: str, cli: Cli, tmp_path: Path, lines: Path
) -> None:
    _write(tmp_path / "own", "looped", stages, lines)
    done = cli("--config-dir", str(tmp_path / "own"), "task=looped")
    assert (done.code, done.err.count("\n")) == (2, 1), done.err
    assert said in done.err
    assert not (tmp_path / "runs").exists()


def test_no_stage_is_begun_where_a_later_ones_data_are_wrong(
    cli: Cli,
    tmp_path: Path,
    started: list[list[str]],  # noqa: F811
) -> None:
    given = ["stages=[rte,mrpc]", "data=local", f"data.dir={_rte(tmp_path)}"]
    done = cli(*given)
    assert done.code == 2
    assert done.err.splitlines()[-1].startswith("error: task=mrpc")
    assert "MRPC/train.tsv is missing" in done.err
    assert not started
