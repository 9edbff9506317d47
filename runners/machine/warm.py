"""Runs in processes forked from a warm one, which has imported everything and touched no device.

A run then has nothing to import. It is still a process of its own, which ends with
the process that asked for it. Where there is no warm process, or it is unlike the one that a run
would find, such as after a file of code was changed, a fresh process does the run.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from runners.root import ROOT

WARM = "TUNEBENCH_WARM"  # names the socket at which a warm process takes requests
PARENT = "TUNEBENCH_ENDS_WITH"  # the process whose end ends a run's
Output = tuple[int, int] | None  # files for what a run prints, and for its standard error
_SERVER = """
import importlib, sys
entry, place, *files = sys.argv[1:]
if place:
    sys.path.insert(0, place)
sys.exit(importlib.import_module(entry).main(*map(int, files)))
"""


class Process(Protocol):
    """What is needed of a process that does a run."""

    def poll(self) -> int | None:
        """Return its exit code as `wait` does; None while it has not ended."""

    def wait(self) -> int:
        """Wait for its end; return its exit code, negative where a signal ended it."""

    def send_signal(self, sig: int, /) -> None:
        """Send it a signal, if it has not ended."""

    def terminate(self) -> None:
        """Send it SIGTERM, if it has not ended."""


def run_command() -> list[str]:
    """Return what starts a process that does a run: run.py, or the installed package.

    The latter does not look for packages in the current folder.
    """
    script = ROOT / "run.py"
    if script.is_file():
        return [sys.executable, str(script)]
    return [sys.executable, "-P", "-m", "runners"]


def can_fork() -> bool:
    """Say whether this system forks processes and tells of the end of one by a file (Linux)."""
    return hasattr(os, "pidfd_open") and hasattr(socket, "send_fds")


@contextlib.contextmanager
def warm(wanted: bool = True, entry: str = "runners.warm") -> Iterator[None]:
    """Have a warm process while a block runs, for this process and for those that it starts.

    One that is there already is used. It begins when the first run is asked for, and nobody but
    that run waits for it. Without it, as where temporary files have no place or their paths are too
    long for a socket, each run is a fresh process. `entry` is the module whose `main` it is.
    """
    server = _server(entry) if wanted and WARM not in os.environ and can_fork() else None
    if server is None:
        yield
        return
    os.environ[WARM] = server.address
    try:
        yield
    finally:
        os.environ.pop(WARM, None)
        server.end()


def _server(entry: str) -> _Server | None:
    try:
        folder = tempfile.mkdtemp(prefix="tunebench-")  # which nobody else may enter
    except OSError:
        return None
    try:
        return _Server(str(Path(folder) / "warm"), entry)
    except OSError:
        shutil.rmtree(folder, ignore_errors=True)
        return None


class _Server:
    """A socket at which runs are asked for, and the warm process once there was a request."""

    def __init__(self, address: str, entry: str) -> None:
        """Take requests at `address`, in a folder of its own; raise OSError where none can be."""
        self.address, self.entry = address, entry
        self._process: subprocess.Popen[bytes] | None = None
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        try:
            self._listener.bind(address)
            self._listener.listen(128)
        except OSError:
            self._listener.close()
            raise
        self._watched, self._alive = os.pipe()  # the warm process ends when the latter is closed
        self._over, over = socket.socketpair()
        self._thread = threading.Thread(target=self._begin, args=(over,), daemon=True)
        self._thread.start()

    def _begin(self, over: socket.socket) -> None:
        """Wait for the first request, and leave it to the warm process."""
        with self._listener, over:
            ready, _, _ = select.select([self._listener, over], [], [])
            if over not in ready:
                place = str(ROOT) if (ROOT / "run.py").is_file() else ""  # else it is installed
                files = (self._listener.fileno(), self._watched)
                command = [sys.executable, "-P", "-c", _SERVER, self.entry, place]
                self._process = subprocess.Popen(
                    [*command, *map(str, files)],
                    pass_fds=files,
                    stdin=subprocess.DEVNULL,
                    start_new_session=True,
                )

    def end(self) -> None:
        """End the warm process, where there is one, and the runs that it has left."""
        self._over.close()
        self._thread.join()
        os.close(self._alive)
        os.close(self._watched)
        if self._process is not None:
            self._process.terminate()
            self._process.wait()
        shutil.rmtree(Path(self.address).parent, ignore_errors=True)


def start(
    arguments: Sequence[str],
    environment: Mapping[str, str],
    output: int | None = None,
    errors: int | None = None,
) -> Process:
    """Start a run in a process of its own, of these arguments and this environment.

    It reads what this process reads, and prints where this one does; with `output`, a file, it
    reads nothing and prints there, and with `errors` standard error to another one.
    """
    files = None if output is None else (output, output if errors is None else errors)
    address = environment.get(WARM)
    if address is not None:
        with contextlib.suppress(OSError):
            return Forked(address, arguments, environment, files)
    return _fresh(arguments, environment, files)


def _fresh(
    arguments: Sequence[str], environment: Mapping[str, str], output: Output
) -> subprocess.Popen[bytes]:
    apart: dict[str, Any] = {}
    if output is not None:
        apart = {"stdin": subprocess.DEVNULL, "stdout": output[0], "stderr": output[1]}
    return subprocess.Popen(
        [*run_command(), *arguments],
        env={**environment, PARENT: str(os.getpid())},
        start_new_session=True,  # Ctrl-C reaches the one that waits, which ends its runs
        **apart,
    )


class Forked:
    """A run in a process that the warm one forks."""

    def __init__(
        self,
        address: str,
        arguments: Sequence[str],
        environment: Mapping[str, str],
        output: Output,
    ) -> None:
        """Ask the warm process at `address`; raise OSError where it cannot be asked."""
        kept = None if output is None else (os.dup(output[0]), os.dup(output[1]))
        self._request: tuple[Sequence[str], Mapping[str, str], Output]
        self._request = (arguments, environment, kept)
        self._lock = threading.Lock()  # one thread at a time listens
        self._code: int | None = None
        self._stopped_by: int | None = None
        self._instead: subprocess.Popen[bytes] | None = None
        self._warm = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        try:
            self._warm.connect(address)
            self._ask()
        except BaseException:
            self._close()
            raise

    def _close(self) -> None:
        self._warm.close()
        arguments, environment, output = self._request
        if output is not None:
            for file in output:
                os.close(file)
            self._request = (arguments, environment, None)

    def _ask(self) -> None:
        arguments, environment, output = self._request
        request = {
            "arguments": list(arguments),
            "environment": dict(environment),
            "folder": str(Path.cwd()),
            "root": str(ROOT),
            "program": run_command()[-1],
        }
        with contextlib.ExitStack() as stack:
            files = [0, 1, 2]
            if output is not None:
                nothing = os.open(os.devnull, os.O_RDONLY)
                stack.callback(os.close, nothing)
                files = [nothing, *output]
            socket.send_fds(self._warm, [json.dumps(request).encode()], files)

    def wait(self) -> int:
        """Wait for its end; return its exit code, negative where a signal ended it.

        Where the warm process does not fork it, or has died, a fresh process does the run.
        """
        with self._lock:
            if self._code is None and self._instead is None:
                self._code = self._receive()
            if self._code is None and self._stopped_by is not None:
                self._code = -self._stopped_by
            if self._code is None:
                self._code = self._do_instead()
            self._close()
            return self._code

    def _do_instead(self) -> int:
        if self._instead is None:
            self._instead = _fresh(*self._request)
            if self._stopped_by is not None:  # meanwhile
                self._instead.send_signal(self._stopped_by)
        return self._instead.wait()

    def _receive(self) -> int | None:
        """Wait for the exit code; return None where the warm process knows of none."""
        try:
            word = self._warm.recv(64)
        except ConnectionResetError:
            return None
        return int(word) if word else None

    @property
    def forks(self) -> bool:
        """Whether it is the warm process that does it, as far as is known."""
        return self._instead is None

    def poll(self) -> int | None:
        """Return its exit code; None while it has not ended."""
        if self._code is None and self._instead is None:
            ready, _, _ = select.select([self._warm], [], [], 0)
            return self.wait() if ready else None
        return self._code if self._instead is None else self._instead.poll()

    def terminate(self) -> None:
        """Send it SIGTERM, if it has not ended."""
        self.send_signal(signal.SIGTERM)

    def send_signal(self, number: int) -> None:
        """Send it a signal, if it has not ended."""
        self._stopped_by = number
        if self._instead is not None:
            self._instead.send_signal(number)
        else:
            with contextlib.suppress(OSError):
                self._warm.send(str(int(number)).encode())
