"""No test reaches the network; each has caches and records of its own."""

from __future__ import annotations

import functools
import gc
import os
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["TOKENIZERS_PARALLELISM"] = "false"

import pytest

from methods.registry import registered
from results import record
from results.record import Record
from runners.command import main
from runners.contract.parts import SMALL, composed, configure, narrow, task_of, tiny  # noqa: F401
from runners.machine import environment
from runners.machine.warm import WARM, warm
from tests.composing import remember_compositions
from tests.remembered import remember_records
from tests.tiny import ARCHITECTURES, SAMPLED, save_tiny

remember_compositions()
remember_records()


@functools.cache
def _commit_at_start() -> dict[str, Any]:
    return _commit()


_commit = environment.commit
# Three processes of git for each run would take as long as its training.
environment.commit = lambda: _commit_at_start() if environment.ROOT == ROOT else _commit()
ROOT = Path(__file__).resolve().parent.parent


def _real(name: str, folder: str) -> Path:
    """Return where real data lies; no run of a test finds it in the environment.

    Processes of xdist begin with this one's environment, from which the name is gone by then.
    """
    kept = f"TESTS_{name}"
    given = os.environ.pop(name, None) or os.environ.get(kept)
    if given:
        os.environ[kept] = given
    return Path(given or ROOT.parent / "shared" / "data" / folder)


REAL_GLUE, REAL_STS = _real("GLUE_DIR", "glue"), _real("STS_DIR", "sts")


# Files with tests of a minute each: begun first, so that no process is left alone with one.
LONG = (
    *("test_embedded", "test_launchers", "test_equality", "test_checkpoint", "test_lease"),
    "test_installed",
)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--onednn", action="store_true", help="send every float32 product through oneDNN"
    )


def pytest_configure(config: pytest.Config) -> None:
    """Force the route that `speed.onednn` takes on some machines only."""
    if config.getoption("--onednn"):
        from runners.speed import onednn as products

        patch = pytest.MonkeyPatch()
        patch.setattr(products, "pays", lambda threads: True)
        patch.setattr(products, "SMALLEST", 1)
        config.add_cleanup(patch.undo)  # a test of commands lets pytest itself begin and end


def pytest_collection_finish() -> None:
    """Spare what has been imported from being searched for garbage again and again."""
    gc.collect()
    gc.freeze()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the longest tests first; skip those for a GPU where torch has none to use."""
    items.sort(key=lambda item: item.path.stem not in LONG)
    for_gpu = [item for item in items if item.get_closest_marker("gpu")]
    if for_gpu and not _has_gpu():
        for item in for_gpu:
            item.add_marker(pytest.mark.skip(reason="torch has no GPU to use here"))


def _has_gpu() -> bool:
    import torch

    return torch.cuda.is_available()


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print how many pairs of methods were seen to train together, and how many were refused."""
    seen = [dict(r.user_properties).get("pairs") for r in terminalreporter.getreports("passed")]
    counts = [pair for pair in seen if pair]
    if counts:
        together, all_pairs = (sum(column) for column in zip(*counts, strict=True))
        terminalreporter.write_line(
            f"pairs of methods: {all_pairs} tried, {together} train together,"
            f" {all_pairs - together} refused by name"
        )


class NetworkBlocked(RuntimeError):
    """A test tried to reach something beyond this machine."""


SOAK = bool(os.environ.get("TUNEBENCH_SOAK"))  # as make soak has it
# Each kind of method once; those of many values, such as peft's tuners, all in make soak.
EACH_KIND = {name: cls for name, cls in registered().items() if SOAK or not cls.like}
in_soak = pytest.mark.skipif(not SOAK, reason="takes long and repeats what others hold: make soak")


def architectures(*daily: str, without: Sequence[str] = ()) -> list[Any]:
    """Return all architectures but some; of those sampled, all but `daily` are left to soak."""
    rest = {*SAMPLED} - {*daily}
    chosen = [a for a in ARCHITECTURES if a not in without]
    return [pytest.param(a, marks=in_soak) if a in rest else a for a in chosen]


@pytest.fixture(autouse=True)
def _no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    connect, lookup = socket.socket.connect, socket.getaddrinfo

    def local_only(self: socket.socket, address: Any) -> None:
        if self.family in (socket.AF_INET, socket.AF_INET6) and address[0] not in (
            "127.0.0.1",
            "::1",
        ):
            raise NetworkBlocked(f"blocked: {address}")
        connect(self, address)

    def local_names(host: Any, *rest: Any, **more: Any) -> Any:
        if host not in ("127.0.0.1", "localhost", "::1", None):
            raise socket.gaierror(f"blocked: {host}")
        return lookup(host, *rest, **more)

    monkeypatch.setattr(socket.socket, "connect", local_only)
    monkeypatch.setattr(socket, "getaddrinfo", local_names)


@pytest.fixture(scope="session")
def _cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(autouse=True)
def _own_caches(monkeypatch: pytest.MonkeyPatch, _cache: Path) -> None:
    monkeypatch.setenv("TUNEBENCH_CACHE", str(_cache))
    monkeypatch.delenv("GLUE_DIR", raising=False)


@pytest.fixture(scope="session")
def _warm_process() -> Iterator[str]:
    with warm(entry="tests.warm"):
        yield os.environ.pop(WARM, "")


@pytest.fixture
def forked_runs(_warm_process: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let runs of boards, chains and sweeps be forks of one warm process of all tests."""
    monkeypatch.setenv(WARM, _warm_process)


@pytest.fixture(scope="session")
def tiny_folder(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Return a function from an architecture's name to the folder of a tiny model of it."""
    base, made = tmp_path_factory.mktemp("models"), {}

    def folder(architecture: str) -> Path:
        if architecture not in made:
            made[architecture] = save_tiny(architecture, base / architecture)
        return made[architecture]

    return folder


@pytest.fixture
def real_glue() -> Path:
    """Return the folder of real GLUE data; the test is skipped where there is none."""
    if not (REAL_GLUE / "MRPC" / "train.tsv").is_file():
        pytest.skip(f"no real GLUE data at {REAL_GLUE}: set GLUE_DIR")
    return REAL_GLUE


@pytest.fixture
def real_sts() -> Path:
    """Return the folder of real STS data; the test is skipped where there is none."""
    if not (REAL_STS / "STS12-en-test").is_dir():
        pytest.skip(f"no real STS data at {REAL_STS}: set STS_DIR")
    return REAL_STS


@dataclass
class Outcome:
    """What a command did: its exit code and what it printed."""

    code: int
    out: str
    err: str


Cli = Callable[..., Outcome]


@pytest.fixture
def cli(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], tmp_path: Path) -> Cli:
    """Return a function that runs run.py's main, with records in a folder of the test's."""

    def call(*arguments: str) -> Outcome:
        given = list(arguments)
        is_run = bool(given) and not given[0].isidentifier()
        if is_run and not any(a.startswith(("out=", "eval=")) for a in given):  # eval takes none
            given.append(f"out={tmp_path / 'runs'}")
        monkeypatch.setattr(sys, "argv", ["run.py", *given])
        capfd.readouterr()
        code = main()
        out, err = capfd.readouterr()
        return Outcome(code, out, err)

    return call


def _committed(folder: str) -> list[str]:
    listed = subprocess.run(
        ["git", "ls-files", folder], cwd=ROOT, capture_output=True, text=True, check=True
    )
    return [name for name in sorted(listed.stdout.split()) if name.endswith(".json")]


def committed_records(folder: str = "results/runs") -> list[Record]:
    """Return the records that the repository holds, not those that runs on this machine added."""
    return [record.read(ROOT / name) for name in _committed(folder)]


def committed_folders() -> list[str]:
    """Return the folders of results/ that hold records themselves, by name."""
    above = {name.rpartition("/")[0] for name in _committed("results")}
    return sorted(name for name in above if name.count("/") == 1)
