"""What is done with a result is no setting of a run, and one list says which keys are not."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from results.errors import UserError
from results.record import read_all
from runners.config.acts import NOT_THE_RUNS, USED, Acts, Sweep, refuse_unused
from runners.config.settings import Settings
from runners.config.spelling import spelled_out
from runners.root import CONFIGS
from tests.conftest import SMALL, Cli, tiny


def test_every_key_of_the_command_is_a_runs_or_in_the_one_list() -> None:
    config = yaml.safe_load((CONFIGS / "config.yaml").read_text())
    groups = {name for entry in config.pop("defaults") if isinstance(entry, dict) for name in entry}
    keys = set(config) | groups
    assert keys - set(Settings.model_fields) == set(NOT_THE_RUNS)
    assert not set(Settings.model_fields) & set(NOT_THE_RUNS)


def test_a_record_holds_no_key_that_says_how_or_where(
    cli: Cli, tiny_folder: Callable[[str], Path], tmp_path: Path
) -> None:
    assert cli(*tiny(tiny_folder("bert"), "task=rte", "save=delta", "threads=1")).code == 0
    [record] = read_all(tmp_path / "runs")
    elsewhere = {"out", "force", "save", "push", "log", "threads", "checkpoint", *NOT_THE_RUNS}
    elsewhere -= {"method"}
    assert not set(record.config) & elsewhere
    given = {*record.config, *elsewhere, "start", "control"}  # these are there where one is typed
    assert given == set(Settings.model_fields) | set(NOT_THE_RUNS)


@pytest.mark.parametrize(
    ("typed", "spelled"),
    [
        ("submission=a,b", "submission=[a,b]"),
        ("submission='a,b'", "submission=[a,b]"),
        ("submission='~/a','~/b'", "submission=['~/a','~/b']"),
        ("submission=[a,b]", "submission=[a,b]"),
        ("submission=a", "submission=a"),
        ("task=a,b", "task=a,b"),
    ],
)
def test_runs_that_commas_separate_are_one_list(typed: str, spelled: str) -> None:
    assert spelled_out([typed]) == [spelled]


@pytest.mark.parametrize("second", ["verify=RUN", "embed=RUN", "predict=RUN", "submission=A,B"])
def test_two_acts_at_once_are_refused(second: str, cli: Cli) -> None:
    done = cli("eval=RUN", second)
    assert done.code == 2
    assert done.err == (
        f"error: eval= and {second.partition('=')[0]}= are two acts; give a command one of them\n"
    )


def test_an_act_of_the_wrong_kind_is_named(cli: Cli) -> None:
    done = cli("verify=[a,b]")
    assert done.code == 2
    assert "verify=['a', 'b'] (must be text)" in done.err


@pytest.mark.parametrize("act", USED)
def test_an_act_refuses_every_key_that_it_does_not_read(act: str, cli: Cli) -> None:
    """eval=D lr=5 with other data of the task printed the stored run's score of the old data."""
    read = {"eval": {"data"}, "export": {"push"}, "verify": {"checkpoint"}, "predict": {"task"}}
    read |= {"submission": {"data"}}
    refused = {*Settings.model_fields} - {"out", "device", "threads"} - read.get(act, set())
    refused |= {"method", "method.full.lr", "plan", "task.local.report.validation"}
    refused |= {"budget.epochs", "model.revision", "speed.onednn", "data.train_size", "data.text"}
    refused -= {"data.text"} if act == "verify" else set()
    for key in refused:
        with pytest.raises(UserError, match=rf"^{re.escape(key)}= would change nothing: {act}="):
            refuse_unused(Acts(**{act: "RUN"}), {}, [f"{act}=RUN", f"+{key}=x"])
    done = cli(f"{act}=RUN", "lr=5", "task.local.report.validation=new.csv")
    assert done.code == 2
    assert done.err.startswith("error: lr=, task.local.report.validation= would change nothing")


@pytest.mark.parametrize(
    ("act", "keys"),
    [
        ("eval", ["data", "data.dir", "data.eval_size", "model.name_or_path", "device", "threads"]),
        ("verify", ["out", "data.dir", "data.glue_dir", "checkpoint.steps", "device", "threads"]),
        ("export", ["out", "push", "threads", "model.name_or_path"]),
        ("embed", ["text", "out", "model.name_or_path", "device", "threads"]),
        ("predict", ["text", "out", "model.name_or_path", "device", "threads", "task"]),
        ("submission", ["out", "data", "data.dir", "data.revision", "data.eval_size", "device"]),
    ],
)
def test_an_act_takes_the_keys_that_it_reads(act: str, keys: list[str]) -> None:
    refuse_unused(Acts(**{act: "RUN"}), {}, [f"{act}=RUN", *(f"{key}=x" for key in keys)])


@pytest.mark.parametrize("key", [*Sweep.model_fields, "text"])
def test_a_run_refuses_the_keys_of_boards_and_acts(key: str, cli: Cli, tmp_path: Path) -> None:
    value = {"workers": "2", "retry": "failed", "list": "x", "text": "x"}.get(key, "true")
    done = cli("task=rte", f"{key}={value}")
    assert done.code == 2
    assert re.match(
        rf"error: {key}= (would change nothing: it )?goes with (board|embed)=", done.err
    )
    assert not (tmp_path / "runs").exists()


def test_a_board_is_no_place_for_another_act(cli: Cli) -> None:
    done = cli("board=smoke", "eval=DELTA")
    assert (done.code, done.err) == (
        2,
        "error: board= and eval= are two acts; give a command one of them\n",
    )


def test_an_act_reads_composed_values_not_the_typed_text(
    cli: Cli, tiny_folder: Callable[[str], Path], tmp_path: Path
) -> None:
    """Quotes and interpolations were taken for parts of the path."""
    assert cli(*tiny(tiny_folder("bert"), "task=rte", "method=bitfit", "save=delta")).code == 0
    [delta] = (tmp_path / "runs").glob("*.delta")
    moved = tmp_path / "a folder, moved"
    shutil.copytree(tiny_folder("bert"), moved)
    drawn = [a for a in SMALL if a.startswith("data") and "train_size" not in a]
    here = f"data.revision={tmp_path}"  # which embedded data has no use for
    for path, more in (
        (f"'{moved}'", []),
        ("'${data.revision}/a folder, moved'", [*drawn, here]),
    ):
        done = cli(f"eval={delta}", f"model.name_or_path={path}", "device=cpu", *more)
        assert done.code == 0, done.err
        assert "predictions equal the record's" in done.out
    done = cli(f"eval={delta}", f"model.name_or_path='{moved}-not'")
    assert f"{moved}-not: no such folder" in done.err
