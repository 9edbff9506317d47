"""Runs run.py's main, or a function, in a process forked from one that has imported it all."""

from __future__ import annotations

import multiprocessing
import os
import sys
from collections.abc import Callable, Sequence
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

from runners.machine import warm

_CONTEXT = multiprocessing.get_context("forkserver")
_CONTEXT.set_forkserver_preload(["tests.preloaded"])


def start(arguments: Sequence[str], log: Path) -> warm.Process:
    """Start a run in a process of its own; what it prints is added to `log`."""
    with log.open("ab") as stream:
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        return warm.start(arguments, environment, stream.fileno())


def _do(environment: dict[str, str], log: str, act: Callable[..., object], given: Any) -> None:
    os.environ.update(environment)
    stream = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(stream, 1)
    os.dup2(stream, 2)
    act(*given)
    sys.stdout.flush()
    sys.stderr.flush()


def call(log: Path, act: Callable[..., object], *given: object) -> BaseProcess:
    """Call a module's function in a process of its own; what it prints is added to `log`."""
    kept = ("TUNEBENCH_CACHE", "HF_HUB_OFFLINE", "TMPDIR")
    environment = {k: os.environ[k] for k in kept if k in os.environ} | {"OMP_NUM_THREADS": "1"}
    process = _CONTEXT.Process(target=_do, args=(environment, str(log), act, given))
    process.start()
    return process
