"""Exit codes of several runs, and signals that wait."""

from __future__ import annotations

import signal
import sys

import pytest

from runners.machine import processes


@pytest.mark.parametrize(
    ("codes", "worst"),
    [
        ([], 0),
        ([0, 0], 0),
        ([0, -9], 137),  # killed: never lost beside a 0
        ([1, 3], 1),
        ([3, 0], 3),
        ([1, 2], 2),
        ([2, -15, 1], 143),
    ],
)
def test_the_worst_code_is_what_a_sweep_says(codes: list[int], worst: int) -> None:
    assert processes.worst(codes) == worst


def test_a_run_that_is_killed_by_a_signal_is_no_success(monkeypatch: pytest.MonkeyPatch) -> None:
    class Killed:
        def wait(self) -> int:
            return -9

    monkeypatch.setattr(processes, "start", lambda *given: Killed())
    assert processes.run_alone([]) == 137


@pytest.mark.skipif(sys.platform == "win32", reason="signals of POSIX")
def test_signals_wait_for_the_end_of_the_block() -> None:
    steps = []
    usual = signal.signal(signal.SIGTERM, lambda *_: steps.append("signal"))
    try:
        with processes.uninterrupted():
            signal.raise_signal(signal.SIGTERM)
            steps.append("block")
        assert steps == ["block", "signal"]
        assert signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL
    finally:
        signal.signal(signal.SIGTERM, usual)
