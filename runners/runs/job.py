"""A job: its record before it began, and its training, whatever becomes of it."""

from __future__ import annotations

import shlex
import traceback
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from results.errors import UserError
from results.record import Record
from runners.config.check import RunConfig
from runners.data.load import describe
from runners.data.split import TaskData
from runners.models.weights import Weights


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

    from runners.runs.train import train_and_score

    try:
        return train_and_score(config, data, weights, blank, began)
    except UserError:
        raise
    except Exception as error:
        traceback.print_exc()
        from runners.machine.environment import commit

        facts: dict[str, Any] = {"type": type(error).__name__, "message": str(error)[:2000]}
        return replace(
            blank, status="failed", error=facts, environment=blank.environment or commit()
        )
