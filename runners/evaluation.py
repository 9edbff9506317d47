"""Predicts a split: longest batches first, results in the split's own order."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray

from runners.batches import Collator, by_length

if TYPE_CHECKING:
    from accelerate import Accelerator


def predict(
    model: torch.nn.Module,
    collate: Collator,
    batch_size: int,
    regression: bool,
    accelerator: Accelerator,
) -> NDArray[np.float64]:
    """Return one prediction an example, [rows]: the class index, or the score of a regression.

    The model's training mode is put back afterwards; no random number is drawn.
    """
    was_training = model.training
    model.eval()
    found = np.empty(len(collate.tokens), dtype=np.float64)
    with torch.inference_mode():
        for indices in by_length(collate.tokens, batch_size):
            batch = {
                k: v.to(accelerator.device) for k, v in collate(indices).items() if k != "labels"
            }
            with accelerator.autocast():
                logits = model(**batch).logits.float()
            values = logits.squeeze(-1) if regression else logits.argmax(dim=-1)
            found[indices] = values.cpu().numpy()
    model.train(was_training)
    return found
