"""One run: check, name, skip if it is done, else train, and write the record."""

from __future__ import annotations

import shlex
import sys
import time
import traceback
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from results import record as records
from results.errors import UserError
from results.record import Record
from results.table import one_run
from runners.claims import Claim, take
from runners.config import RunConfig, Settings
from runners.data import describe, load_task_data
from runners.environment import set_threads
from runners.examples import TaskData
from runners.identity import run_name
from runners.weights import Weights, find_weights

FINISHED, NOT_FINISHED, CLAIMED = 0, 1, 3


def run(config: RunConfig, arguments: Sequence[str]) -> int:
    """Do one run, or print its stored result; return the exit code.

    Mistakes raise UserError, before training. Where another process does this very run, it is left
    to it.

    A failure while training becomes a record of status failed, a loss that is not finite one of
    status diverged.
    """
    began = time.perf_counter()
    settings = config.settings
    if settings.eval is not None:
        from runners.score import score

        return score(settings.eval, config, arguments)
    if settings.verify is not None:
        from runners.verify import verify

        return verify(settings.verify, config, arguments)
    if settings.embed is not None:
        from runners.vectors import embed_file

        return embed_file(config, arguments)
    folder = Path(settings.out)
    records.check_writable(folder)
    weights = find_weights(settings.model)
    data = load_task_data(settings.task, settings.data, settings.protocol, config.training_text)
    if data.source == "embedded":
        say(
            f"DATA: EMBEDDED, generated English in the shape of {settings.task.name}, not GLUE"
            f" ({data.reason})"
        )
    name = run_name(config, data, weights)
    path = records.record_path(folder, name)
    found = _stored(path, settings)
    if found is not None:
        return found
    set_threads(settings.threads)
    claim = take(folder, name)
    if not isinstance(claim, Claim):
        who = f"process {claim.get('pid')} on {claim.get('host')} since {claim.get('since')}"
        say(f"{name} is being done by {who}; nothing is left to do here")
        return CLAIMED
    try:
        found = _stored(path, settings)  # another process may have done it in the meantime
        if found is not None:
            return found
        if settings.force:
            _discard_checkpoints(folder, name)
        blank = blank_record(config, data, weights, name, arguments)
        done = train(config, data, weights, blank, began)
        done = replace(done, whole_seconds=round(time.perf_counter() - began, 3), end=_now())
        if not claim.holds():
            say(f"another process took {name} over while this one stood still; its record stands")
            return CLAIMED
        written = records.write(done, folder)
        if done.status in records.DONE:
            _discard_checkpoints(folder, name)
    finally:
        claim.release()
    _print_result(done, f"record: {written}")
    return FINISHED if done.status == "finished" else NOT_FINISHED


def _stored(path: Path, settings: Settings) -> int | None:
    """Print the stored result of a run that need not be done again; None where it must be."""
    if settings.force or not path.exists():
        return None
    stored = records.read(path)
    lacks = settings.save is not None and not path.with_suffix(f".{settings.save}").is_dir()
    if stored.status == "finished" and lacks:
        say(f"{path} is finished but was run without save={settings.save}: it runs again for that")
        return None
    if stored.status not in records.DONE:
        return None
    _print_result(stored, f"stored result of {path}; force=true runs it again")
    return FINISHED if stored.status == "finished" else NOT_FINISHED


def _print_result(record: Record, line: str) -> None:
    """Print a run's result and its last line at once, so that runs with one log mix no lines."""
    print(f"{one_run(record)}\n{line}\n", end="", flush=True)


def say(line: str) -> None:
    """Print a line about the course of a run, apart from its result."""
    print(line, file=sys.stderr, flush=True)


def _discard_checkpoints(folder: Path, name: str) -> None:
    from runners.checkpoint import Checkpoints

    Checkpoints(folder, name, say).remove()


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


def blank_record(
    config: RunConfig, data: TaskData, weights: Weights, name: str, arguments: Sequence[str]
) -> Record:
    """Return the record of a run that has not begun."""
    settings = config.settings
    complete = data.complete or {}
    return Record(
        run=name,
        status="failed",
        command=shlex.join(["python", "run.py", *arguments]),
        methods=list(config.method_names),
        task=settings.task.name,
        model=settings.model.name,
        seed=settings.seed,
        budget=settings.budget.name,
        protocol=settings.protocol.name,
        config={
            **settings.model_dump(
                exclude={
                    *("out", "force", "save", "eval", "verify", "embed", "text"),
                    *("threads", "checkpoint"),
                }
            ),
            "method": config.method_options(),
            "lr": config.lr,
            "precision": config.precision,
        },
        data={
            "source": data.source,
            "reason": data.reason,
            "revision": data.revision,
            "splits": {n: describe(s, complete.get(n)) for n, s in data.splits().items()},
            **({} if data.text is None else {"text": data.text}),
        },
        weights={
            "name_or_path": weights.name_or_path,
            "revision": weights.revision,
            "sha256": weights.sha256,
            "files_sha256": weights.files_sha256,
        },
        start=_now(),
    )


def train(
    config: RunConfig, data: TaskData, weights: Weights, blank: Record, began: float
) -> Record:
    """Return the record of the training; only a user's mistake and an interruption get past it."""
    from runners.training import train_and_score

    try:
        return train_and_score(config, data, weights, blank, began)
    except UserError:
        raise
    except Exception as error:
        traceback.print_exc()
        from runners.environment import commit

        facts: dict[str, Any] = {"type": type(error).__name__, "message": str(error)[:2000]}
        return replace(
            blank, status="failed", error=facts, environment=blank.environment or commit()
        )
