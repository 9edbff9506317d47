"""What is refused where it is typed, and still read where an old record or delta says it."""

from __future__ import annotations

import copy
import re
from pathlib import Path

import pytest
import yaml

from results.errors import UserError
from runners.config.check import from_record
from runners.config.compose import CONFIGS, Composer, compose, composing
from runners.config.typed import ONE_OF
from runners.contract.parts import composed, configure
from tests.conftest import Cli

PLACES = [
    *(
        f"task.{source}.{where}"
        for source in ("local", "hub")
        for where in ("report", "where_present")
    ),
    *("task.diagnostics", "task.pairs"),
]


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("name", ["train", "selection"])
def test_a_split_called_as_one_of_the_runs_own_is_refused(place: str, name: str) -> None:
    """It took the place of the training split, which then was dev."""
    task, method = ("sts", "embedding") if place == "task.pairs" else ("mnli", "full")
    value = {"task.diagnostics": "[accuracy]", "task.pairs": "{file: a.tsv}"}.get(
        place, "MNLI/a.tsv"
    )
    given = [f"task={task}", f"method={method}", f"+{place}.{name}={value}"]
    with pytest.raises(UserError, match=rf"{re.escape(place)}\.{name}: a run calls a split"):
        configure(*given)
    stored = copy.deepcopy(composed(tuple(given)))
    from_record(stored)  # what was run is taken as it is


@pytest.mark.parametrize("source", ["local", "hub"])
def test_two_report_splits_of_one_name_are_refused(source: str) -> None:
    with pytest.raises(UserError, match=rf"task\.{source}\.where_present\.validation_matched: "):
        configure("task=mnli", f"+task.{source}.where_present.validation_matched=other.tsv")


def test_shipped_tasks_have_no_such_split() -> None:
    for task in ("cola", "mnli", "mrpc", "qnli", "qqp", "rte", "sst2", "stsb", "wnli"):
        configure(f"task={task}")
    configure("task=sts", "method=simcse", "protocol=select")


def test_every_group_of_one_is_known() -> None:
    """By the shipped defaults: what is no list there is one of its kind."""
    defaults = yaml.safe_load((CONFIGS / "config.yaml").read_text())["defaults"]
    groups = [(*entry.items(),) for entry in defaults if isinstance(entry, dict)]
    assert {group for ((group, chosen),) in groups if not isinstance(chosen, list)} == {*ONE_OF}


@pytest.mark.parametrize("group", ONE_OF)
def test_several_files_of_a_group_are_refused(group: str, cli: Cli, tmp_path: Path) -> None:
    """They were laid over each other: the last one's name, with what the first alone says."""
    names = sorted(p.stem for p in (CONFIGS / group).glob("*.yaml"))[:2]
    several = f"{group}=[{','.join(names)}]"
    done = cli(several)
    said = (
        f"{several} names 2, and a run has one {group}; a run of each: -m {group}={','.join(names)}"
    )
    assert (done.code, done.err) == (2, f"error: {said}\n")
    assert not (tmp_path / "runs").exists()
    with pytest.raises(UserError, match="names 2, and a run has one"):
        compose([several])
    with composing(), pytest.raises(UserError, match="names 2, and a run has one"):
        Composer()([several, "seed=1"])  # as a board composes its rows
    with pytest.raises(UserError, match=rf"names 0, .* type {group}=NAME"):
        compose([f"{group}=[]"])


def test_a_list_of_one_and_lists_of_methods_are_as_before() -> None:
    assert compose(["task=[rte]", "method=[hype,bitfit]"]) == compose(
        ["task=rte", "method=[hype,bitfit]"]
    )


def test_a_job_of_a_sweep_may_not_name_several_either(cli: Cli, tmp_path: Path) -> None:
    done = cli("-m", "task=[rte,mrpc],cola", "data=embedded", "own_process=false", "lr=-1")
    assert done.code == 2
    assert "task=[rte,mrpc] names 2, and a run has one task" in done.err
