"""A job reads its data and its weights once, however often and by whomever they are asked for."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from runners.jobs import job as module
from runners.jobs.job import Job
from tests.conftest import configure, tiny


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return the list of what was read, in order."""
    seen: list[str] = []
    for name in ("load_task_data", "find_weights"):
        real = getattr(module, name)

        def counted(*given: object, name: str = name, real: Callable[..., object] = real) -> object:
            seen.append(name)
            return real(*given)

        monkeypatch.setattr(module, name, counted)
    return seen


def test_a_job_reads_everything_once(reads: list[str], tiny_folder: Callable[[str], Path]) -> None:
    job = Job(configure(*tiny(tiny_folder("bert"), "task=rte")))
    assert reads == []
    assert job.name == job.name == Job(job.config, shelf=job.shelf).name
    assert job.data is job.data
    assert sorted(reads) == ["find_weights", "load_task_data"]


def test_jobs_of_one_shelf_share_what_is_equal_and_nothing_else(
    reads: list[str], tiny_folder: Callable[[str], Path]
) -> None:
    folder, shelf = tiny_folder("bert"), {}  # type: ignore[var-annotated]
    names = set()
    for more in (("seed=1",), ("seed=2",), ("method=bitfit",), ("data.train_size=40",)):
        names.add(Job(configure(*tiny(folder, "task=rte", *more)), shelf=shelf).name)
    assert len(names) == 4
    assert sorted(reads) == ["find_weights", *["load_task_data"] * 2]


def test_a_job_that_only_scores_reads_no_text_to_train_on(
    tiny_folder: Callable[[str], Path],
) -> None:
    config = configure(*tiny(tiny_folder("bert"), "task=sts", "method=simcse"))
    assert len(Job(config).data.train) == 48
    assert len(Job(config, trains=False).data.train) == 0
    labelled = configure(*tiny(tiny_folder("bert"), "task=rte"))
    assert len(Job(labelled, trains=False).data.train) == 48
