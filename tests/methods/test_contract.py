"""The contract, for each registered method and for a third party's."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from methods.registry import registered
from runners.contract.test_promises import *  # noqa: F403 - every promise, whatever its name
from runners.contract.test_promises import parametrize
from tests.methods.shake import Shake, shake_installed


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    parametrize(metafunc, {**registered(), "shake": Shake})


@pytest.fixture(autouse=True)
def _shake_is_installed() -> Iterator[None]:
    with shake_installed():
        yield
