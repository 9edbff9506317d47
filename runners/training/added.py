"""Adds rows that a teacher labels, or a language model makes, to those that a run trains on."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from accelerate import Accelerator

from runners.jobs.job import Job
from runners.machine.console import say
from runners.training.generated import generated_rows
from runners.training.mixed_order import steps_order
from runners.training.pseudo import pseudo_labelled
from runners.training.schedule import total_steps


def with_added_rows(job: Job, accelerator: Accelerator, data: dict[str, Any]) -> Job:
    """Return a run with the rows that are added to its train, where it asks for some.

    A control has their number of updates instead. What is known of the rows is added to `data`, a
    record's.
    """
    settings = job.config.settings
    adds, train = settings.data.adds, job.data.train
    if adds is None:
        return job
    rows, facts = {"pseudo": pseudo_labelled, "generated": generated_rows}[adds](job, accelerator)
    data[adds] = {**data[adds], **facts}
    assert train.labels is not None
    assert rows.labels is not None
    say(f"DATA: {len(rows):,} rows are added to {len(train):,} (data.{adds})")
    joined = replace(train, texts=train.texts + rows.texts, labels=train.labels + rows.labels)
    options = settings.data.pseudo if adds == "pseudo" else settings.data.generated
    if options.control is None:
        return job.training_on(joined)
    return job.training_on(train, total_steps(settings.budget, steps_order(settings, joined)))
