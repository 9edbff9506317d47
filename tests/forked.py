"""Runs run.py's main, or a function, in processes forked from one that has imported it all."""

from __future__ import annotations

import multiprocessing
import os
import sys
from collections.abc import Callable
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

_CONTEXT = multiprocessing.get_context("forkserver")
_CONTEXT.set_forkserver_preload(["tests.warm"])


def _do(environment: dict[str, str], log: str, act: Callable[..., object], given: Any) -> None:
    os.environ.update({k: v for k, v in environment.items() if k != "TUNEBENCH_ENDS_WITH"})
    stream = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(stream, 1)
    os.dup2(stream, 2)
    act(*given)
    sys.stdout.flush()
    sys.stderr.flush()


def _main(*arguments: str) -> None:
    sys.argv = ["run.py", *arguments]
    from runners.command import main

    code = main()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def call(log: Path, act: Callable[..., object], *given: object) -> BaseProcess:
    """Call a module's function in a process of its own; what it prints is added to `log`."""
    kept = ("TUNEBENCH_CACHE", "HF_HUB_OFFLINE", "TMPDIR")
    environment = {k: os.environ[k] for k in kept if k in os.environ}
    environment |= {"OMP_NUM_THREADS": "1"}
    process = _CONTEXT.Process(target=_do, args=(environment, str(log), act, given))
    process.start()
    return process


class Popen:
    """Stands for subprocess.Popen where a run is started: run.py's main, in a forked process."""

    def __init__(self, command: list[str], *, stdout: Any, env: dict[str, str], **_: Any) -> None:
        given = (env, stdout.name, _main, command[2:])  # after the interpreter and run.py
        self._process = _CONTEXT.Process(target=_do, args=given)
        self._process.start()

    def wait(self) -> int:
        self._process.join()
        assert self._process.exitcode is not None
        return self._process.exitcode

    def terminate(self) -> None:
        self._process.terminate()


def start(arguments: list[str], log: Path) -> BaseProcess:
    """Start a run in a process of its own; what it prints is added to `log`."""
    return call(log, _main, *arguments)
