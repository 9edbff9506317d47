"""Runs of these tests are forked from one warm process."""

from __future__ import annotations

import pytest


@pytest.fixture(autouse=True)
def _forked(forked_runs: None) -> None:
    """Take the warm process of all tests."""
