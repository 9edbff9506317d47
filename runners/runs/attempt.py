"""A job's record before it begins, and its training, whatever becomes of it."""

from __future__ import annotations

import shlex
import traceback
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from results.errors import UserError
from results.record import Record
from runners.data.load import describe
from runners.jobs.identity import HARNESS_VERSION
from runners.jobs.job import Job


def now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


def blank_record(job: Job, arguments: Sequence[str]) -> Record:
    """Return the record of a run that has not begun."""
    config, data, weights = job.config, job.data, job.weights
    settings = config.settings
    complete = data.complete or {}
    return Record(
        run=job.name,
        status="failed",
        command=shlex.join(["python", "run.py", *arguments]),
        methods=list(config.method_names),
        task=settings.task.name,
        model=settings.model.name,
        seed=settings.seed,
        budget=settings.budget.name,
        protocol=settings.protocol.name,
        config={
            **settings.model_dump(),
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
        weights=weights.facts,
        environment={"harness": HARNESS_VERSION},
        start=now(),
    )


def train(job: Job, blank: Record, began: float) -> Record:
    """Return the record of the training; only a user's mistake and an interruption get past it.

    `began` is when the command did, by time.perf_counter().
    """
    from runners.runs.train import train_and_score

    try:
        return train_and_score(job, blank, began)
    except UserError:
        raise
    except Exception as error:
        traceback.print_exc()
        from runners.machine.environment import commit

        facts: dict[str, Any] = {"type": type(error).__name__, "message": str(error)[:2000]}
        return replace(
            blank, status="failed", error=facts, environment={**blank.environment, **commit()}
        )
