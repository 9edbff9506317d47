"""Tasks of labels and scores: collated, predicted and scored."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from accelerate import Accelerator
from numpy.typing import NDArray

from results.errors import UserError
from runners.config.check import RunConfig
from runners.data.split import Split, TaskData
from runners.models.pretrained import Loaded, count_embeddings
from runners.models.weights import Weights
from runners.tasks.collate import Collator, Labels, by_length
from runners.tasks.kind import Diverged, Scores
from runners.tasks.metrics import score_split
from runners.tasks.tokens import tokenize

if TYPE_CHECKING:
    from accelerate import Accelerator
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


class Scoring:
    """Scores the model on named splits, and keeps the seconds and the last predictions."""

    def __init__(
        self,
        config: RunConfig,
        data: TaskData,
        collators: dict[str, Collator],
        accelerator: Accelerator,
    ) -> None:
        self.task, self.budget = config.settings.task, config.settings.budget
        self.data, self.collators, self.accelerator = data, collators, accelerator
        self.seconds = 0.0
        self.predictions: dict[str, dict[str, list[float]]] = {}
        self.undefined: dict[str, list[str]] = {}

    def __call__(self, model: torch.nn.Module, splits: list[str], step: int) -> Scores:
        start = time.perf_counter()
        regression = self.task.kind == "regression"
        found: Scores = {}
        for name in splits:
            split = self.data.splits()[name]
            predicted = predict(
                model,
                self.collators[name],
                self.budget.eval_batch_size,
                regression,
                self.accelerator,
            )
            if not np.all(np.isfinite(predicted)):
                raise Diverged(f"a prediction on {name}", step)
            self.predictions[name] = {"predictions": _compact(predicted, regression)}
            if split.labels is not None:
                self.predictions[name]["references"] = list(split.labels)
                found[name], undefined = score_split(self.task, name, predicted, split.labels)
                self.undefined[name] = undefined
        self.seconds += time.perf_counter() - start
        return found


def _compact(predicted: Any, regression: bool) -> list[float]:
    return [float(f"{p:.9g}") for p in predicted] if regression else [int(p) for p in predicted]


def _collator(
    split: Split, loaded: Loaded, weights: Weights, max_length: int, regression: bool
) -> Collator:
    tokens = tokenize(split, loaded.tokenizer, weights, max_length)
    highest = int(tokens.input_ids.max())
    rows = count_embeddings(loaded.model)
    if highest >= rows:
        raise UserError(
            f"model {weights.name_or_path}: its tokenizer gives token ids up to {highest}, its"
            f" embedding has {rows} rows; the two do not belong together"
        )
    labels: Labels | None = None
    if split.labels is not None and regression:
        labels = np.asarray(split.labels, dtype=np.float32)
    elif split.labels is not None:
        labels = np.asarray(split.labels, dtype=np.int64)
    tokenizer = loaded.tokenizer
    assert isinstance(tokenizer.pad_token_id, int)
    return Collator(tokens, labels, tokenizer.pad_token_id, tokenizer.padding_side == "left")
