"""Minutes of random kills, duplicates and bad files against a board, and an audit of what is left.

python -m tests.soak [--minutes 10]: prints runs asked, records whole, lost, doubled and differing
from uninterrupted runs; the exit code is 0 when the last three are 0.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

from results.record import Record, read_all
from tests.tiny import save_tiny

ROOT = Path(__file__).resolve().parent.parent
BOARD = [
    "board=smoke",
    "board.methods=[full,bitfit,child_tuning_f,hype]",
    "board.seeds=[1,2,3]",
    "workers=2",
    "threads=1",
    "device=cpu",
    "budget.steps=60",
    "budget.evaluate=20",
    "checkpoint.steps=5",
]
RUNS = 12
SAME = ("scores", "evaluations", "predictions", "losses", "initial_sha256", "trained_sha256")


def board(model: Path, out: Path) -> subprocess.Popen[bytes]:
    """Start the board in a process of its own."""
    command = [sys.executable, "run.py", *BOARD, f"model.name_or_path={model}", f"out={out}"]
    quiet = subprocess.DEVNULL
    return subprocess.Popen(command, cwd=ROOT, stdout=quiet, stderr=quiet)


def outcome(record: Record) -> dict[str, Any]:
    """Return what must be equal to the bit."""
    return {name: getattr(record, name) for name in SAME}


def claimants(out: Path) -> list[int]:
    """Return the processes that hold claims."""
    found = []
    for path in out.glob(".claims/*.claim"):
        try:
            found.append(int(json.loads(path.read_text())["pid"]))
        except (OSError, ValueError, KeyError):
            continue
    return found


def disturb(out: Path, boards: list[subprocess.Popen[bytes]], rng: random.Random) -> str:
    """Do one bad thing; return its name."""
    deed = rng.choice(["kill a run", "kill a run", "kill a board", "cut a checkpoint", "bad files"])
    if deed == "kill a run" and (found := claimants(out)):
        try:
            os.kill(rng.choice(found), signal.SIGKILL)
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
    for _ in range(20):
        for process in boards:
            process.wait()
        if len(read_all(out, [])) == RUNS:
            return
        boards = [board(model, out)]


def main() -> int:
    """Disturb boards for a while; audit them; return 0 when nothing was lost."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args()
    rng, deeds = random.Random(asked.seed), Counter[str]()
    totals: Counter[str] = Counter()
    with tempfile.TemporaryDirectory() as temporary:
        place = Path(temporary)
        model = save_tiny("bert", place / "model")
        if board(model, place / "undisturbed").wait() != 0:
            command = " ".join(["python run.py", *BOARD])
            print(f"the undisturbed board fails; try it with a model of yours: {command}")
            return 1
        expected = {r.run: outcome(r) for r in read_all(place / "undisturbed")}
        assert len(expected) == RUNS
        end = time.monotonic() + 60 * asked.minutes
        rounds = 0
        while time.monotonic() < end:
            rounds += 1
            out = place / f"round{rounds}"
            round_of(model, out, rng, deeds)
            found = {r.run: outcome(r) for r in read_all(out, [])}
            written = Counter(
                path.stem
                for path in out.glob(".logs/*.log")
                for line in path.read_text(errors="replace").splitlines()
                if line.startswith("record: ")
            )
            totals["asked"] += RUNS
            totals["whole"] += len(found)
            totals["lost"] += len(set(expected) - set(found))
            totals["doubled"] += sum(n > 1 for n in written.values())
            totals["differing"] += sum(expected.get(run) != what for run, what in found.items())
            print(f"round {rounds}: {dict(totals)}", flush=True)
    print("deeds: " + ", ".join(f"{name} {n}" for name, n in sorted(deeds.items())))
    print(
        f"runs asked {totals['asked']}, records whole {totals['whole']}, lost {totals['lost']},"
        f" doubled {totals['doubled']}, differing {totals['differing']}"
    )
    return int(any(totals[name] for name in ("lost", "doubled", "differing")))


if __name__ == "__main__":
    sys.exit(main())
