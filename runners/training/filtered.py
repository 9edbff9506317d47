"""Drops mined rows that a run's model, before it is trained, answers otherwise.

After van de Kar, Xia, Chen and Artetxe 2022 (MINE, arXiv 2210.14803), who filter mined rows by
zero-shot prompting of the model that they then fine-tune. The model is the run's own, as it starts,
and answers as a run of the filter's method alone does with budget.epochs=0.

Answers are kept in OUT/.mined, by a hash of all that they follow from.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from accelerate import Accelerator
from numpy.typing import NDArray

from results.errors import UserError
from results.whole import whole
from runners.config.check import RunConfig
from runners.config.places import portable_all
from runners.data.load import describe_all, filtered
from runners.data.split import Split
from runners.jobs.identity import FILTER_VERSION
from runners.jobs.job import Job
from runners.machine.console import say
from runners.training.teaching import load_untrained

FOLDER = ".mined"  # beside the records
ROWS = 64  # a batch: what shares one changes an answer's last bits, so it is no setting


def with_filtered_rows(job: Job, accelerator: Accelerator, data: dict[str, Any]) -> Job:
    """Return a run on those of its mined rows that its untrained model answers as they were mined.

    What is known of them is put into `data`, a record's.
    """
    answers, rows = job.config.zero_shot, job.data.all_mined
    if answers is None:
        return job
    assert rows is not None
    with saying_whose(answers):
        stays = _answers(job, answers, rows, accelerator) == np.asarray(rows.labels)
    kept = filtered(job.data, job.config.settings, stays.tolist())
    data["mined"] = {**portable_all(kept.mined), "filter": data["mined"]["filter"]}
    data["splits"] = describe_all(kept)
    say(f"DATA: {int(stays.sum()):,} of {len(rows):,} mined rows stay ({_key_of(answers)})")
    return job.learning_from(kept)


@contextmanager
def saying_whose(answers: RunConfig) -> Iterator[None]:
    """Say of a mistake that it is the filter's, which answers alone."""
    try:
        yield
    except UserError as error:
        raise UserError(f"{_key_of(answers)} answers alone: {error}") from None


def _key_of(answers: RunConfig) -> str:
    return f"data.mine.filter={answers.method_names[0]}"


def _answers(
    job: Job, config: RunConfig, rows: Split, accelerator: Accelerator
) -> NDArray[np.int64]:
    """Return the number of the label that each row is answered with, kept or computed."""
    path = Path(job.config.settings.out) / FOLDER / f"{_key(job, config, rows, accelerator)}.npy"
    if (kept := _read(path, len(rows))) is not None:
        return kept
    say(f"the untrained model answers {len(rows):,} mined rows")
    model = load_untrained(job, config, accelerator)
    unlabelled = Split(rows.name, rows.texts, None)
    shares = model.probabilities(model.tokenised(unlabelled), ROWS)
    answers: NDArray[np.int64] = shares.argmax(axis=1)
    path.parent.mkdir(parents=True, exist_ok=True)
    with whole(path) as temporary, temporary.open("wb") as stream:
        np.save(stream, answers)
    return answers


def _read(path: Path, rows: int) -> NDArray[np.int64] | None:
    try:
        answers: NDArray[np.int64] = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError):
        return None
    return answers if answers.shape == (rows,) else None


def _key(job: Job, config: RunConfig, rows: Split, accelerator: Accelerator) -> str:
    settings, before = config.settings, job.predecessor
    untrained = sorted(settings.model.untrained)
    parts = {
        "version": FILTER_VERSION,
        "filter": config.method_options(),
        "task": settings.task.model_dump(include={"text", "labels", *config.methods[0].reads}),
        "model": [job.weights.sha256, job.weights.files_sha256, untrained],
        "start": None if before is None else [before.run, before.sha256],
        "read": [settings.budget.max_length, settings.budget.truncate],
        "rows": rows.sha256,
        "seed": settings.seed,  # of what the checkpoint lacks
        "computed": [accelerator.device.type, config.precision, ROWS],
    }
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:16]
