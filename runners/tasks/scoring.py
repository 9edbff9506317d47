"""Scores a model on named splits."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import numpy as np
from accelerate import Accelerator
from numpy.typing import NDArray

from runners.data.further import translation
from runners.jobs.job import Job
from runners.tasks.kind import Diverged, Encoded, Evaluation, Kind, NotFinite, Scores
from runners.tasks.metrics import load_metrics, score_split


class Scoring:
    """Scores the model on named splits, and keeps the seconds and the last predictions.

    `measured` is what else the kind of task said of each split when it was last predicted.
    """

    def __init__(
        self,
        job: Job,
        kind: Kind,
        encoded: Encoded,
        accelerator: Accelerator,
        evaluation: Evaluation | None = None,
    ) -> None:
        self.task, self.data = job.config.settings.task, job.data
        self.kind, self.encoded = kind, encoded
        size = job.config.settings.budget.eval_batch_size
        self.evaluation = evaluation or Evaluation(accelerator, size)
        self.seconds = 0.0
        self.predictions: dict[str, dict[str, list[float]]] = {}
        self.undefined: dict[str, list[str]] = {}
        self.measured: dict[str, dict[str, float]] = {}

    def __call__(self, model: Any, names: Sequence[str], step: int) -> Scores:
        """Return the metrics of each split that has answers; Diverged where one is not finite."""
        load_metrics()  # no evaluation's time
        start = time.perf_counter()
        splits = [self.data.splits()[name] for name in names]
        try:
            predicted = self.kind.predict(model, self.encoded, splits, self.evaluation)
        except NotFinite as error:
            raise Diverged(str(error), step) from None
        self.measured |= self.kind.measured()
        scores: Scores = {}
        for split in splits:
            values = self._translated(split.name, predicted[split.name])
            self.predictions[split.name] = {"predictions": self.kind.stored(values)}
            references = self.kind.references(self.encoded, split)
            if references is not None:
                self.predictions[split.name]["references"] = list(references)
                task, name = self.task.of_split(split.name)
                scores[split.name], self.undefined[split.name] = score_split(
                    task, name, values, references, split.subsets
                )
        self.seconds += time.perf_counter() - start
        return scores

    def _translated(self, split: str, values: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return answers as the task of a further set names them."""
        further = self.task.further.get(split)
        if further is None or not self.task.labels:
            return values
        return np.asarray(translation(self.task, further), np.float64)[values.astype(np.int64)]
