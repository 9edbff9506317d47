"""The tree keeps to the house rules."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest
import yaml

from tests.conftest import ROOT


def _tracked() -> list[Path]:
    listed = subprocess.run(
        ["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=False
    ).stdout.split()
    return [ROOT / name for name in listed if (ROOT / name).is_file()]


def test_source_files_stay_small() -> None:
    large = [p.name for p in _tracked() if p.suffix == ".py" and p.stat().st_size > 20_000]
    assert large == []


def test_no_tracked_file_is_empty() -> None:
    """Such as the log of a command, written where it was called."""
    empty = [p for p in _tracked() if p.stat().st_size == 0 and p.name != "__init__.py"]
    assert empty == []


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
