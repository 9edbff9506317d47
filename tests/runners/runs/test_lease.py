"""Claims: one owner at a time, stale ones expire, eight processes never do a run twice."""

from __future__ import annotations

import errno
import json
import multiprocessing
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from results.errors import UserError
from results.record import read_all
from runners.config.check import RunConfig
from runners.jobs.identity import LONGEST
from runners.runs import lease
from runners.runs.lease import Claim, _process_start, is_claimed
from runners.runs.run import CLAIMED, FINISHED, run
from tests import forked
from tests.claims import take
from tests.conftest import ROOT, configure, tiny


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
    assert isinstance(take(tmp_path, "run", stale_after=2), dict)
    for jump in (-1000, 1000):  # a clock may have been set back since
        os.utime(path, (time.time() + jump,) * 2)
        _taken(take(tmp_path, "run", stale_after=0.4)).release()
        path.parent.mkdir()
        path.write_text(content)


ODD: dict[str, Callable[[Path], object]] = {
    "folder": lambda p: p.mkdir(),
    "pipe": os.mkfifo,
    "link to nothing": lambda p: p.symlink_to("nothing"),
    "link to itself": lambda p: p.symlink_to(p),
    "link to an endless file": lambda p: p.symlink_to("/dev/zero"),
    "far generation": lambda p: p.with_name("run.999999.claim").write_text("{}"),
    "hostile facts": lambda p: p.write_text(json.dumps({**lease._self(), "pid": 10**30})),
    "deep": lambda p: p.write_text("[" * 60_000),
}


@pytest.mark.parametrize("odd", ODD)
def test_whatever_lies_there_as_a_claim_goes_stale_and_blocks_nothing(
    odd: str, tmp_path: Path
) -> None:
    claims = tmp_path / ".claims"
    claims.mkdir()
    ODD[odd](claims / "run.000001.claim")
    [path] = claims.iterdir()
    assert isinstance(take(tmp_path, "run", stale_after=1000), dict)
    assert is_claimed(tmp_path, "run")
    os.utime(path, (0, 0), follow_symlinks=False)
    assert not is_claimed(tmp_path, "run")
    claim = _taken(take(tmp_path, "run", stale_after=0.4))
    assert claim.holds()
    claim.release()
    assert not is_claimed(tmp_path, "run")


@pytest.mark.parametrize("odd", ["file", "link to nothing"])
def test_no_folder_for_claims_is_one_line(odd: str, tmp_path: Path) -> None:
    path = tmp_path / ".claims"
    if odd == "file":
        path.write_text("")
    else:
        path.symlink_to("nothing")
    assert not is_claimed(tmp_path, "run")
    with pytest.raises(UserError, match=r"\.claims is no folder, so no run can be claimed"):
        take(tmp_path, "run")


def test_claims_that_vanish_all_the_time_end_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lease, "_create", lambda path, token: True)
    monkeypatch.setattr(lease, "_TRIES", 20)
    with pytest.raises(UserError, match=r"no claim of run can be made in .*; remove that folder"):
        take(tmp_path, "run")


def test_a_claim_of_before_tokens_is_taken_over_when_its_owner_died_here(tmp_path: Path) -> None:
    claim = _taken(take(tmp_path, "run"))
    facts = json.loads(claim.path.read_text())
    old = {k: facts[k] for k in ("host", "pid", "process_start", "since")}
    for host, free in (("another", False), (facts["host"], True)):
        claim.path.write_text(json.dumps({**old, "host": host, "pid": 2**22 + 1}))
        assert isinstance(take(tmp_path, "run"), Claim) == free


def test_number_of_a_process_means_nothing_in_another_namespace(tmp_path: Path) -> None:
    """Two containers of one host name: neither sees the other's processes."""
    claim = _taken(take(tmp_path, "run"))
    facts = json.loads(claim.path.read_text())
    gone = {**facts, "pid": 2**22 + 1}
    for place in ("pid_namespace", "boot", "host"):
        for other in ({**gone, place: "another"}, {k: v for k, v in gone.items() if k != place}):
            claim.path.write_text(json.dumps(other))
            assert isinstance(take(tmp_path, "run"), dict), place
            assert is_claimed(tmp_path, "run")
    claim.path.write_text(json.dumps(gone))
    assert not is_claimed(tmp_path, "run")
    assert _taken(take(tmp_path, "run")).generation == 2


def test_real_namespace_apart_leaves_a_living_owner_alone(tmp_path: Path) -> None:
    apart = ["unshare", "--pid", "--fork", "--mount-proc", "--kill-child"]
    if shutil.which("unshare") is None or subprocess.run([*apart, "true"], check=False).returncode:
        pytest.skip("this machine does not let a process have numbers of its own")
    code = (
        "import sys, pathlib, runners.runs.lease as lease\n"
        "owner = lease.Claim(pathlib.Path(sys.argv[1]), 'run').take()\n"
        "print('left' if owner else 'claimed', flush=True)\n"
        "sys.stdin.read()\n"
    )
    command = [*apart, sys.executable, "-c", code, str(tmp_path)]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True, cwd=ROOT) as owner:
        assert owner.stdout is not None
        assert owner.stdout.readline() == "claimed\n"
        assert is_claimed(tmp_path, "run")
        assert isinstance(take(tmp_path, "run"), dict)
        done = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=pipe, text=True, cwd=ROOT)
        assert done.stdout == "left\n"
        owner.communicate("")


def test_clock_that_jumps_takes_no_run_from_a_living_owner(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """To whoever looks, its last touch is an hour old until the next one."""
    claim = _taken(take(tmp_path, "run", stale_after=0.8))
    quiet, jumps = lease._is_quiet, iter([True])
    monkeypatch.setattr(lease, "_is_quiet", lambda *given: next(jumps, None) or quiet(*given))
    assert isinstance(take(tmp_path, "run", stale_after=0.8), dict)
    assert next(jumps, None) is None
    assert claim.holds()
    claim.release()


def test_removed_claim_comes_back_unless_another_has_the_run(tmp_path: Path) -> None:
    first = _taken(take(tmp_path, "run", stale_after=0.4))
    shutil.rmtree(tmp_path / ".claims")
    time.sleep(0.3)
    assert first.holds()
    assert isinstance(take(tmp_path, "run"), dict)
    first._stop.set()  # it stands still
    shutil.rmtree(tmp_path / ".claims")
    second = _taken(take(tmp_path, "run"))
    assert second.path == first.path  # one name, another token
    assert not first.holds()
    assert not first.regain()
    first.release()
    assert second.holds()
    second.release()
    assert first.regain()
    first.release()
    assert list(tmp_path.iterdir()) == []


def test_a_run_that_another_finished_meanwhile_is_not_written_over(
    tiny_folder: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where the claim is this one's again: the other gave its own back, and the heart beat."""
    from dataclasses import replace

    from results.record import write
    from runners.runs import run as module

    def overtaken(*given: Any) -> Any:
        done = train(*given)
        write(replace(done, end="the other's"), tmp_path)
        assert list(tmp_path.glob(".claims/*.claim"))
        return done

    train = module.train
    monkeypatch.setattr(module, "train", overtaken)
    config = configure(*tiny(tiny_folder("bert"), "task=rte"), f"out={tmp_path}")
    assert run(config, []) == CLAIMED
    [record] = read_all(tmp_path)
    assert record.end == "the other's"


def test_owner_that_comes_back_has_the_run_again_when_its_successor_died(tmp_path: Path) -> None:
    first = _taken(take(tmp_path, "run", stale_after=0.4))
    first._stop.set()
    facts = json.loads(first.path.read_text())
    process = multiprocessing.get_context("fork").Process(target=_die, args=(str(tmp_path),))
    first.path.write_text(json.dumps({**facts, "pid": 2**22 + 1}))  # as if it had died
    process.start()
    process.join()
    assert not first.holds()
    assert first.regain()
    assert first.generation == 3
    first.release()
    assert list(tmp_path.iterdir()) == []


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


def _take_and_release(claim: Claim) -> None:
    try:
        assert claim.take() is None
    finally:
        claim.release()


@pytest.mark.parametrize("moment", ["_create", "_generations", "_owner", "_remove"])
def test_interruption_at_any_moment_leaves_no_claim(
    moment: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The signal comes when `moment` has done its work: while the run is taken, or given back."""
    usual, signals = getattr(lease, moment), iter([signal.SIGINT])

    def interrupted(*given: Any) -> Any:
        result = usual(*given)
        for number in signals:
            signal.raise_signal(number)
        return result

    monkeypatch.setattr(lease, moment, interrupted)
    usual_handler = signal.signal(signal.SIGINT, signal.default_int_handler)
    claim = Claim(tmp_path, "run")
    try:
        with pytest.raises(KeyboardInterrupt):
            _take_and_release(claim)
    finally:
        signal.signal(signal.SIGINT, usual_handler)
    assert next(signals, None) is None
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


@pytest.mark.usefixtures("forked_runs")
def test_eight_processes_and_forty_runs(tiny_folder: Callable[[str], Path], tmp_path: Path) -> None:
    """Eight processes that want the same forty runs: every run is done, and done once."""
    out, log = tmp_path / "runs", tmp_path / "log"
    folder = str(tiny_folder("bert"))
    workers = [forked.call(log, _work, str(out), folder, i) for i in range(8)]
    codes = [worker.wait() for worker in workers]
    said = log.read_text()
    assert codes == [0] * 8, said
    records = read_all(out)
    assert len(records) == 40
    assert {r.status for r in records} == {"finished"}
    assert {(r.methods[0], r.seed) for r in records} == {
        (method, seed) for method in ("full", "bitfit") for seed in range(1, 21)
    }
    written = re.findall(r"^record: (\S+)$", said, flags=re.MULTILINE)
    assert sorted(written) == sorted(str(out / f"{r.run}.json") for r in records)
    assert not (out / ".claims").exists()


def test_the_longest_name_of_a_run_can_be_claimed(tmp_path: Path) -> None:
    claim = Claim(tmp_path, "m" * LONGEST)
    assert claim.take() is None
    claim.release()
    with pytest.raises(UserError, match="too long"):
        Claim(tmp_path, "m" * (LONGEST + 1)).take()
