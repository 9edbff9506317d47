"""Runs run.py's main, or a function, in a process forked from one that has imported it all.

It is the warm process of all tests: fixture `forked_runs`. Without it `start` has a fresh one.
"""

from __future__ import annotations

import base64
import os
import pickle
from collections.abc import Callable, Sequence
from pathlib import Path

from runners.machine import warm
from tests.warm import CALL


def start(arguments: Sequence[str], log: Path) -> warm.Process:
    """Start a run in a process of its own; what it prints is added to `log`."""
    with log.open("ab") as stream:
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        return warm.start(arguments, environment, stream.fileno())


def call(log: Path, act: Callable[..., object], *given: object) -> warm.Process:
    """Call a module's function in a process of its own; what it prints is added to `log`."""
    assert warm.WARM in os.environ, "forked_runs"
    return start([CALL, base64.b64encode(pickle.dumps((act, given))).decode()], log)
