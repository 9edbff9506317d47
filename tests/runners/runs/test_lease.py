"""Claims: one owner at a time, stale ones expire, eight processes never do a run twice."""

from __future__ import annotations

import errno
import json
import multiprocessing
import os
import random
import re
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from results.errors import UserError
from results.record import read_all
from runners.config.check import RunConfig
from runners.runs.lease import Claim, _process_start, take
from runners.runs.run import CLAIMED, FINISHED, run
from tests import forked
from tests.conftest import configure, tiny


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


def _die_while_claiming(folder: str, late: bool) -> None:
    def die(*arguments: object) -> None:
        if late:
            link(*arguments)
        os._exit(9)

    link = os.link
    os.link = die  # type: ignore[assignment]
    take(Path(folder), "run")


@pytest.mark.parametrize("late", [False, True])
def test_a_process_killed_while_it_claims_holds_nobody_up(late: bool, tmp_path: Path) -> None:
    """Before its claim is there, or the moment after."""
    context = multiprocessing.get_context("fork")
    process = context.Process(target=_die_while_claiming, args=(str(tmp_path), late))
    process.start()
    process.join()
    assert process.exitcode == 9
    claim = _taken(take(tmp_path, "run", stale_after=1000))
    assert claim.generation == 1 + late
    claim.release()
    assert list(tmp_path.iterdir()) == []


def test_without_links_a_claim_is_created_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(*arguments: object) -> None:
        raise PermissionError(errno.EPERM, os.strerror(errno.EPERM))

    monkeypatch.setattr(os, "link", refused)
    claim = _taken(take(tmp_path, "run"))
    assert isinstance(take(tmp_path, "run"), dict)
    claim.release()
    assert list(tmp_path.iterdir()) == []


def test_no_room_for_a_claim_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*arguments: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "link", full)
    with pytest.raises(UserError, match=r"no claim can be written in .*No space left on device"):
        take(tmp_path, "run")


def test_a_process_is_told_from_a_later_one_of_its_number() -> None:
    assert _process_start(os.getpid()) is not None
    assert _process_start(2**22 + 1) is None


def _work(out: str, folder: str, number: int) -> None:
    """Ask for all forty runs, in an order of one's own."""
    wanted = [(method, seed) for method in ("full", "bitfit") for seed in range(1, 21)]
    random.Random(number).shuffle(wanted)
    given = tiny(Path(folder), "task=rte", "budget.steps=1", f"out={out}")
    checked = {method: configure(*given, f"method={method}") for method in ("full", "bitfit")}
    for method, seed in wanted:
        methods = configure(*given, f"method={method}").methods  # a run changes its methods
        settings = checked[method].settings.model_copy(update={"seed": seed})
        assert run(RunConfig(settings, methods), given) in (FINISHED, CLAIMED)


def test_eight_processes_and_forty_runs(tiny_folder: Callable[[str], Path], tmp_path: Path) -> None:
    """Eight processes that want the same forty runs: every run is done, and done once."""
    out, log = tmp_path / "runs", tmp_path / "log"
    folder = str(tiny_folder("bert"))
    workers = [forked.call(log, _work, str(out), folder, i) for i in range(8)]
    for worker in workers:
        worker.join()
    said = log.read_text()
    assert {worker.exitcode for worker in workers} == {0}, said
    records = read_all(out)
    assert len(records) == 40
    assert {r.status for r in records} == {"finished"}
    assert {(r.methods[0], r.seed) for r in records} == {
        (method, seed) for method in ("full", "bitfit") for seed in range(1, 21)
    }
    written = re.findall(r"^record: (\S+)$", said, flags=re.MULTILINE)
    assert sorted(written) == sorted(str(out / f"{r.run}.json") for r in records)
    assert not (out / ".claims").exists()
