"""What the README says works, and the tree keeps to the house rules."""

from __future__ import annotations

import importlib
import re
import shlex
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from results.pages.text import BEGIN, END, render
from results.record import read_all
from results.tables.collect import tables
from runners.config.task import Task
from tests.conftest import ROOT, Cli, committed_records, tiny

README = (ROOT / "README.md").read_text()
_CONSOLE = "\n".join(re.findall(r"```console\n(.*?)```", README, flags=re.DOTALL))
COMMANDS = [line.partition("  #")[0].strip() for line in _CONSOLE.splitlines() if line.strip()]
# Launchers have tests of their own.
RUNS = [c for c in COMMANDS if c.startswith("python run.py") and "launcher" not in c]
INLINE = re.findall(r"`(python run\.py [^`]*task=[^`]*)`", README)


@pytest.mark.parametrize("command", RUNS)
def test_every_run_in_the_readme_runs(
    command: str, cli: Cli, tiny_folder: Callable[[str], Path], tmp_path: Path
) -> None:
    """Each command as it stands, with a tiny model and few steps added."""
    arguments = [
        a for a in shlex.split(command)[2:] if a not in ("data.dir=STS", "data.glue_dir=GLUE")
    ]
    if arguments[0].startswith("embed="):
        small = tiny(tiny_folder("bert"), "method=embedding", "task=sts")
        assert cli(*small, f"out={tmp_path / 'runs'}").code == 0
        [run] = (tmp_path / "runs").glob("*.json")
        (tmp_path / "sentences.txt").write_text("one\ntwo\n")
        arguments = [f"embed={run}", *(a.replace("=", f"={tmp_path}/") for a in arguments[1:])]
        done = cli(*arguments, "device=cpu")
        assert done.code == 0, done.err
        return
    named = {a.split("=")[0] for a in arguments}
    few = ("budget.steps=2", "budget.max_length=48")
    small = [a for a in tiny(tiny_folder("bert"), *few) if a.split("=")[0] not in named]
    if "data=local" in arguments:
        small = [a for a in small if a != "data=embedded"]
        folder = next(a for a in arguments if a.startswith("data.dir=")).removeprefix("data.dir=")
        if not (ROOT / folder).is_dir():
            pytest.skip(f"no data at {folder}")
        arguments = [
            a if not a.startswith("data.dir=") else f"data.dir={ROOT / folder}" for a in arguments
        ]
    done = cli(*arguments, *small)
    assert done.code == 0, done.err
    assert read_all(tmp_path / "runs")


def test_readme_names_commands_that_exist() -> None:
    makefile = (ROOT / "Makefile").read_text()
    targets = [c.split()[1] for c in COMMANDS if c.startswith("make ")]
    assert {"demo", "test"} <= set(targets)
    assert all(re.search(rf"^{t}:", makefile, flags=re.MULTILINE) for t in targets)
    assert RUNS
    assert INLINE


def test_demo_is_the_main_job_and_ci_runs_the_tests() -> None:
    makefile = (ROOT / "Makefile").read_text()
    assert "run.py method=bitfit task=sst2\n" in makefile
    assert "make test" in (ROOT / ".ci" / "run").read_text()


def test_yaml_and_python_examples_of_the_readme_are_valid(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    [example] = re.findall(r"```yaml\n(.*?)```", README, flags=re.DOTALL)
    assert Task.model_validate(yaml.safe_load(example)).labels == ["politics", "sport"]
    [method] = re.findall(r"```python\n(.*?)```", README, flags=re.DOTALL)
    (tmp_path / "norms_example.py").write_text(method)
    monkeypatch.syspath_prepend(str(tmp_path))
    norms = importlib.import_module("norms_example").Norms
    import torch

    from methods.method import Setting

    model = torch.nn.ModuleDict({"norm": torch.nn.LayerNorm(2), "dense": torch.nn.Linear(2, 2)})
    head = frozenset({"dense.bias"})
    norms().prepare(model, Setting(head, torch.Generator(), 2, False, 1, 48))
    trained = {n for n, p in model.named_parameters() if p.requires_grad}
    assert trained == {"norm.weight", "norm.bias", "dense.bias"}


def test_readme_lists_every_choice() -> None:
    for group in ("method", "task", "model", "data", "budget", "protocol"):
        for path in (ROOT / "configs" / group).glob("*.yaml"):
            assert f"`{path.stem}`" in README, f"{group}={path.stem}"


def test_readme_shows_the_table_of_the_registered_methods() -> None:
    from runners.catalogue import BEGIN, END, table

    assert README.split(BEGIN)[1].split(END)[0] == "\n" + table()


def test_readme_shows_the_tables_of_the_committed_records() -> None:
    shown = README.split(BEGIN)[1].split(END)[0]
    assert shown == "\n" + render(tables(committed_records()), "md", differences=False)


def _tracked() -> list[Path]:
    listed = subprocess.run(
        ["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=False
    ).stdout.split()
    return [ROOT / name for name in listed if (ROOT / name).is_file()]


def test_source_files_stay_small() -> None:
    large = [p.name for p in _tracked() if p.suffix == ".py" and p.stat().st_size > 20_000]
    assert large == []


def test_packages_keep_their_direction() -> None:
    for path in (ROOT / "results").rglob("*.py"):
        assert not re.search(
            r"^\s*(from|import) (runners|methods)\b", path.read_text(), re.MULTILINE
        ), path
    for path in (ROOT / "methods").rglob("*.py"):
        assert not re.search(r"^\s*(from|import) runners\b", path.read_text(), re.MULTILINE), path


@pytest.mark.parametrize("path", sorted((ROOT / "configs").rglob("*.yaml")), ids=lambda p: p.stem)
def test_shipped_config_is_named_after_its_file(path: Path) -> None:
    content = yaml.safe_load(path.read_text())
    if path.parent.name in ("task", "model", "budget", "protocol"):
        assert content["name"] == path.stem


def test_constraints_pin_every_dependency() -> None:
    project = (ROOT / "pyproject.toml").read_text()
    names = re.findall(r'^    "([A-Za-z0-9-]+)>=', project, flags=re.MULTILINE)
    pins = (ROOT / "constraints.txt").read_text().lower()
    assert len(names) > 10
    assert all(re.search(rf"^{name.lower()}==", pins, flags=re.MULTILINE) for name in names)
    assert "torch==2.13.0" in pins
