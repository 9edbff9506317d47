"""kind: multitask. Several tasks share an encoder; each batch is of one of them.

The model's last layer has the outputs of all tasks, and a task's head is its own outputs: where
the head has layers before the last, they are shared. The loss and the answers of a batch are those
of its task's kind, on its task's outputs alone. A head that predicts tokens, by which a method
reads answers, is one for all tasks.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn.functional import mse_loss

from methods.method import Batch, Output
from runners.config.check import RunConfig
from runners.data.split import Split, TaskData
from runners.jobs.job import Job
from runners.tasks.collate import Collate, Collator
from runners.tasks.kind import Encoded, Reading
from runners.tasks.labelled import Labelled, losses_of, read_answers
from runners.tasks.on_device import Gather
from runners.tasks.tokens import Tokens


@dataclass(frozen=True)
class MixedCollator:
    """Turns indices of rows of one task into a batch that says which task; `groups` is each row's.

    `parts` are the tasks' own, by their number; rows of a task follow each other.
    """

    parts: dict[int, Collator]
    groups: NDArray[np.int64]

    @property
    def lengths(self) -> NDArray[np.int64]:
        return np.concatenate([part.lengths for part in self.parts.values()])

    @property
    def token_ids(self) -> Sequence[NDArray[np.int32]]:
        return [ids for part in self.parts.values() for ids in part.token_ids]

    @property
    def token_columns(self) -> Sequence[Tokens]:
        return [tokens for part in self.parts.values() for tokens in part.token_columns]

    @property
    def pad_id(self) -> int:
        return next(iter(self.parts.values())).pad_id

    def of(self, indices: NDArray[np.int64]) -> tuple[int, NDArray[np.int64]]:
        """Return the number of the task that these rows belong to, and their places in it."""
        [group] = {int(g) for g in self.groups[indices]}
        return group, indices - int(np.argmax(self.groups == group))

    def shape(self, indices: NDArray[np.int64]) -> tuple[int, ...]:
        group, places = self.of(indices)
        return self.parts[group].shape(places)

    def padded_to(self, multiple: int) -> Self:
        return replace(self, parts={g: p.padded_to(multiple) for g, p in self.parts.items()})

    def on(self, device: torch.device) -> Gather:
        parts = {group: part.on(device) for group, part in self.parts.items()}

        def gather(indices: NDArray[np.int64], rows: torch.Tensor) -> Batch:
            group, places = self.of(indices)
            batch = parts[group](places, rows - int(indices[0] - places[0]))
            return {**batch, "group": torch.full((len(rows),), group, device=device)}

        return gather

    def __call__(self, indices: NDArray[np.int64], step: int = 0) -> Batch:
        """Return what the task's own collator does, and `group`, its number for each row."""
        group, places = self.of(indices)
        batch = self.parts[group](places, step)
        return {**batch, "group": torch.full((len(indices),), group)}


class Multitask(Labelled):
    """Outputs of every task, of which a batch's own count."""

    hinders_capture: ClassVar[str] = "each batch says which task it is of"

    def __init__(self, config: RunConfig) -> None:
        super().__init__(config)
        mixture = config.settings.task.mixture
        assert mixture is not None
        self.names, self.tasks = list(mixture.tasks), list(mixture.tasks.values())
        ends = np.cumsum([len(task.outputs) for task in self.tasks]).tolist()
        self.places = [slice(a, b) for a, b in zip([0, *ends], ends, strict=False)]
        if config.head == "tokens":  # which answers any task, and has outputs of a batch's alone
            self.places = [slice(None)] * len(self.tasks)

    def collator(self, split: Split, job: Job, tokenizer: Any, keep: bool = True) -> Collate:
        """Tokenise one split, of TASK/SPLIT or of the tasks that its subsets name."""
        tasks = [split.name.partition("/")[0]] if split.subsets is None else split.subsets
        groups = np.asarray([self.names.index(task) for task in tasks], dtype=np.int64)
        groups = np.broadcast_to(groups, len(split))
        rows = {int(g): np.flatnonzero(groups == g).tolist() for g in np.unique(groups)}
        parts = {g: self._part(split.take(own), g, job, tokenizer, keep) for g, own in rows.items()}
        return MixedCollator(parts, groups)

    def readings(self, data: TaskData, encoded: Encoded) -> list[Reading]:
        readings = []
        for name, split in data.splits().items():
            collate = encoded[name]
            assert isinstance(collate, MixedCollator)
            for group, part in collate.parts.items():
                task, columns = self.names[group], part.token_columns
                if split.subsets is None or data.parts is None:
                    readings.append(Reading(name, self.tasks[group], split, columns, False))
                    continue
                own = data.parts[task][0]
                readings.append(Reading(f"{task}/{name}", self.tasks[group], own, columns, True))
        return readings

    def _part(self, split: Split, group: int, job: Job, tokenizer: Any, keep: bool) -> Collator:
        tokens = self.tokens(split, self.names[group], job, tokenizer, keep)
        left = tokenizer.padding_side == "left"
        dtype = np.float32 if self._is_scored(group) else np.int64
        labels = None if split.labels is None else np.asarray(split.labels, dtype=dtype)
        return Collator(tokens, labels, tokenizer.pad_token_id, left)

    def _is_scored(self, group: int) -> bool:
        return self.tasks[group].facts.answer == "score"

    def outputs(self, model: Any, batch: Batch) -> torch.Tensor:
        return self._outputs(model, batch)[1]

    def _outputs(self, model: Any, batch: Batch) -> tuple[int, torch.Tensor]:
        """Return a batch's task by its number, and its outputs, (B, outputs), in float32."""
        group = int(batch["group"][0])
        inputs = {k: v for k, v in batch.items() if k not in ("group", "labels")}
        return group, model(**inputs).logits.float()[:, self.places[group]]

    def forward(self, model: Any, batch: Batch) -> Output:
        group, logits = self._outputs(model, batch)
        if self._is_scored(group):
            return Output(mse_loss(logits.squeeze(-1), batch["labels"]), logits)
        return Output(self.criterion(logits, batch["labels"]), logits)

    def losses(self, model: Any, batch: Batch) -> torch.Tensor | None:
        group, logits = self._outputs(model, batch)
        return losses_of(logits, batch["labels"], self.tasks[group], self.criterion)

    def answer(self, model: Any, batch: Batch) -> torch.Tensor:
        group, logits = self._outputs(model, batch)
        return read_answers(logits, self.tasks[group])

    def stored(self, predicted: NDArray[np.float64]) -> list[float]:
        return [int(p) if p == int(p) else float(f"{p:.9g}") for p in predicted]
