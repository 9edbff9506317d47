"""A browser writes probabilities as Python does, exact halves too."""

from __future__ import annotations

import shutil
import subprocess

import pytest

from tests.conftest import ROOT

NODE = shutil.which("node")


@pytest.mark.skipif(NODE is None, reason="needs node")
def test_a_probability_is_written_as_python_writes_it() -> None:
    """Patterns of flipped signs give p of 1/2, 1/4, ..., whose third digit is often an exact 5."""
    values = [k / 2**n for n in range(1, 18) for k in range(1, min(2**n, 40) + 1)]
    values += [k / 200_001 for k in (*range(1, 100), 199, 33_000, 200_001)]
    values += [0.165, 0.0095, 0.00099, 0.00995, 0.995, 0.0000995, 1.0]
    source = (ROOT / "results/pages/leaderboard/scale.js").read_text()
    script = f"{source}\nfor (const p of {values}) console.log(probabilityText(p));"
    written = subprocess.run([str(NODE), "-e", script], capture_output=True, text=True, check=True)
    assert written.stdout.split() == [f"{p:.2g}" for p in values]
