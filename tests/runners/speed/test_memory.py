"""Freed memory goes back to the system while a run trains, and nothing else changes."""

from __future__ import annotations

import platform
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from runners.speed import memory
from tests.conftest import ROOT, Cli, tiny
from tests.methods.reference import prepared

# 200 MB in blocks that the heap keeps: every tenth stays in use, so that its top cannot sink.
HOLES = """
from runners.speed.memory import release_memory

def resident():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * 4096

blocks = [bytes(20_000) for _ in range(10_000)]
blocks = blocks[::10]
before = resident()
release_memory()
print((before - resident()) / 2e8, sum(len(b) for b in blocks))
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="the lever is for glibc")
def test_holes_go_back_to_the_system() -> None:
    done = subprocess.run(
        [sys.executable, "-c", HOLES], cwd=ROOT, capture_output=True, text=True, check=True
    )
    share, kept = done.stdout.split()
    assert int(kept) == 20_000_000
    assert 0.5 < float(share) < 1  # of the nine tenths that were freed, whole pages only


def test_where_the_allocator_cannot_it_is_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "_c_library", lambda: None)
    memory.release_memory()


def test_it_is_done_after_so_many_places_and_changes_no_weight(
    tiny_folder: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(memory, "EVERY", 1500)
    weights, asked = [], []
    for on in ("true", "false"):
        loop, _ = prepared(tiny_folder("bert"), f"speed.release_memory={on}", "budget.steps=20")
        at: list[int] = []
        monkeypatch.setattr(memory, "release_memory", lambda loop=loop, at=at: at.append(loop.step))
        loop.run(20)
        asked.append(at)
        weights.append([p.detach() for p in loop.model.parameters()])
    expected, since = [], 0
    for step, indices in enumerate(loop.order.batches(0, 20), start=1):
        since += loop.batch(indices)["input_ids"].numel()
        if since >= 1500:
            expected, since = [*expected, step], 0
    assert 2 <= len(expected) < 20
    assert asked == [expected, []]
    assert all(torch.equal(a, b) for a, b in zip(*weights, strict=True))


def test_only_true_and_false(cli: Cli, tiny_folder: Callable[[str], Path]) -> None:
    assert cli(*tiny(tiny_folder("bert"), "speed.release_memory=often")).code == 2
