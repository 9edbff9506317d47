"""Builds the models of a chain, untrained, so that what does not fit is known before it begins."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from results.errors import UserError
from runners.config.unlabelled import STAGE
from runners.jobs.job import Job
from runners.models.pretrained import Loaded
from runners.training.filtered import saying_whose
from runners.training.pseudo import check_dropout
from runners.training.start import Left, build_model, left_in
from runners.training.teaching import as_it_starts


def rehearse(jobs: Sequence[Job]) -> None:
    """Build the model of each run as the one before it leaves it; what does not fit is a UserError.

    Of the last of two runs of which the first is its teacher, the teacher is looked at.
    """
    before: Loaded | None = None
    for number, job in enumerate(jobs, 1):
        data = job.config.settings.data
        with _of_stage(number, jobs):
            if before is not None and data.pseudo.teacher == STAGE:
                check_dropout(before.model, data.pseudo.passes)
            starts = before is not None and data.teacher != STAGE
            earlier = jobs[number - 2].config.methods
            left = left_in(before, f"stage {number - 1}", earlier) if before and starts else None
            before = _built(job, left)


def _built(job: Job, left: Left | None) -> Loaded:
    answers = job.config.zero_shot
    if answers is not None:
        with saying_whose(answers):
            build_model(as_it_starts(job, answers), 0, left)
    return build_model(job, 1, left)


@contextmanager
def _of_stage(number: int, jobs: Sequence[Job]) -> Iterator[None]:
    """Say of which stage a mistake is."""
    try:
        yield
    except UserError as error:
        task = jobs[number - 1].config.settings.task.name
        raise UserError(f"stage {number} of {len(jobs)}, task={task}: {error}") from None
