"""Claims: one owner at a time, stale ones expire, eight processes never do a run twice."""

from __future__ import annotations

import json
import multiprocessing
import os
import random
import time
from pathlib import Path

import pytest

from runners.claims import Claim, _process_start, take


def _taken(found: Claim | dict[str, object]) -> Claim:
    assert isinstance(found, Claim)
    return found


def test_a_second_process_is_told_the_owner_and_release_lets_it_in(tmp_path: Path) -> None:
    claim = _taken(take(tmp_path, "run"))
    owner = take(tmp_path, "run")
    assert isinstance(owner, dict)
    assert owner["pid"] == os.getpid()
    assert owner["host"]
    assert claim.holds()
    other = _taken(take(tmp_path, "run.2"))  # a name that begins alike
    claim.release()
    assert not claim.holds()
    _taken(take(tmp_path, "run")).release()
    other.release()
    assert list(tmp_path.iterdir()) == []


def _die(folder: str) -> None:
    take(Path(folder), "run")
    os._exit(9)


def test_the_claim_of_a_process_that_died_here_is_taken_over_at_once(tmp_path: Path) -> None:
    process = multiprocessing.get_context("fork").Process(target=_die, args=(str(tmp_path),))
    process.start()
    process.join()
    claim = _taken(take(tmp_path, "run", stale_after=1000))
    assert claim.generation == 2
    claim.release()
    assert not (tmp_path / ".claims").exists()


def test_a_claim_of_another_machine_goes_stale_only_when_it_is_not_touched(tmp_path: Path) -> None:
    claim = _taken(take(tmp_path, "run", stale_after=0.8))
    facts = json.loads(claim.path.read_text()) | {"host": "elsewhere"}
    claim.path.write_text(json.dumps(facts))
    time.sleep(1.2)  # touched all the while
    assert isinstance(take(tmp_path, "run", stale_after=0.8), dict)
    claim._stop.set()
    time.sleep(1.2)
    second = _taken(take(tmp_path, "run", stale_after=0.8))
    assert second.holds()
    assert not claim.holds()  # so the first owner, should it wake, knows
    claim.release()
    assert second.holds()
    second.release()


@pytest.mark.parametrize("content", ["", "{", "[1]", '{"pid": "x"}'])
def test_a_damaged_claim_expires_like_any_other(content: str, tmp_path: Path) -> None:
    (tmp_path / ".claims").mkdir()
    path = tmp_path / ".claims" / "run.000001.claim"
    path.write_text(content)
    assert isinstance(take(tmp_path, "run"), dict)
    os.utime(path, (time.time() - 1000,) * 2)
    _taken(take(tmp_path, "run")).release()


def test_a_process_is_told_from_a_later_one_of_its_number() -> None:
    assert _process_start(os.getpid()) is not None
    assert _process_start(2**22 + 1) is None


def _work(folder: str, number: int) -> None:
    """Do forty runs as run.py does: claim, look for the record again, work, write, release."""
    rng = random.Random(number)
    runs = [f"run{i}" for i in range(40)]
    rng.shuffle(runs)
    for run in runs:
        record = Path(folder) / f"{run}.json"
        if record.exists():
            continue
        found = take(Path(folder), run)
        if not isinstance(found, Claim):
            continue
        if not record.exists():
            time.sleep(rng.uniform(0, 0.02))
            with (Path(folder) / "log").open("a") as log:
                log.write(f"{run}\n")
            record.write_text("{}")
        found.release()


def test_eight_processes_and_forty_runs(tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    workers = [context.Process(target=_work, args=(str(tmp_path), i)) for i in range(8)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
        assert worker.exitcode == 0
    done = (tmp_path / "log").read_text().split()
    assert sorted(done) == sorted(f"run{i}" for i in range(40))
    assert len(list(tmp_path.glob("*.json"))) == 40
    assert not (tmp_path / ".claims").exists()
