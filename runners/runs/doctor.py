"""A look at the data of a run that is not begun.

from runners.runs.doctor import doctor
print(*doctor("task=topics", config_dir="my_configs").lines(), sep="\\n")
"""

from __future__ import annotations

from pathlib import Path

from runners.config.check import check
from runners.config.compose import compose
from runners.jobs.job import Job
from runners.tasks.doctor import Examination, examine
from runners.tasks.kinds import encode, kind_of
from runners.training.start import build_model


def doctor(*typed: str, config_dir: str | Path | None = None) -> Examination:
    """Return what a run says of its data before it trains; `typed` is what is typed for the run.

    `config_dir` is what `--config-dir` names. What would stop the run is a UserError here too.
    """
    folder = None if config_dir is None else Path(config_dir)
    job = Job(check(compose(typed, folder)))
    kind, loaded = kind_of(job.config), build_model(job, 1)
    return examine(job, kind, encode(kind, job, loaded), loaded.tokenizer)
