"""The contract's tests have a cache of their own, no data of the user's, and one thread."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch


@pytest.fixture(scope="session")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder for what is computed once."""
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(autouse=True)
def own_surroundings(monkeypatch: pytest.MonkeyPatch, cache: Path) -> None:
    """Leave what this machine holds out of the tests."""
    monkeypatch.setenv("TUNEBENCH_CACHE", str(cache))
    for variable in ("GLUE_DIR", "STS_DIR"):
        monkeypatch.delenv(variable, raising=False)


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Compute on one thread: more only slow a tiny model."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)
