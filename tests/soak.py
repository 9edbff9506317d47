"""Minutes of random kills, duplicates and bad files against a board, and an audit of what is left.

python -m tests.soak [--minutes 10] [--only PART ...]: first each part once (PARTS says which there
are), then boards for so many minutes. Prints what was asked, whole, lost, doubled, differing from
uninterrupted runs, and believed though damaged; the exit code is 0 when the last four are 0.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from results.errors import UserError
from results.record import Record, read, read_all
from tests.tiny import save_tiny

ROOT = Path(__file__).resolve().parent.parent
OF_RUNS = ("threads=1", "device=cpu", "budget.steps=60", "budget.evaluate=20", "checkpoint.steps=5")
BOARD = [
    "board=smoke",
    "board.methods=[full,bitfit,child_tuning_f,hype]",
    "board.seeds=[1,2,3]",
    "workers=2",
    *OF_RUNS,
]
RUNS = 12
SAME = ("scores", "evaluations", "predictions", "losses", "initial_sha256", "trained_sha256")
BAD = ("lost", "doubled", "differing", "believed")
ISOLATED = ("unshare", "--pid", "--fork", "--kill-child", "--mount-proc")
# run.py with claims that are stale after some seconds, so that a part need not last minutes.
IMPATIENT = """
import sys
from runners.runs import lease
begin = lease.Claim.__init__
begin.__defaults__ = tuple(8.0 if d == lease.STALE_AFTER else d for d in begin.__defaults__)
from runners.command import main
sys.exit(main())
"""
Process = subprocess.Popen[bytes]


def board(model: Path, out: Path, isolated: bool = False) -> Process:
    """Start the board in a process of its own, or in a name space of process numbers as well."""
    command = [sys.executable, "run.py", *BOARD, f"model.name_or_path={model}", f"out={out}"]
    quiet = subprocess.DEVNULL
    before = ISOLATED if isolated else ()
    return subprocess.Popen([*before, *command], cwd=ROOT, stdout=quiet, stderr=quiet)


def contestant(model: Path, out: Path, number: int, isolated: bool) -> Process:
    """Start a process that wants the same run as the others; it leaves others' claims soon."""
    given = [
        *("method=bitfit", "task=rte", "seed=1", "budget=smoke", "data=embedded"),
        *("data.train_size=64", "data.eval_size=40", "data.balanced=all", *OF_RUNS),
        *("budget.steps=400", f"model.name_or_path={model}", f"out={out}"),
    ]
    before = ISOLATED if isolated else ()
    with (out.parent / f"{out.name}.{number}.log").open("ab") as log:
        command = [*before, sys.executable, "-c", IMPATIENT, *given]
        return subprocess.Popen(command, cwd=ROOT, stdout=log, stderr=log)


def outcome(record: Record) -> dict[str, Any]:
    """Return what must be equal to the bit."""
    return {name: getattr(record, name) for name in SAME}


def claimants(out: Path) -> list[int]:
    """Return the processes that hold claims."""
    numbers = []
    for path in out.glob(".claims/*.claim"):
        try:
            numbers.append(int(json.loads(path.read_text())["pid"]))
        except (OSError, ValueError, KeyError):
            continue
    return numbers


def disturb(out: Path, boards: list[Process], rng: random.Random) -> str:
    """Do one bad thing; return its name."""
    deed = rng.choice(["kill a run", "kill a run", "kill a board", "cut a checkpoint", "bad files"])
    if deed == "kill a run" and (holders := claimants(out)):
        try:
            os.kill(rng.choice(holders), signal.SIGKILL)
        except ProcessLookupError:
            deed = "nothing to kill"
    elif deed == "kill a board":
        rng.choice(boards).kill()
    elif deed == "cut a checkpoint":
        for path in out.glob(".checkpoints/*/step-*.safetensors"):
            try:
                os.truncate(path, path.stat().st_size // 2)
            except FileNotFoundError:
                continue
    elif deed == "bad files" and out.is_dir():
        (out / f"junk{rng.randrange(5)}.json").write_text('{"schema_version": 1, "run":')
        (out / ".claims").mkdir(exist_ok=True)
        (out / ".claims" / f"junk{rng.randrange(5)}.000001.claim").write_bytes(b"\x80\x04")
        for folder in out.glob(".checkpoints/*"):
            try:
                (folder / "step-000000059.safetensors").write_bytes(b"\x80\x04K\x01.")
            except FileNotFoundError:
                continue
    return deed


def round_of(model: Path, out: Path, rng: random.Random, deeds: Counter[str]) -> None:
    """Let two boards work on one folder under disturbance, until it is complete."""
    boards = [board(model, out) for _ in range(2)]
    for _ in range(8):
        time.sleep(rng.uniform(0.5, 6))
        deeds[disturb(out, boards, rng)] += 1
        boards = [b if b.poll() is None else board(model, out) for b in boards]
    complete(model, out, boards)


def complete(model: Path, out: Path, boards: list[Process]) -> None:
    """Wait for boards, and start others as long as a run is missing."""
    for _ in range(20):
        for process in boards:
            process.wait()
        if out.is_dir() and len(read_all(out, [])) == RUNS:
            return
        boards = [board(model, out)]


def printed(logs: Sequence[Path]) -> Counter[str]:
    """Return how often each run was said to have left a record."""
    lines = [line for path in logs for line in path.read_text(errors="replace").splitlines()]
    files = [line.split()[1].rstrip(";") for line in lines if line.startswith("record: ")]
    return Counter(Path(file).stem for file in files)


def audit(out: Path, expected: dict[str, Any], written: Counter[str]) -> Counter[str]:
    """Return what became of the runs that were expected in a folder."""
    there = {r.run: outcome(r) for r in read_all(out, [])}
    return Counter(
        asked=len(expected),
        whole=len(there),
        lost=len(set(expected) - set(there)),
        doubled=sum(n > 1 for n in written.values()),
        differing=sum(expected.get(run) != what for run, what in there.items()),
    )


def folders(model: Path, place: Path, expected: dict[str, Any], rng: random.Random) -> Counter[str]:
    """Remove claims, and all that is there, under two running boards.

    What was done before the folder of records vanished is done again, so doubles are not counted.
    """
    out = place / "folders"
    boards = [board(model, out) for _ in range(2)]
    for folder in (".claims", ".claims", "", ".claims", ""):
        time.sleep(rng.uniform(3, 6))
        shutil.rmtree(out / folder, ignore_errors=True)
        boards = [b if b.poll() is None else board(model, out) for b in boards]
    complete(model, out, boards)
    return audit(out, expected, Counter())


def contest(
    model: Path, out: Path, isolated: bool, rng: random.Random, act: Callable[[Process], None]
) -> Counter[str]:
    """Let three processes want one run, and one of them be disturbed; audit what is left."""
    out.mkdir()
    alone = out.parent / f"{out.name}-alone"
    contestant(model, alone, 0, False).wait()
    expected = {r.run: outcome(r) for r in read_all(alone)}
    assert len(expected) == 1
    first = contestant(model, out, 1, isolated)
    while not list(out.glob(".claims/*.claim")):
        assert first.poll() is None
        time.sleep(0.05)
    time.sleep(rng.uniform(0.2, 1.0))
    # One that meets a claim leaves; with so many tries, somebody meets a stale one.
    act(first)
    others: list[Process] = []
    for number in range(2, 30):
        others = [contestant(model, out, number, isolated)]
        codes = [process.wait() for process in others]
        if codes == [0]:
            break
    if first.poll() is None:
        first.send_signal(signal.SIGCONT)
    first.wait()
    return audit(out, expected, printed(sorted(out.parent.glob(f"{out.name}.*.log"))))


def stopped(model: Path, place: Path, expected: dict[str, Any], rng: random.Random) -> Counter[str]:
    """Stop an owner until another has done its run, and let it go on."""
    total = Counter[str]()
    for number in range(2):
        stop = lambda process: process.send_signal(signal.SIGSTOP)  # noqa: E731
        total += contest(model, place / f"stopped{number}", False, rng, stop)
    return total


def namespaces(
    model: Path, place: Path, expected: dict[str, Any], rng: random.Random
) -> Counter[str]:
    """Let two boards with process numbers of their own share a folder, and kill an owner there."""
    if subprocess.run([*ISOLATED, "true"], capture_output=True, check=False).returncode:
        print("namespaces: skipped, as unshare is not permitted here", flush=True)
        return Counter()
    out = place / "namespaces"
    for process in [board(model, out, isolated=True) for _ in range(2)]:
        process.wait()
    complete(model, out, [])
    total = audit(out, expected, printed(sorted(out.glob(".logs/*.log"))))
    return total + contest(model, place / "killed", True, rng, lambda process: process.kill())


def bits(model: Path, place: Path, expected: dict[str, Any], rng: random.Random) -> Counter[str]:
    """Hit records by single bits; none is believed that says something else."""
    total, folder = Counter[str](), place / "bits"
    shutil.copytree(place / "undisturbed", folder)
    for path in sorted(folder.glob("*.json")):
        raw, before = path.read_bytes(), read(path)
        for _ in range(500):
            hit = bytearray(raw)
            bit = rng.randrange(8 * len(raw))
            hit[bit // 8] ^= 1 << bit % 8
            path.write_bytes(hit)
            total["asked"] += 1
            try:
                total["believed"] += read(path) != before
            except UserError as error:
                total["refused"] += path.name in str(error)
    # Tables name them all, and a board leaves them where they lie.
    left = {path: path.read_bytes() for path in folder.glob("*.json")}
    tables = [sys.executable, "-m", "results", str(folder)]
    done = subprocess.run(tables, cwd=ROOT, capture_output=True, text=True)
    total["believed"] += done.returncode != 0 or "Traceback" in done.stderr
    board(model, folder).wait()
    total["lost"] += sum(path.read_bytes() != raw for path, raw in left.items())
    return total


PARTS = {"folders": folders, "stopped": stopped, "namespaces": namespaces, "bits": bits}


def boards_for(
    minutes: float, model: Path, place: Path, expected: dict[str, Any], rng: random.Random
) -> Counter[str]:
    """Disturb boards for so many minutes; return the sum of the audits."""
    total, deeds, rounds = Counter[str](), Counter[str](), 0
    end = time.monotonic() + 60 * minutes
    while time.monotonic() < end:
        rounds += 1
        out = place / f"round{rounds}"
        round_of(model, out, rng, deeds)
        total += audit(out, expected, printed(sorted(out.glob(".logs/*.log"))))
        print(f"round {rounds}: {dict(total)}", flush=True)
    print("deeds: " + ", ".join(f"{name} {n}" for name, n in sorted(deeds.items())))
    return total


def main() -> int:
    """Do the parts and disturb boards for a while; return 0 when nothing was lost."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", nargs="*", choices=PARTS, default=list(PARTS))
    options = parser.parse_args()
    rng, total = random.Random(options.seed), Counter[str]()
    with tempfile.TemporaryDirectory() as temporary:
        place = Path(temporary)
        model = save_tiny("bert", place / "model")
        if board(model, place / "undisturbed").wait() != 0:
            command = " ".join(["python run.py", *BOARD])
            print(f"the undisturbed board fails; try it with a model of yours: {command}")
            return 1
        expected = {r.run: outcome(r) for r in read_all(place / "undisturbed")}
        assert len(expected) == RUNS
        for name in options.only:
            began = time.monotonic()
            counts = PARTS[name](model, place, expected, rng)
            total += counts
            print(f"{name}: {dict(counts)}, {time.monotonic() - began:.0f} seconds", flush=True)
        total += boards_for(options.minutes, model, place, expected, rng)
    print(", ".join(f"{name} {total[name]}" for name in ("asked", "whole", *BAD)))
    return int(any(total[name] for name in BAD))


if __name__ == "__main__":
    sys.exit(main())
