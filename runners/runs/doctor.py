"""A look at the data of a run that is not begun.

from runners.runs.doctor import doctor
print(*doctor("task=topics", config_dir="my_configs").lines(), sep="\\n")
"""

from __future__ import annotations

from pathlib import Path

from results.errors import UserError
from results.places import expanded
from runners.config.check import check
from runners.config.compose import no_other_hydra
from runners.config.explain import compose_explained
from runners.jobs.job import Job
from runners.tasks.doctor import Examination, examine
from runners.tasks.kinds import encode, kind_of
from runners.training.start import build_model


def doctor(*typed: str, config_dir: str | Path | None = None) -> Examination:
    """Return what a run says of its data before it trains; `typed` is what is typed for the run.

    `config_dir` is what `--config-dir` names. What would stop the run is a UserError here too.
    """
    folder = None if config_dir is None else Path(expanded(str(config_dir)))
    if folder is not None and not folder.is_dir():
        raise UserError(f"config_dir={folder}: no such folder")
    with no_other_hydra():
        job = Job(check(compose_explained(typed, folder)))
    kind, loaded = kind_of(job.config), build_model(job, 1)
    return examine(job, kind, encode(kind, job, loaded), loaded.tokenizer)
