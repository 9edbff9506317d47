"""The models that label rows for a run, or say which of them stay."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from numpy.typing import NDArray

from results.errors import UserError
from runners.config.check import RunConfig
from runners.data.split import Split
from runners.exports.delta import load_delta
from runners.jobs.job import Job
from runners.models.pretrained import Loaded
from runners.tasks.collate import Collate
from runners.tasks.kind import Evaluation
from runners.tasks.kinds import kind_of
from runners.tasks.labelled import Labelled
from runners.training.start import build_model, check_left


@dataclass(frozen=True)
class Teacher:
    """A classifier on a run's device, in evaluation mode; its methods are paused.

    `name` is what a sentence on it calls it, and `job` the run that it is of.
    """

    name: str
    job: Job
    loaded: Loaded
    accelerator: Accelerator

    @property
    def model(self) -> Any:
        return self.loaded.model

    @property
    def kind(self) -> Labelled:
        kind = kind_of(self.job.config)
        assert isinstance(kind, Labelled)
        return kind

    def tokenised(self, rows: Split) -> Collate:
        """Return rows as the teacher reads them."""
        return self.kind.collator(rows, self.job, self.loaded.tokenizer, keep=False)

    def probabilities(self, collate: Collate, batch_size: int) -> NDArray[np.float64]:
        """Return what the model gives each label, [rows, labels], in the mode that it is in."""
        evaluation = Evaluation(self.accelerator, batch_size)
        outputs = self.kind.all_outputs(self.model, collate, evaluation)
        shares: NDArray[np.float64] = torch.from_numpy(outputs).double().softmax(dim=-1).numpy()
        if not np.isfinite(shares).all():
            raise UserError(f"{self.name} answers with what is no finite number")
        return shares


def load_teacher(job: Job, accelerator: Accelerator) -> Teacher:
    """Return the model of a run's teacher, of which the weights must have been kept.

    Other weights than its record names are a UserError.
    """
    teacher, key = job.teacher, f"data.{job.config.settings.data.adds}.teacher"
    assert teacher is not None
    of_files = (teacher.weights.get("sha256"), teacher.weights.get("files_sha256"))
    same = of_files == (job.weights.sha256, job.weights.files_sha256)  # where they lie is known
    path = str(job.weights.folder) if same else None
    delta = load_delta(teacher.delta(key), model_path=path, act=key)
    check_left(teacher, delta, f"{key}={teacher.run}")
    own = Job(delta.config, trains=False)
    vars(own)["weights"] = delta.weights
    return _answering(f"the teacher {delta.run}", own, delta.loaded, accelerator)


def load_untrained(job: Job, config: RunConfig, accelerator: Accelerator) -> Teacher:
    """Return the model that a run starts with, as another configuration of it prepares that."""
    own = as_it_starts(job, config)
    return _answering("the untrained model", own, build_model(own, 0), accelerator)


def as_it_starts(job: Job, config: RunConfig) -> Job:
    """Return what another configuration makes of the model that a run starts with."""
    own = Job(config, trains=False)
    vars(own).update(weights=job.weights, predecessor=job.predecessor)
    return own


def _answering(name: str, job: Job, loaded: Loaded, accelerator: Accelerator) -> Teacher:
    loaded.model.to(accelerator.device).eval()
    for method in job.config.methods:
        method.paused = True
    return Teacher(name, job, loaded, accelerator)
