"""Processes that do one run each, and end when the process that wanted it has died."""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from typing import Any

from hydra.core.hydra_config import HydraConfig
from omegaconf import OmegaConf

from runners.root import ROOT


def run_command() -> list[str]:
    """Return what starts a process that does a run: run.py, or the installed package.

    The latter does not look for packages in the current folder.
    """
    script = ROOT / "run.py"
    if script.is_file():
        return [sys.executable, str(script)]
    return [sys.executable, "-P", "-m", "runners"]


_PARENT = "TUNEBENCH_ENDS_WITH"


_INTERRUPTIONS = (signal.SIGINT, signal.SIGTERM)


_PR_SET_PDEATHSIG = 1  # linux/prctl.h


def worst(codes: Sequence[int]) -> int:
    """Return the exit code that says most of several runs' codes; 0 where there is none.

    A run that was killed by a signal counts as 128 plus its number, as in a shell. That another
    process does a run (3) says less than that one failed (1) or could not be asked for (2).
    """
    plain = [128 - code if code < 0 else code for code in codes]
    return max(plain, key=lambda code: {0: 0, 3: 1, 1: 2, 2: 3}.get(code, code + 4), default=0)


def run_alone(arguments: Sequence[str]) -> int:
    """Do what the arguments ask for in a fresh process and return its exit code.

    The process is terminated when the one that waits for it dies, so that a sweep that is killed
    leaves nothing behind but checkpoints.
    """
    environment = {**os.environ, **ending_with_this_process()}
    process = subprocess.Popen([*run_command(), *arguments], env=environment)
    try:
        return worst([process.wait()])
    except BaseException:
        process.terminate()
        process.wait()
        raise


@contextlib.contextmanager
def uninterrupted() -> Iterator[None]:
    """Let SIGINT and SIGTERM wait for a block's end; threads but the main one never get them."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    waiting: list[int] = []
    usual = {n: signal.signal(n, lambda n, _: waiting.append(n)) for n in _INTERRUPTIONS}
    try:
        yield
    finally:
        for number, handler in usual.items():
            signal.signal(number, handler)
        for late in waiting:
            signal.raise_signal(late)


def ending_with_this_process() -> dict[str, str]:
    """Return what a process that is started finds in its environment, to end when this one dies."""
    return {_PARENT: str(os.getpid())}


def as_typed() -> list[str]:
    """Return the arguments that set keys, inside a Hydra application, letter for letter.

    Hydra keeps them where ${…} would be replaced by what it stands for.
    """
    typed = OmegaConf.to_container(HydraConfig.get().overrides.task, resolve=False)
    assert isinstance(typed, list)
    return [str(argument) for argument in typed]


def config_dir() -> list[str]:
    """Return what says again where configurations beside the shipped ones come from.

    There is something to say inside a Hydra application that was given --config-dir.
    """
    if not HydraConfig.initialized():
        return []
    sources: Any = OmegaConf.to_container(HydraConfig.get().runtime.config_sources, resolve=False)
    return [
        part
        for source in sources
        if source["provider"] == "command-line"
        for part in ("--config-dir", str(source["path"]))
    ]


def end_with_parent() -> None:
    """Ask for the end of this process with its parent's, where the parent wants that (Linux)."""
    parent = os.environ.pop(_PARENT, None)
    if parent is None or sys.platform != "linux":
        return
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != int(parent):  # it died before it could be watched
        sys.exit(143)
