"""What is printed where no run is asked for."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from methods.registry import registered
from results.places import program
from runners.config.acts import Acts, Sweep, Way
from runners.config.settings import Settings
from runners.root import CONFIGS
from runners.subcommands.help import GROUPS, described
from tests.conftest import Cli

SECTIONS = {"task", "model", "data", "budget", "protocol", "optimizer", "speed", "checkpoint",
            "start", "control"}  # fmt: skip


def test_every_key_of_every_part_is_explained_by_its_schema() -> None:
    lacking = [
        f"{prefix}{key}"
        for _, prefix, part in GROUPS
        for key in part.model_fields
        if key not in described(part) and not (part is Settings and key in SECTIONS)
    ]
    assert lacking == []
    told = {key for _, prefix, part in GROUPS for key in described(part) if not prefix}
    plain = yaml.safe_load((CONFIGS / "config.yaml").read_text()).keys()
    assert plain - {"defaults", "hydra", "method"} - SECTIONS == told
    assert told == {*Settings.model_fields, *Acts.model_fields, *Sweep.model_fields,
                    *Way.model_fields} - SECTIONS  # fmt: skip


def _keys(value: object, prefix: str = "") -> Iterator[str]:
    for key, inner in value.items() if isinstance(value, dict) else ():
        yield f"{prefix}{key}"
        yield from _keys(inner, f"{prefix}{key}.")


def test_help_names_every_key_file_method_and_task(cli: Cli) -> None:
    done = cli("--help")
    assert done.code == 0
    words = set(done.out.split())
    for group in ("data/auto", "budget/default", "protocol/select", "optimizer/adamw"):
        keys = _keys(yaml.safe_load((CONFIGS / f"{group}.yaml").read_text()))
        assert {f"{group.partition('/')[0]}.{key}=" for key in keys} <= words
    assert registered().keys() <= words
    assert {path.stem for path in CONFIGS.glob("task/*.yaml")} <= words
    assert "low1k," in words
    assert max(map(len, done.out.splitlines())) <= 100
    assert cli("method=lora", "-h").out == done.out


def test_nothing_typed_prints_a_short_help_and_trains_nothing(
    cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    done = cli()
    assert done.code == 0
    assert len(done.out.splitlines()) < 15
    assert "python run.py method=bitfit task=sst2" in done.out
    assert "python run.py results --split " in done.out  # without it, unlike records are refused
    assert not list(tmp_path.iterdir())


def test_methods_and_tasks_are_a_line_each(cli: Cli) -> None:
    lines = cli("methods").out.splitlines()
    assert [line.split()[0] for line in lines] == list(registered())
    said = {line.split()[0]: line for line in lines}
    assert "only the bias vectors" in said["bitfit"]
    assert "DoRA: " in said["dora"]  # which shares its module with others
    lines = cli("tasks").out.splitlines()
    assert [line.split()[0] for line in lines] == sorted(p.stem for p in CONFIGS.glob("task/*"))
    assert any(line.startswith("rte ") and "accuracy: RTE, Dagan" in line for line in lines)


@pytest.mark.parametrize(
    ("typed", "said"),
    [
        (["bitfit"], "no command called 'bitfit'; did you mean method=bitfit?"),
        (["resuls"], "no command called 'resuls'; did you mean results?"),
        (["qqqq"], "known: admit, clean, methods, results, tasks; a run is asked for by KEY=VALUE"),
        (["tasks", "rte"], "tasks takes nothing more; got rte"),
        (["clean", "nowhere"], "nowhere: no such folder of records"),
        (["results", "claim"], "claim is no command and no folder of records; did you mean claims"),
        (["results", "~nobody-has/it"], "~nobody-has/it: no such folder of records"),
    ],
)
def test_a_word_that_is_none_is_one_line(typed: list[str], said: str, cli: Cli) -> None:
    done = cli(*typed)
    assert (done.code, done.err.count("\n")) == (2, 1), done.err
    assert said in done.err


def test_results_is_the_other_command_too(cli: Cli) -> None:
    done = cli("results", "claims", "nowhere")
    assert (done.code, "nowhere: no such folder of records" in done.err) == (2, True)


def test_commands_are_shown_as_they_were_typed(monkeypatch: pytest.MonkeyPatch) -> None:
    assert program() == "python run.py"
    monkeypatch.setattr(sys, "argv", ["/usr/bin/tunebench"])
    assert program() == "tunebench"
