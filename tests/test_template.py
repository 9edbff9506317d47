"""The template of a package with a method, in docs/methods.md: installed, its own test passes."""

from __future__ import annotations

import os
import subprocess
import sys
import tomllib
from pathlib import Path

from tests.conftest import ROOT


def _files() -> dict[str, str]:
    """Return the files of the template by their names, which stand in their first lines."""
    page = (ROOT / "docs" / "methods.md").read_text()
    part = page.split("### In a package of its own\n")[1]
    blocks = [block.split("\n", 1)[1] for block in part.split("```")[1::2]]
    named = [block for block in blocks if block.startswith("# ")]
    return {block.splitlines()[0].removeprefix("# "): block for block in named}


def test_the_templates_own_test_passes_where_it_is_installed(tmp_path: Path) -> None:
    """What pip leaves of a package is laid out by hand: its modules, name and entry points."""
    files = _files()
    assert list(files) == ["pyproject.toml", "clip_value.py", "test_clip_value.py"]
    assert sum(len(text.splitlines()) for text in files.values()) < 40
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    project = tomllib.loads(files["pyproject.toml"])["project"]
    info = tmp_path / "clip_value-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Name: {project['name']}\nVersion: {project['version']}\n")
    points = project["entry-points"]["tunebench.methods"]
    lines = [f"{name} = {value}" for name, value in points.items()]
    (info / "entry_points.txt").write_text("\n".join(["[tunebench.methods]", *lines, ""]))
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "test_clip_value.py"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": f"{tmp_path}{os.pathsep}{ROOT}"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "1 passed" in done.stdout
