"""The warm process: forks itself for each run that is asked for, and tells of its end."""

from __future__ import annotations

import array
import atexit
import contextlib
import io
import json
import os
import selectors
import signal
import socket
import sys
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TextIO

from runners.machine.warm import PARENT
from runners.root import ROOT

_LARGEST = 1 << 21  # bytes of a request
_PATIENCE = 5.0  # seconds for a request to follow its connection
# What is read while modules are imported: a process with other values has to import them itself.
_READ_AT_IMPORT = (
    *("PYTHON", "LD_", "LANG", "LC_", "HOME", "XDG_", "TMPDIR", "TZ"),
    *("HF_", "HUGGING", "TRANSFORMERS_", "DATASETS_", "TORCH", "PYTORCH_", "ATEN_"),
    *("KMP_", "GOMP_", "OMP_", "DNNL_", "ONEDNN_"),
)
_THREADS, _OF_MKL = "OMP_NUM_THREADS", "MKL_NUM_THREADS"


@dataclass(frozen=True)
class Request:
    """What a forked process is to do: run.py's arguments, and what it finds around itself."""

    arguments: list[str]
    environment: dict[str, str]
    folder: str
    program: str
    files: tuple[int, int, int]

    def enter(self) -> None:
        """Make this process the one that was asked for."""
        os.setsid()
        for number, file in enumerate(self.files):
            os.dup2(file, number)
        for file in self.files:
            if file > 2:
                os.close(file)
        sys.stdout, sys.stderr = _stream(sys.stdout, 1), _stream(sys.stderr, 2)
        os.chdir(self.folder)
        os.environ.clear()
        os.environ.update({**self.environment, PARENT: str(os.getppid())})
        sys.argv = [self.program, *self.arguments]
        _set_threads(self.environment.get(_THREADS))
        signal.signal(signal.SIGINT, signal.default_int_handler)


def _stream(before: TextIO, number: int) -> TextIO:
    """Return a stream for what is now open as `number`: a pipe where a file was, or other."""
    raw = open(number, "wb", closefd=False)  # noqa: SIM115
    line_by_line = number == 2 or raw.isatty()
    return io.TextIOWrapper(raw, before.encoding, before.errors, line_buffering=line_by_line)


def _set_threads(threads: str | None) -> None:
    """Do what torch would have done with OMP_NUM_THREADS when it was imported."""
    first = (threads or "").partition(",")[0].strip()
    if first.isdigit() and "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(int(first))


class Forks:
    """The runs that were forked and have not ended, and the socket at which more are asked for."""

    def __init__(self, listener: socket.socket, alive: int, environment: Mapping[str, str]) -> None:
        """Take requests from `listener` until the file `alive` is closed elsewhere.

        `environment` is what this process found before it imported anything.
        """
        self.listener, self.alive = listener, alive
        self.selector = selectors.DefaultSelector()
        self.selector.register(listener, selectors.EVENT_READ, self._accept)
        self.selector.register(alive, selectors.EVENT_READ, self._end)
        self.runs: dict[int, tuple[int, socket.socket]] = {}  # by the file that tells of their end
        # Imports add to the environment themselves, here and perhaps where a run is asked for.
        self.environments = (_read_at_import(environment), _read_at_import(os.environ))
        self.code = _code()
        self.over = False

    def serve(self) -> Request | None:
        """Fork what is asked for; return the request in a fork, None here when all is over."""
        while not self.over:
            for key, _ in self.selector.select():
                request: Request | None = key.data(key.fileobj)
                if request is not None:
                    return request  # in the fork
        return None

    def _end(self, alive: int) -> None:
        """End, and each run with it, as each asked the system for at its start."""
        self.over = True

    def _accept(self, listener: socket.socket) -> Request | None:
        asker, _ = listener.accept()
        asker.settimeout(_PATIENCE)
        files: list[int] = []
        try:
            request = self._read(asker, files)
            pid = os.fork() if request is not None else -1
        except (OSError, ValueError, KeyError, TypeError):
            pid = -1
        if pid == 0:
            self._forget(asker)
            return request
        for file in files:
            os.close(file)
        if pid < 0:
            asker.close()  # which says that it is not done here
            return None
        asker.setblocking(False)
        end = os.pidfd_open(pid)
        self.runs[end] = (pid, asker)
        self.selector.register(end, selectors.EVENT_READ, self._ended)
        self.selector.register(asker, selectors.EVENT_READ, lambda asker: self._signal(asker, pid))
        return None

    def _read(self, asker: socket.socket, files: list[int]) -> Request | None:
        """Return what is asked for, or None where a fresh process would do something else."""
        size = array.array("i").itemsize
        text, ancillary, _, _ = asker.recvmsg(_LARGEST, socket.CMSG_SPACE(3 * size))
        for level, kind, data in ancillary:
            if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
                files += array.array("i", data[: len(data) - len(data) % size])
        wanted = json.loads(text)
        environment = {str(k): str(v) for k, v in wanted["environment"].items()}
        fits = (
            wanted["root"] == str(ROOT)
            and self._imports_alike(_read_at_import(environment))
            and environment.get(_OF_MKL) in (None, environment.get(_THREADS))  # set together here
            and _code() == self.code
        )
        if not fits or len(files) != 3:
            return None
        where = (str(wanted["folder"]), str(wanted["program"]))
        return Request(list(map(str, wanted["arguments"])), environment, *where, tuple(files))  # type: ignore[arg-type]

    def _imports_alike(self, wanted: Mapping[str, str]) -> bool:
        """Say whether what is imported under an environment is what was imported here."""
        first, then = self.environments
        names = {*wanted, *first, *then}
        return all(wanted.get(name) in (first.get(name), then.get(name)) for name in names)

    def _signal(self, asker: socket.socket, pid: int) -> None:
        """Send a run the signal that its asker wants; terminate it where that has ended."""
        if asker.fileno() < 0:  # the run has ended at this very moment
            return
        word = b""
        with contextlib.suppress(ConnectionResetError):
            word = asker.recv(64)
        if not word:
            self.selector.unregister(asker)
        number = int(word) if word.isdigit() else signal.SIGTERM
        os.kill(pid, number)  # it is reaped by `_ended` alone, which closes the asker's socket

    def _ended(self, end: int) -> None:
        """Tell the asker of a run how it ended."""
        pid, asker = self.runs.pop(end)
        _, status = os.waitpid(pid, 0)
        self.selector.unregister(end)
        os.close(end)
        with contextlib.suppress(KeyError):
            self.selector.unregister(asker)
        with contextlib.suppress(OSError):
            asker.send(str(os.waitstatus_to_exitcode(status)).encode())
        asker.close()

    def _forget(self, asker: socket.socket) -> None:
        """Close, in a fork, what is the warm process's own."""
        self.selector.close()
        self.listener.close()
        os.close(self.alive)
        asker.close()
        for end, (_, other) in self.runs.items():
            os.close(end)
            other.close()


def _read_at_import(environment: Mapping[str, str]) -> dict[str, str]:
    return {
        name: value
        for name, value in environment.items()
        if name.startswith(_READ_AT_IMPORT) and name != _THREADS
    }


def _code() -> dict[str, tuple[int, int] | None]:
    """Return what changes with a file of any module that was imported."""
    files = {getattr(module, "__file__", None) for module in list(sys.modules.values())}
    return {file: _stamp(file) for file in files if file}


def _stamp(file: str) -> tuple[int, int] | None:
    try:
        facts = os.stat(file)  # noqa: PTH116 - thousands of files before each fork
    except OSError:
        return None
    return facts.st_mtime_ns, facts.st_size


def serve(listener: int, alive: int, environment: Mapping[str, str]) -> Request | None:
    """Fork for each run that is asked for at a socket, until the file `alive` ends.

    `environment` is what this process found before it imported anything.
    Returns in every fork, where the run is then to be done, and at the end, where nothing is.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with socket.socket(fileno=listener) as taking:
        return Forks(taking, alive, environment).serve()


def leave(code: int) -> int:
    """End a fork with an exit code after all that is due at its end, as `multiprocessing` does.

    Threads are awaited, functions of `atexit` called, and what was printed is written. The
    interpreter is not taken apart, module by module: each page of them would be copied from the
    warm process first. `code` is returned, and the interpreter ends by itself, where something
    printed cannot be written, which it says then, and where a GPU was used, whose driver may have
    work of its own at the end.
    """
    if "torch" in sys.modules and sys.modules["torch"].cuda.is_initialized():
        return code
    threading._shutdown()  # type: ignore[attr-defined]  # awaits those of executors too
    atexit._run_exitfuncs()
    try:
        sys.stdout.flush()
        sys.stderr.flush()
    except (OSError, ValueError):
        return code
    os._exit(code)
