"""kind: classification. An example has one of the task's labels."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn.functional import cross_entropy

from methods.method import Batch, Output
from runners.config.check import RunConfig
from runners.data.class_weights import class_weights
from runners.data.split import Split
from runners.jobs.job import Job
from runners.tasks.collate import Collate
from runners.tasks.kind import Encoded, Evaluation
from runners.tasks.labelled import Labelled, read_answers


class Classification(Labelled):
    """A logit for each label; the answer is the highest one's.

    `logits` holds by split those of the last predictions, [examples, classes], where a run is to
    keep them.
    """

    def __init__(self, config: RunConfig) -> None:
        super().__init__(config)
        self.logits: dict[str, NDArray[np.float32]] = {}
        self._last: NDArray[np.float32] | None = None
        self._weights: torch.Tensor | None = None  # of the classes, in the loss

    @property
    def divisible(self) -> bool:
        return self.config.settings.task.class_weights is None  # else it is a weighted mean

    def encode(self, job: Job, tokenizer: Any) -> Encoded:
        weights = class_weights(self.config.settings.task, job.data.train)
        self._weights = None if weights is None else torch.tensor(weights)
        return super().encode(job, tokenizer)

    def forward(self, model: Any, batch: Batch) -> Output:
        criterion = self.criterion
        if self._weights is None and criterion is cross_entropy:
            return super().forward(model, batch)
        logits = model(**{k: v for k, v in batch.items() if k != "labels"}).logits.float()
        if self._weights is not None:
            self._weights = self._weights.to(logits.device)
        return Output(criterion(logits, batch["labels"], self._weights), logits)

    def _answers(self, model: Any, collate: Collate, evaluation: Evaluation) -> NDArray[np.float64]:
        if self.config.settings.save != "logits":
            return super()._answers(model, collate, evaluation)
        self._last = self.all_outputs(model, collate, evaluation)
        answers = read_answers(torch.from_numpy(self._last), self.config.settings.task)
        return answers.numpy().astype(np.float64)

    def predict(
        self, model: Any, encoded: Encoded, splits: Sequence[Split], evaluation: Evaluation
    ) -> dict[str, NDArray[np.float64]]:
        predicted: dict[str, NDArray[np.float64]] = {}
        for split in splits:
            predicted |= super().predict(model, encoded, [split], evaluation)
            if self._last is not None:
                self.logits[split.name] = self._last
        return predicted
