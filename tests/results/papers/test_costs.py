"""Sentences on time and memory are decided where these were measured, and nowhere else."""

from __future__ import annotations

from typing import Any

from results.papers.claims import Claim, Judged, claims
from results.record import Record
from tests.results.simulated import BASE, grid

GPU = {**BASE.environment, "device": "cuda", "device_name": "A GPU"}


MEMORY: dict[str, Any] = {"memory_at_most": 0.7}


TIME: dict[str, Any] = {"seconds_at_most": 0.7}


def _pair(**more: Any) -> list[Record]:
    """Return six seeds of R-Drop and of HyPe, of which the latter has `more`."""
    shared = {key: more.pop(key) for key in ("environment",) if key in more}
    return grid({"rdrop": 0}, ["rte"], 6, **shared) + grid(
        {"hype": 0}, ["rte"], 6, **shared, **more
    )


def _one(records: list[Record], **needed: float) -> Judged:
    claim = Claim(claim="C.", source="S", method="hype", above=["rdrop"], **needed)  # type: ignore[arg-type]
    [judged] = claims(records, [claim])
    return judged


def test_memory_of_a_gpu_is_a_ratio() -> None:
    small = _one(_pair(peak_bytes=6 * 10**8, environment=GPU), **MEMORY)
    assert small.verdict == "supported"
    assert "median ratio of peak memory 0.60 [0.60, 0.60] over 6 pairs" in small.numbers
    large = _one(_pair(peak_bytes=8 * 10**8, environment=GPU), **MEMORY)
    assert large.verdict == "contradicted"
    unknown = _one(_pair(peak_bytes=None, environment=GPU), **MEMORY)
    assert unknown.verdict == "undecided"


def test_memory_of_a_cpu_holds_libraries_and_decides_nothing() -> None:
    judged = _one(_pair(peak_bytes=6 * 10**8), **MEMORY)
    assert judged.verdict == "not testable here"
    assert judged.numbers == "a CPU's peak is its whole process's, libraries too"


def test_seconds_of_runs_that_share_a_gpu_decide_nothing() -> None:
    """Alone on a GPU the same seconds do."""
    alone = _one(_pair(train_seconds=60.0, environment=GPU), **TIME)
    assert alone.verdict == "supported"
    shared = {**GPU, "shared_device": True, "runs_beside": 7}
    judged = _one(_pair(train_seconds=60.0, environment=shared), **TIME)
    assert judged.verdict == "not testable here"
    assert judged.numbers == "several runs shared a GPU, so that their seconds are no one's"


def test_memory_of_runs_that_share_a_gpu_is_their_own() -> None:
    """However many they are."""
    shared = {**GPU, "shared_device": True}
    records = _pair(peak_bytes=6 * 10**8, environment=shared)
    for place, record in enumerate(records):
        record.environment = {**shared, "runs_beside": 6 + place % 2}
    assert _one(records, **MEMORY).verdict == "supported"


def test_seconds_of_a_machine_that_did_other_work_decide_nothing() -> None:
    """Its rows are done one after the other, so that one has the busy hours."""
    records = _pair(train_seconds=60.0)
    hype = [record for record in records if "hype" in record.run]
    for place, record in enumerate(hype):
        record.train_seconds = 40.0 + 4 * place
    judged = _one(records, **TIME)
    assert judged.verdict == "not testable here"
    assert judged.numbers == (
        "seconds of hype differ 1.50-fold between seeds of one cell: the machine did other work too"
    )
    for place, record in enumerate(hype):  # as many steps more explain it
        record.steps = 40 + 4 * place
    assert _one(records, **TIME).verdict == "supported"
