"""The model of the run that labels rows for another, or says which of them stay."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from numpy.typing import NDArray

from results.errors import UserError
from runners.data.split import Split
from runners.exports.delta import Delta, load_delta
from runners.jobs.job import Job
from runners.tasks.collate import Collate
from runners.tasks.kind import Evaluation
from runners.tasks.kinds import kind_of
from runners.tasks.labelled import Labelled


@dataclass(frozen=True)
class Teacher:
    """A trained classifier on a run's device, in evaluation mode; its methods are paused."""

    delta: Delta
    kind: Labelled
    accelerator: Accelerator

    @property
    def model(self) -> Any:
        return self.delta.loaded.model

    def tokenised(self, rows: Split) -> Collate:
        """Return rows as the teacher reads them."""
        own = Job(self.delta.config, trains=False)
        vars(own)["weights"] = self.delta.weights
        return self.kind.collator(rows, own, self.delta.loaded.tokenizer, keep=False)

    def probabilities(self, collate: Collate, batch_size: int) -> NDArray[np.float64]:
        """Return what the model gives each label, [rows, labels], in the mode that it is in."""
        evaluation = Evaluation(self.accelerator, batch_size)
        outputs = self.kind.all_outputs(self.model, collate, evaluation)
        shares: NDArray[np.float64] = torch.from_numpy(outputs).double().softmax(dim=-1).numpy()
        if not np.isfinite(shares).all():
            raise UserError(f"the teacher {self.delta.run} answers with what is no finite number")
        return shares


def load_teacher(job: Job, accelerator: Accelerator) -> Teacher:
    """Return the model of a run's teacher, of which the weights must have been kept."""
    teacher, key = job.teacher, f"data.{job.config.settings.data.adds}.teacher"
    assert teacher is not None
    same = teacher.weights.get("sha256") == job.weights.sha256  # where they lie is known then
    path = str(job.weights.folder) if same else None
    delta = load_delta(teacher.delta(key), model_path=path, act=key)
    delta.loaded.model.to(accelerator.device)
    for method in delta.config.methods:
        method.paused = True
    kind = kind_of(delta.config)
    assert isinstance(kind, Labelled)
    return Teacher(delta, kind, accelerator)
