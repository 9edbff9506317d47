"""Scores a trained model that `save=delta` wrote: `python run.py eval=FOLDER`."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from methods.method import TrainingText
from results import record as records
from runners.config.check import RunConfig
from runners.data.load import load_task_data

if TYPE_CHECKING:
    from runners.tasks.labelled import Scoring
    from runners.tasks.similarity import SimilarityScoring


def score(folder: str, asked: RunConfig, arguments: Sequence[str]) -> int:
    """Print the scores of a stored delta on its task's report splits; return the exit code.

    The task, model and budget are the stored run's; device and threads, and data or
    model.name_or_path where they are typed, are the command's.
    """
    from runners.config.typed import typed_model_path
    from runners.exports.delta import load_delta
    from runners.machine.device import (
        choose_device,
        make_accelerator,
        make_deterministic,
        set_threads,
    )
    from runners.tasks.kinds import make_collators, make_scoring

    set_threads(asked.settings.threads)
    delta = load_delta(folder, model_path=typed_model_path(arguments))
    settings = delta.config.settings
    if any(a.startswith(("data=", "data.")) for a in arguments):
        settings = settings.model_copy(update={"data": asked.settings.data})
    config = dataclasses.replace(delta.config, settings=settings)
    similar = settings.task.kind == "similarity"  # scored without what was trained on
    text: TrainingText = "nothing" if similar else "labelled"
    data = load_task_data(settings.task, settings.data, settings.protocol, text)
    accelerator = make_accelerator(choose_device(asked.settings.device), config)
    make_deterministic()
    collators = make_collators(config, data, delta.loaded, delta.weights)
    model = delta.loaded.model.to(accelerator.device)
    scoring = make_scoring(config, data, collators, accelerator)
    for split, found in scoring(model, list(data.report), 0).items():
        print(f"{split}: " + ", ".join(f"{k} {100 * v:.2f}" for k, v in found.items()))
    print(f"delta of run {delta.run}, data {data.source}{_compared(folder, delta.run, scoring)}")
    return 0


def _compared(folder: str, run: str, scoring: Scoring | SimilarityScoring) -> str:
    """Say whether the run's record, where it lies beside the delta, holds the same predictions."""
    path = records.record_path(Path(folder).parent, run)
    if not path.is_file():
        return ""
    stored = records.read(path).predictions
    same = stored == scoring.predictions
    return "; predictions equal the record's" if same else "; predictions differ from the record's"
