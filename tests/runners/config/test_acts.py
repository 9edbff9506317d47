"""What is done with a result is no setting of a run, and one list says which keys are not."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from results.record import read_all
from runners.config.acts import NOT_THE_RUNS
from runners.config.compose import CONFIGS
from runners.config.settings import Settings
from tests.conftest import Cli, tiny


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
    elsewhere = {"out", "force", "save", "threads", "checkpoint", *NOT_THE_RUNS} - {"method"}
    assert not set(record.config) & elsewhere
    assert set(record.config) | elsewhere == set(Settings.model_fields) | set(NOT_THE_RUNS)


@pytest.mark.parametrize("second", ["verify=RUN", "embed=RUN"])
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
