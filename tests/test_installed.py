"""An installed wheel composes, finds a method of another package, and tests it."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tomllib
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import pytest

from tests.conftest import ROOT

COMMAND = "python -m pytest --pyargs runners.contract --method norms"
PROJECT = """
[build-system]
requires = ["setuptools>=77"]
build-backend = "setuptools.build_meta"

[project]
name = "norms-of-mine"
version = "1"

[project.entry-points."tunebench.methods"]
norms = "norms_of_mine:Norms"

[tool.setuptools]
py-modules = ["norms_of_mine"]
"""
# Where everything comes from, and whether the two packages speak of the same classes.
LOOK = """
import methods.method, norms_of_mine, results, runners.config.compose, tunebench
from methods.registry import registered
for thing in (methods, results, runners, tunebench, norms_of_mine):
    print(thing.__file__)
print(runners.config.compose.CONFIGS)
assert tunebench.run.__module__ == "runners.library"
assert registered()["norms"] is norms_of_mine.Norms
assert norms_of_mine.Method is methods.method.Method
assert runners.config.compose.compose(["method=norms"])["method"] == {"norms": {"lr": 1e-3}}
"""


def _can_build() -> bool:
    try:
        return int(version("setuptools").split(".")[0]) >= 77 and bool(version("pip"))
    except PackageNotFoundError:
        return False


def _sources(folder: Path) -> Path:
    """Copy what a wheel is built from, so that nothing is built inside the repository."""
    ignored = shutil.ignore_patterns("__pycache__", "*.json", "*.egg-info")
    for name in ("configs", "methods", "runners"):
        shutil.copytree(ROOT / name, folder / name, ignore=ignored)
    listed = subprocess.run(
        ["git", "ls-files", "results/*.py", "results/papers", "results/pages"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    for name in (*listed.stdout.split(), "tunebench.py", "pyproject.toml", "README.md", "LICENSE"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, folder / name)
    return folder


def _third_party(folder: Path) -> Path:
    """Write a package that holds the README's own example of a method."""
    folder.mkdir()
    [example] = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    (folder / "norms_of_mine.py").write_text(example)
    (folder / "pyproject.toml").write_text(PROJECT)
    return folder


def test_every_folder_that_a_wheel_needs_is_named() -> None:
    named = set(
        tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"]
    )
    code = [p.parent for top in ("methods", "results", "runners")
            for p in (ROOT / top).rglob("__init__.py")]  # fmt: skip
    values = [ROOT / "runners" / p.parent.relative_to(ROOT) for p in ROOT.glob("configs/**/*.yaml")]
    assert named == {".".join(f.relative_to(ROOT).parts) for f in (*code, *values)}


@pytest.mark.slow
@pytest.mark.skipif(not _can_build(), reason="pip or setuptools 77 to build a wheel are missing")
def test_contract_holds_for_an_installed_method_beside_an_installed_wheel(tmp_path: Path) -> None:
    elsewhere, target = tmp_path / "elsewhere", tmp_path / "target"
    elsewhere.mkdir()

    def python(*arguments: str, cwd: Path = elsewhere, packages: Path = target) -> str:
        # The interpreter's own packages stay: what tunebench needs, and an editable copy of it.
        done = subprocess.run(
            [sys.executable, *arguments],
            cwd=cwd,
            env={**os.environ, "PYTHONPATH": str(packages), "OMP_NUM_THREADS": "1"},
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    alone = ("--quiet", "--disable-pip-version-check", "--no-index", "--no-deps")
    sources = [_sources(tmp_path / "tunebench"), _third_party(tmp_path / "norms")]
    wheels = tmp_path / "wheels"
    for source in map(str, sources):
        python("-m", "pip", "wheel", *alone, "--no-build-isolation", "-w", str(wheels), source)
    built = sorted(str(wheel) for wheel in wheels.iterdir())
    assert len(built) == 2
    python("-m", "pip", "install", *alone, "--target", str(target), *built)
    for source in sources:
        shutil.rmtree(source)

    *places, configs = python("-c", LOOK).splitlines()
    assert len(places) == 5
    assert all(Path(place).is_relative_to(target) for place in places)
    assert Path(configs) == target / "runners" / "configs"
    shipped, here = (
        {p.relative_to(folder): p.read_text() for p in folder.rglob("*.yaml")}
        for folder in (Path(configs), ROOT / "configs")
    )
    assert shipped == here
    beside_code = {
        path.relative_to(ROOT): path.read_bytes()
        for room in ("pages", "papers")
        for path in (ROOT / "results" / room).rglob("*.*")
        if path.suffix not in (".py", ".pyc")
    }
    assert {path.suffix for path in beside_code} >= {".css", ".js", ".csv", ".yaml"}
    assert {p: (target / p).read_bytes() for p in beside_code} == beside_code
    tunebench = str(target / "bin" / "tunebench")
    assert "tunebench method=bitfit task=sst2" in python(tunebench)
    smoke = ("data=embedded", "budget=smoke", "budget.steps=1", "data.eval_size=20", "device=cpu")
    python(tunebench, "-m", "method=norms", "task=rte", *smoke)  # its run is a process of its own
    [record] = (elsewhere / "runs").glob("rte.norms.*.json")
    assert '"command": "tunebench ' in record.read_text()
    assert "norms" in python(tunebench, "results")
    shown = python(*COMMAND.split()[1:], "-v", "-p", "no:cacheprovider")
    assert re.search(r"\n=+ 11 passed, 2 skipped", shown), (
        shown
    )  # no strength to switch off, no YAML
    assert COMMAND.replace("norms", "NAME") in (ROOT / "CONTRIBUTING.md").read_text()

    beside = tmp_path / "beside"
    [norms] = [wheel for wheel in built if "norms" in Path(wheel).name]
    python("-m", "pip", "install", *alone, "--target", str(beside), norms)
    *clone, own, configs = python("-c", LOOK, cwd=ROOT, packages=beside).splitlines()
    assert all(Path(place).is_relative_to(ROOT) for place in clone)
    assert Path(own).is_relative_to(beside)
    assert Path(configs) == ROOT / "configs"
