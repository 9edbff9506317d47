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
from runners.tasks.collate import by_length
from runners.tasks.kind import Encoded, Evaluation
from runners.tasks.labelled import Labelled


class Classification(Labelled):
    """A logit for each label; the answer is the highest one's.

    `logits` holds by split those of the last predictions, [examples, classes], where a run is to
    keep them.
    """

    def __init__(self, config: RunConfig) -> None:
        super().__init__(config)
        self.logits: dict[str, NDArray[np.float32]] = {}
        self._batches: list[NDArray[np.float32]] = []
        self._weights: torch.Tensor | None = None  # of the classes, in the loss

    @property
    def divisible(self) -> bool:
        return self.config.settings.task.class_weights is None  # else it is a weighted mean

    def encode(self, job: Job, tokenizer: Any) -> Encoded:
        weights = class_weights(self.config.settings.task, job.data.train)
        self._weights = None if weights is None else torch.tensor(weights)
        return super().encode(job, tokenizer)

    def forward(self, model: Any, batch: Batch) -> Output:
        if self._weights is None:
            return super().forward(model, batch)
        logits = model(**{k: v for k, v in batch.items() if k != "labels"}).logits.float()
        self._weights = self._weights.to(logits.device)
        return Output(cross_entropy(logits, batch["labels"], self._weights), logits)

    def answer(self, model: Any, batch: Batch) -> torch.Tensor:
        logits = model(**batch).logits.float()
        if self.config.settings.save == "logits":
            self._batches.append(logits.cpu().numpy())
        return self.highest(logits)

    def predict(
        self, model: Any, encoded: Encoded, splits: Sequence[Split], evaluation: Evaluation
    ) -> dict[str, NDArray[np.float64]]:
        if self.config.settings.save != "logits":
            return super().predict(model, encoded, splits, evaluation)
        predicted: dict[str, NDArray[np.float64]] = {}
        for split in splits:
            self._batches = []
            predicted |= super().predict(model, encoded, [split], evaluation)
            lengths = encoded[split.name].lengths
            places = np.concatenate(list(by_length(lengths, evaluation.batch_size)))
            rows = np.concatenate(self._batches)
            self.logits[split.name] = np.empty_like(rows)
            self.logits[split.name][places] = rows
        return predicted
