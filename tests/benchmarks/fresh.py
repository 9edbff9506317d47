"""Python in a fresh process, for what is to be timed from its start."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping, Sequence

from runners.root import ROOT


def process(
    arguments: Sequence[str],
    seconds: float | None = None,
    environment: Mapping[str, str] | None = None,
) -> str:
    """Run Python with these arguments; return what it printed, or raise with its last lines.

    `environment` is set besides that of this process.
    """
    done = subprocess.run(
        [sys.executable, *arguments],
        cwd=ROOT,
        env={**os.environ, "HF_HUB_OFFLINE": "1", **(environment or {})},
        capture_output=True,
        text=True,
        check=False,
        timeout=seconds,
    )
    if done.returncode:
        raise RuntimeError(f"exit code {done.returncode}: {done.stderr.strip()[-600:]}")
    return done.stdout
