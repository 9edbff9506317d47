"""kind: masked_lm. Some tokens of a line are masked, and are to be predicted.

A line has other masks each time that it is trained on, drawn from the run's seed and the step. Of
lines that are scored the same single tokens are masked in every run, by [MASK] in 80 % of cases,
whatever is trained on, so that numbers compare. The loss is the mean over all masked tokens of a
batch, and the head is computed for these alone. Perplexity is exp of the mean over a split.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn.functional import cross_entropy

from methods.method import Batch, Output
from results.errors import UserError
from runners.config.check import RunConfig
from runners.data.split import Split, TaskData
from runners.jobs.job import Job
from runners.seeds import derive
from runners.tasks.collate import Collator, by_length
from runners.tasks.doctor import readings_by_split
from runners.tasks.kind import Encoded, Evaluation, NotFinite, Reading
from runners.tasks.labelled import criterion_of
from runners.tasks.masking import Ids, Masking, single_units
from runners.tasks.tokens import Tokens, tokenize
from runners.tasks.words import similar_words, word_units

IGNORED = -100  # what transformers, too, puts where nothing is to be predicted
MOST = 90.0  # a record holds no number as large as exp of more


@dataclass(frozen=True)
class MaskedCollator:
    """Turns indices of lines into masked lines; `stream` draws the masks of a line at a step."""

    lines: Collator
    units: Sequence[Ids]
    masking: Masking
    stream: Callable[[int, Ids, int], np.random.Generator]
    groups: None = None

    @property
    def lengths(self) -> NDArray[np.int64]:
        return self.lines.lengths

    @property
    def token_ids(self) -> Sequence[NDArray[np.int32]]:
        put = np.append(self.masking.others, self.masking.mask_id).astype(np.int32)
        return [*self.lines.token_ids, put]

    @property
    def token_columns(self) -> Sequence[Tokens]:
        return self.lines.token_columns

    @property
    def pad_id(self) -> int:
        return self.lines.pad_id

    def shape(self, indices: NDArray[np.int64]) -> tuple[int, ...]:
        return self.lines.shape(indices)

    def padded_to(self, multiple: int) -> Self:
        return replace(self, lines=self.lines.padded_to(multiple))

    def on(self, device: torch.device) -> None:
        return None

    def ids(self, index: int) -> Ids:
        """Return the tokens of a line."""
        tokens = self.lines.tokens
        return tokens.input_ids[tokens.offsets[index] : tokens.offsets[index + 1]].astype(np.int64)

    def masked(self, index: int, step: int = 0) -> tuple[Ids, NDArray[np.bool_]]:
        """Return the tokens of a line as they are read at a step, and which are to be predicted."""
        ids = self.ids(index)
        return self.masking(ids, self.units[index], self.stream(index, ids, step))

    def __call__(self, indices: NDArray[np.int64], step: int = 0) -> Batch:
        """Return what `lines` does, masked; and, [batch, length], what is masked and the labels."""
        batch = self.lines(indices)
        ids, present = batch["input_ids"].numpy(), batch["attention_mask"].numpy().astype(bool)
        labels, masked = np.full_like(ids, IGNORED), np.zeros_like(present)
        for row, index in enumerate(indices):
            replaced, chosen = self.masked(int(index), step)
            places = np.flatnonzero(present[row])
            labels[row, places[chosen]] = ids[row, places[chosen]]
            masked[row, places] = chosen
            ids[row, places] = replaced
        return {**batch, "masked": torch.from_numpy(masked), "labels": torch.from_numpy(labels)}


class MaskedLM:
    """Predicts the tokens that were masked in lines of text."""

    evaluates: ClassVar[Literal["when due", "at the end"]] = "when due"
    evaluates_start: ClassVar[bool] = True
    divisible: ClassVar[bool] = False  # lines have unlike numbers of masked tokens
    needs_model: ClassVar[bool] = False
    hinders_capture: ClassVar[str] = "batches have unlike numbers of masked tokens"

    def __init__(self, config: RunConfig) -> None:
        self.config = config
        self._measured: dict[str, dict[str, float]] = {}

    def encode(self, job: Job, tokenizer: Any) -> Encoded:
        """Tokenise every split; a run in which nothing can be masked is a UserError."""
        budget, encoded = self.config.settings.budget, {}
        special = np.asarray(tokenizer.all_special_ids, dtype=np.int64)
        others = np.setdiff1d(np.arange(len(tokenizer)), special)
        plain = Masking(tokenizer.mask_token_id, others)
        for name, split in job.data.splits().items():
            tokens = tokenize(split, tokenizer, job.weights, budget.max_length, budget.truncate)
            left = tokenizer.padding_side == "left"
            lines = Collator(tokens, None, tokenizer.pad_token_id, left)
            flat = tokens.input_ids.astype(np.int64)
            rows = np.split(flat, tokens.offsets[1:-1])
            units = [single_units(ids, special) for ids in rows]
            if not any((unit >= 0).any() for unit in units):
                raise UserError(
                    f"task={self.config.settings.task.name}: not one token of {name} can be masked"
                    f" at budget.max_length={budget.max_length}: each is a special one"
                )
            if name != "train":
                encoded[name] = MaskedCollator(lines, units, plain, _fixed)
                continue
            masking = self._masking(plain, job, tokenizer, flat)
            units = self._units(units, split, tokenizer)
            encoded[name] = MaskedCollator(lines, units, masking, self._drawn)
        return encoded

    def _units(self, single: list[Ids], split: Split, tokenizer: Any) -> list[Ids]:
        """Return what is masked as one in each line to train on."""
        masked, budget = self.config.settings.task.mlm, self.config.settings.budget
        assert masked is not None
        if masked.mask == "token":
            return single
        texts = [line for (line,) in split.texts]
        words = word_units(texts, tokenizer, budget.max_length, budget.truncate, masked.mask)
        return [np.where(unit < 0, unit, word) for unit, word in zip(single, words, strict=True)]

    def _masking(self, plain: Masking, job: Job, tokenizer: Any, ids: Ids) -> Masking:
        masked = self.config.settings.task.mlm
        assert masked is not None
        similar = None
        if masked.mask == "macbert":
            similar = similar_words(np.unique(ids), tokenizer, job.weights)
        return Masking(plain.mask_id, plain.others, similar, masked.probability)

    def _drawn(self, index: int, ids: Ids, step: int) -> np.random.Generator:
        seed = derive(self.config.settings.seed, f"mask {step} {index}")
        return np.random.Generator(np.random.PCG64(seed))

    def readings(self, data: TaskData, encoded: Encoded) -> list[Reading]:
        return readings_by_split(self.config.settings.task, data, encoded)

    def forward(self, model: Any, batch: Batch) -> Output:
        """Return the mean loss over the masked tokens, and their logits, [masked, vocabulary]."""
        logits = self.logits(model, batch)
        labels = batch["labels"][batch["masked"]]
        criterion = criterion_of(self.config.methods)
        loss = criterion(logits, labels, reduction="sum") / max(1, len(labels))
        return Output(loss, logits)

    def losses(self, model: Any, batch: Batch) -> torch.Tensor | None:
        return None  # the mean is over the masked tokens of all lines

    def answer(self, model: Any, batch: Batch) -> torch.Tensor:
        """Return the likeliest token at each masked place, [masked]."""
        return self.logits(model, batch).argmax(dim=-1)

    def logits(self, model: Any, batch: Batch) -> torch.Tensor:
        """Return the logits at the masked places, [masked, vocabulary], in float32."""
        inputs = {k: v for k, v in batch.items() if k not in ("masked", "labels")}
        with _states_of(model, batch["masked"]):
            logits: torch.Tensor = model(**inputs).logits.float()
        return logits.squeeze(0)

    def predict(
        self, model: Any, encoded: Encoded, splits: Sequence[Split], evaluation: Evaluation
    ) -> dict[str, NDArray[np.float64]]:
        was_training = model.training
        model.eval()
        predicted = {}
        for split in splits:
            collate = encoded[split.name]
            assert isinstance(collate, MaskedCollator)
            tokens, losses = self._predicted(model, collate, evaluation)
            loss = float(losses.mean())
            if not math.isfinite(loss) or loss > MOST:
                raise NotFinite(f"the loss on {split.name}")
            self._measured[split.name] = {"perplexity": float(f"{math.exp(loss):.9g}")}
            predicted[split.name] = tokens
        model.train(was_training)
        return predicted

    def _predicted(
        self, model: Any, collate: MaskedCollator, evaluation: Evaluation
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return prediction and negative log-likelihood of each masked token, in their order."""
        device = evaluation.accelerator.device
        lines: dict[int, tuple[Any, Any]] = {}
        with torch.inference_mode():
            for indices in by_length(collate.lengths, evaluation.batch_size):
                batch = {k: v.to(device) for k, v in collate(indices).items()}
                with evaluation.accelerator.autocast():
                    logits = self.logits(model, batch)
                labels = batch["labels"][batch["masked"]]
                losses = cross_entropy(logits, labels, reduction="none").double().cpu().numpy()
                tokens = logits.argmax(dim=-1).double().cpu().numpy()
                ends = np.cumsum(batch["masked"].sum(dim=1).cpu().numpy())[:-1]
                each = zip(np.split(tokens, ends), np.split(losses, ends), strict=True)
                lines |= dict(zip(indices.tolist(), each, strict=True))
        ordered = [lines[i] for i in range(len(lines))]
        return np.concatenate([t for t, _ in ordered]), np.concatenate([x for _, x in ordered])

    def references(self, encoded: Encoded, split: Split) -> Sequence[float] | None:
        """Return the tokens that were masked, line by line."""
        collate = encoded[split.name]
        assert isinstance(collate, MaskedCollator)
        rows = range(len(collate.units))
        return [int(t) for i in rows for t in collate.ids(i)[collate.masked(i)[1]]]

    def measured(self) -> dict[str, dict[str, float]]:
        """Return the perplexity of each split that was predicted last."""
        return self._measured

    def stored(self, predicted: NDArray[np.float64]) -> list[float]:
        return [int(p) for p in predicted]


def _fixed(index: int, ids: Ids, step: int) -> np.random.Generator:
    """Return a stream that depends on a line's tokens and on nothing else."""
    tokens = hashlib.sha256(ids.tobytes()).hexdigest()
    return np.random.Generator(np.random.PCG64(derive(0, f"held out {tokens}")))


@contextmanager
def _states_of(model: Any, places: torch.Tensor) -> Iterator[None]:
    """Let the head be given the encoder's states at some places only, [1, places, width]."""

    def narrow(module: torch.nn.Module, inputs: Any, output: Any) -> Any:
        output.last_hidden_state = output.last_hidden_state[places].unsqueeze(0)
        return output

    handle = model.base_model.register_forward_hook(narrow)
    try:
        yield
    finally:
        handle.remove()
