"""kind: classification. An example has one of the task's labels."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from runners.config.check import RunConfig
from runners.data.split import Split
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
