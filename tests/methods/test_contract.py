"""The contract, for each kind of registered method (all in make soak) and a third party's."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from runners.contract.test_promises import *  # noqa: F403 - every promise, whatever its name
from runners.contract.test_promises import parametrize
from tests.conftest import EACH_KIND
from tests.methods.shake import Shake, shake_installed


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    parametrize(metafunc, {**EACH_KIND, "shake": Shake})


@pytest.fixture(autouse=True)
def _shake_is_installed() -> Iterator[None]:
    with shake_installed():
        yield
