"""kind: classification. An example has one of the task's labels."""

from __future__ import annotations

from typing import Any

import torch

from methods.method import Batch
from runners.tasks.labelled import Labelled


class Classification(Labelled):
    """A logit for each label; the answer is the highest one's."""

    def answer(self, model: Any, batch: Batch) -> torch.Tensor:
        return self.highest(model(**batch).logits.float())
