"""kind: multiple_choice. Each example has N options of its own, one of which is right.

Every option is read with the example's text by one encoder, and the head gives each a score; the
softmax is over an example's options (as Radford et al. 2018, section 3.3, and Devlin et al. 2019,
section 4.4, do). A task's text has one column, read as the first segment, or two: then the second
is the start of every option, as SWAG's are.

A method that lays out texts itself reads an example whole, all its options at once, and leaves
their scores.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch

from methods.method import Batch, Output
from runners.data.split import Split
from runners.jobs.job import Job
from runners.tasks.collate import Collate, Collator, ColumnCollator
from runners.tasks.labelled import Labelled
from runners.tasks.on_device import Gather, Labels
from runners.tasks.tokens import check_ends, tokenize


class OptionCollator(ColumnCollator):
    """Turns example indices into each example with each of its options, [batch, N, length]."""

    def __init__(self, options: list[Collator], labels: Any) -> None:
        super().__init__(options)
        self.labels = labels

    def shape(self, indices: Any) -> tuple[int, ...]:
        return (len(indices), len(self.columns), self.width(indices))

    def __call__(self, indices: Any, step: int = 0) -> Batch:
        """Return input_ids, attention_mask and perhaps token_type_ids; labels, [batch]."""
        batch = self._one(self.padded(indices))
        if self.labels is not None:
            batch["labels"] = torch.from_numpy(self.labels[indices])
        return batch

    def on(self, device: torch.device) -> Gather:
        each, labels = self.columns_on(device), Labels(self.labels, device)
        return lambda indices, rows: labels.beside(self._one(each(rows, self.width(indices))), rows)

    def _one(self, options: list[Batch]) -> Batch:
        return {name: torch.stack([o[name] for o in options], dim=1) for name in options[0]}


class MultipleChoice(Labelled):
    """A score for each option; the answer is the highest one's place."""

    def collator(self, split: Split, job: Job, tokenizer: Any, keep: bool = True) -> Collate:
        if self.arranged_by(self.config.settings.task.name) is not None:
            return super().collator(split, job, tokenizer, keep)
        length, left = self.config.settings.budget.max_length, tokenizer.padding_side == "left"
        options = []
        for number in range(len(self.config.settings.task.options)):
            option = self.option(split, number)
            tokens = tokenize(option, tokenizer, job.weights, length, keep=keep)
            check_ends(tokens, option, tokenizer)
            options.append(Collator(tokens, None, tokenizer.pad_token_id, left))
        return OptionCollator(options, self.labels(split))

    def option(self, split: Split, number: int) -> Split:
        """Return each example of a split with its option of this number, as a pair of texts."""
        columns = len(self.config.settings.task.text)
        pairs = [
            (texts[0], " ".join((*texts[1:columns], texts[columns + number])))
            for texts in split.texts
        ]
        return replace(split, texts=tuple(pairs))

    def forward(self, model: Any, batch: Batch) -> Output:
        logits = self.outputs(model, batch)
        return Output(self.criterion(logits, batch["labels"]), logits)

    def outputs(self, model: Any, batch: Batch) -> torch.Tensor:
        """Return the scores of each example's options, [batch, N], in float32."""
        if batch["input_ids"].dim() == 2:  # whole examples
            return super().outputs(model, {k: v for k, v in batch.items() if k != "labels"})
        options = {k: v.flatten(0, 1) for k, v in batch.items() if k != "labels"}
        scores: torch.Tensor = model(**options).logits.float()
        return scores.view(len(batch["input_ids"]), -1)
