"""Scores apart of rows whose attributes were all seen in training, and of the others."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from runners.data.attributes import known_values, unseen_rows
from runners.jobs.job import Job
from runners.tasks.metrics import score_split

Predictions = Mapping[str, Mapping[str, list[float]]]


def slices_of(job: Job, predictions: Predictions) -> dict[str, dict[str, Any]]:
    """Return by report split which rows are `unseen`, and the `scores` of the seen and of these.

    A row is unseen where a value of its attributes is in no row that the run trains on. A part
    without rows has no scores, nor has a metric that is undefined there.
    """
    task = job.config.settings.task
    if not task.attributes or not len(job.data.train):
        return {}
    known, slices = known_values(task, job.data.train), {}
    for name, split in job.data.report.items():
        kept = predictions.get(name, {})
        if "references" not in kept or split.attributes is None:
            continue
        theirs, own = task.of_split(name)
        unseen = unseen_rows(split.attributes, known)
        parts = {"seen": sorted({*range(len(split))} - {*unseen}), "unseen": unseen}
        scores = {}
        for part, rows in parts.items():
            if rows:
                values = np.asarray([kept["predictions"][i] for i in rows], np.float64)
                gold = [kept["references"][i] for i in rows]
                metrics, undefined = score_split(theirs, own, values, gold)
                scores[part] = {k: v for k, v in metrics.items() if k not in undefined}
        slices[name] = {"unseen": unseen, "scores": scores}
    return slices
