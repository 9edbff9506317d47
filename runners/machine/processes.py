"""Processes that do one run each, and end when the process that wanted it has died."""

from __future__ import annotations

import contextlib
import ctypes
import os
import shlex
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NoReturn, TypeVar

from hydra.core.hydra_config import HydraConfig
from omegaconf import OmegaConf

from results.places import program
from runners.machine.console import say
from runners.machine.warm import PARENT, Process, start

T = TypeVar("T")
_spoken_for: list[str] = []  # holds something while another process or block tells of signals


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
    """Do what the arguments ask for in a process of its own and return its exit code.

    The process is terminated when the one that waits for it dies, so that a sweep that is killed
    leaves nothing behind but checkpoints. Ctrl-C reaches the one that waits only, which hands it on
    once.
    """
    process = start(arguments, os.environ)
    try:
        return worst([process.wait()])
    except BaseException:
        end([process])
        raise


def end(processes: Sequence[Process]) -> None:
    """Terminate processes and wait until they have ended.

    They may save what they did first. A signal meanwhile terminates them again, which is at once.
    """
    while True:
        for process in processes:
            process.terminate()
        try:
            for process in processes:
                process.wait()
            return
        except (KeyboardInterrupt, SystemExit):
            continue


class Stopped(BaseException):
    """A block was stopped by the signal `number`."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number

    def end(self, line: str) -> NoReturn:
        """End as the signal does elsewhere, and say `line` where nobody else speaks for the run."""
        if self.number == signal.SIGINT:
            raise KeyboardInterrupt(line)
        if not is_spoken_for():
            say(line)
        sys.exit(128 + self.number)


class Stop:
    """The first SIGINT or SIGTERM of a block waits until the block looks for it."""

    def __init__(self) -> None:
        self.number: int | None = None
        self._now = False

    def look(self) -> None:
        """Raise Stopped where a signal came."""
        number, self.number = self.number, None
        if number is not None:
            raise Stopped(number)

    def at_once(self, act: Callable[[], T]) -> T:
        """Return what `act` does; a signal raises Stopped at any moment of it.

        What it changes may then be half changed: all that is kept is to follow from what it
        returns.
        """
        try:
            self._now = True
            self.look()
            return act()
        finally:
            self._now = False

    def hear(self, number: int) -> None:
        """Note a signal."""
        self.number = number
        if self._now:
            self.look()


@contextlib.contextmanager
def stoppable(wanted: bool = True) -> Iterator[Stop]:
    """Yield what hears the first signal of a block; a second one acts as it does elsewhere.

    Where that is not `wanted`, and in threads but the main one, no signal is heard.
    """
    stop = Stop()
    if not wanted or threading.current_thread() is not threading.main_thread():
        yield stop
        return
    usual = {n: signal.getsignal(n) for n in _INTERRUPTIONS}
    usual = {n: handler for n, handler in usual.items() if callable(handler)}  # not where ignored

    def hear(number: int, _: object) -> None:
        for n, handler in usual.items():
            signal.signal(n, handler)
        stop.hear(number)

    for number in usual:
        signal.signal(number, hear)
    try:
        yield stop
    finally:
        for number, handler in usual.items():
            signal.signal(number, handler)
        if stop.number is not None:  # it came after the last look
            signal.raise_signal(stop.number)


@contextlib.contextmanager
def stopped_together(arguments: Sequence[str]) -> Iterator[None]:
    """Say one line where a command of several runs, which a block does, is stopped by a signal."""
    anew = {"force=true", "retry=failed"} & {*arguments}
    how = "does what is left, and begins anew what was training" if anew else "goes on from there"
    line = (
        "stopped; runs that were training left a checkpoint each, and the same command"
        f" {how}: {program()} {shlex.join(arguments)}"
    )
    spoken_for = is_spoken_for()
    _spoken_for.append(line)
    try:
        yield
    except KeyboardInterrupt:
        raise KeyboardInterrupt(line) from None
    except SystemExit as end:
        if end.code == 128 + signal.SIGTERM and not spoken_for:
            say(line)
        raise
    finally:
        _spoken_for.pop()


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


def is_spoken_for() -> bool:
    """Say whether a sweep, a chain or a board, which does this run, tells of signals itself."""
    return bool(_spoken_for)


def end_with_parent() -> None:
    """Ask for the end of this process with its parent's, where the parent wants that (Linux)."""
    parent = os.environ.pop(PARENT, None)
    if parent is None:
        return
    _spoken_for.append(parent)
    if sys.platform != "linux":
        return
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != int(parent):  # it died before it could be watched
        sys.exit(143)
