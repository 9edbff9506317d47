"""kind: classification. An example has one of the task's labels."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from methods.method import Batch
from runners.config.check import RunConfig
from runners.data.split import Split
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
