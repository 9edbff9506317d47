"""Scores a trained model that `save=delta` wrote: `python run.py eval=FOLDER`."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from results import record as records
from results.errors import UserError
from runners.config.check import RunConfig, model_path
from runners.config.settings import Data, Settings
from runners.config.task import Task
from runners.config.typed import is_typed
from runners.jobs.job import Job
from runners.machine.console import show

if TYPE_CHECKING:
    from runners.tasks.scoring import Scoring


def score(folder: str, command: RunConfig, typed: Sequence[str]) -> int:
    """Print the scores of a stored delta on its task's report splits; return the exit code.

    The task, model and budget are the stored run's; device and threads, and data or
    model.name_or_path where keys of theirs are `typed`, are the command's.
    """
    from runners.machine.device import set_threads

    set_threads(command.settings.threads)
    from runners.exports.delta import load_delta
    from runners.machine.device import choose_device, make_accelerator, make_deterministic
    from runners.runs.stored import data_of
    from runners.tasks.kinds import encode, kind_of
    from runners.tasks.scoring import Scoring

    delta = load_delta(folder, model_path=model_path(command, typed))
    settings = delta.config.settings
    if is_typed(typed, "data"):
        data = data_of(settings.data, command, typed)
        _check_cut(folder, settings, data)
        settings = settings.model_copy(update={"data": data})
    config = dataclasses.replace(delta.config, settings=settings)
    job = Job(config, trains=False, known=delta.attributes)
    accelerator = make_accelerator(choose_device(command.settings.device), job.config)
    make_deterministic()
    kind = kind_of(job.config)
    encoded = encode(kind, job, delta.loaded)
    model = delta.loaded.model.to(accelerator.device)
    scoring = Scoring(job, kind, encoded, accelerator)
    for split, metrics in scoring(model, list(job.data.report), 0).items():
        shown = [f"{k} {100 * v:.2f}" for k, v in metrics.items()]
        shown += [f"{k} {v:.2f}" for k, v in scoring.measured.get(split, {}).items()]
        show(f"{split}: {', '.join(shown)}")
    compared = _compared(folder, delta.run, scoring)
    show(f"delta of run {delta.run}, data {job.data.source}{compared}")
    return 0


def _check_cut(folder: str, stored: Settings, data: Data) -> None:
    """Refuse to report on another part of rows of which one was cut off, and trained on the rest.

    That holds of rows from one file, and of lines that are masked; data.seed cuts them.
    """
    before = stored.data.report_seed
    if data.report_seed == before or not (cut := _cut(stored.task)):
        return
    raise UserError(
        f"eval={folder} data.seed={data.seed}: task={cut} reports a part that data.seed cuts"
        f" off its rows, and the run was trained on the rest; type data.seed={before}"
    )


def _cut(task: Task) -> str | None:
    """Return the task, alone or in a mixture, that reports a part of the rows it trains on."""
    each = [task] if task.mixture is None else [*task.mixture.tasks.values()]
    names = (
        one.name
        for one in each
        if one.mlm is not None or (one.local is not None and one.local.split is not None)
    )
    return next(names, None)


def _compared(folder: str, run: str, scoring: Scoring) -> str:
    """Say whether the run's record, where it lies beside the delta, holds the same predictions."""
    path = records.record_path(Path(folder).parent, run)
    if not path.is_file():
        return ""
    stored = records.read(path).predictions
    same = stored == scoring.predictions
    return "; predictions equal the record's" if same else "; predictions differ from the record's"
