"""What kinds share whose examples have an answer each: one head, one prediction an example."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn.functional import cross_entropy, mse_loss

from methods.method import Batch, Criterion, Method, Output
from results.errors import UserError
from runners.config.check import RunConfig
from runners.config.task import Task
from runners.data.attributes import numbered
from runners.data.split import Split, TaskData
from runners.jobs.job import Job
from runners.speed.repeat import Results
from runners.tasks.collate import Collate, Collator, by_length, on_device
from runners.tasks.doctor import readings_by_split
from runners.tasks.kind import Encoded, Evaluation, NotFinite, Reading
from runners.tasks.tokens import Tokens, check_ends, tokenize


def read_answers(outputs: torch.Tensor, task: Task) -> torch.Tensor:
    """Return the answer in each row of outputs, (B, outputs) to (B,), nan where one is not finite.

    It is the score where the task has scores, else the number of the highest output.
    """
    if task.facts.answer == "score":
        return outputs.squeeze(-1)
    number = outputs.argmax(dim=-1).float()
    return torch.where(outputs.isfinite().all(dim=-1), number, torch.nan)


def criterion_of(methods: Sequence[Method]) -> Criterion:
    """Return what the loss of labels is in training: what a method says, else cross_entropy."""
    said = (method.criterion for method in methods)
    return next((criterion for criterion in said if criterion is not None), cross_entropy)


def losses_of(
    outputs: torch.Tensor, labels: torch.Tensor, task: Task, criterion: Criterion
) -> torch.Tensor:
    """Return the loss of each row of outputs, (B, outputs) and labels (B,) to (B,)."""
    if task.facts.answer == "score":
        return mse_loss(outputs.squeeze(-1), labels, reduction="none")
    return criterion(outputs, labels, reduction="none")


class Labelled:
    """Encodes every split, and predicts it batch by batch; what the outputs are, a kind says."""

    evaluates: ClassVar[Literal["when due", "at the end"]] = "when due"
    evaluates_start: ClassVar[bool] = False
    needs_model: ClassVar[bool] = False
    hinders_capture: ClassVar[str] = ""
    label_type: ClassVar[type[np.generic]] = np.int64

    def __init__(self, config: RunConfig) -> None:
        self.config = config

    @property
    def divisible(self) -> bool:
        return True

    @property
    def criterion(self) -> Criterion:
        """What the loss of labels is in training."""
        return criterion_of(self.config.methods)

    def encode(self, job: Job, tokenizer: Any) -> Encoded:
        return {
            name: self.collator(split, job, tokenizer) for name, split in job.data.splits().items()
        }

    def collator(self, split: Split, job: Job, tokenizer: Any, keep: bool = True) -> Collate:
        """Tokenise one split; `keep` its tokens for the next run."""
        tokens = self.tokens(
            self.as_read(split), self.config.settings.task.name, job, tokenizer, keep
        )
        pad, left = tokenizer.pad_token_id, tokenizer.padding_side == "left"
        return Collator(
            tokens, self.labels(split), pad, left, attributes=self._attributes(split, job)
        )

    def tokens(self, split: Split, task: str, job: Job, tokenizer: Any, keep: bool) -> Tokens:
        """Return the tokens of texts of the task of that name, laid out by a method or as ever."""
        budget, method = self.config.settings.budget, self.arranged_by(task)
        tokens = tokenize(
            split, tokenizer, job.weights, budget.max_length, budget.truncate, keep, method
        )
        check_ends(tokens, split, tokenizer)
        return tokens

    def arranged_by(self, task: str) -> Method | None:
        """Return the method that lays out texts of the task of that name, None where none does."""
        each = (method.of_task(task) for method in self.config.methods)
        return next((method for method in each if method.arrangement), None)

    def as_read(self, split: Split) -> Split:
        """Return a split with the texts that its methods have the tokenizer read."""
        writing = [m for m in self.config.methods if m.writes_text]
        names, texts = self.config.settings.task.attributes, list(split.texts)
        for i, own in enumerate(texts if writing else ()):
            values = (
                {}
                if split.attributes is None
                else dict(zip(names, split.attributes[i], strict=True))
            )
            for method in writing:
                own = method.text_read(own, values)
            texts[i] = own
        return replace(split, texts=tuple(texts)) if writing else split

    def _attributes(self, split: Split, job: Job) -> NDArray[np.int64] | None:
        """Return the numbers of a split's values, where a method reads them."""
        if not self.config.reads_attributes:
            return None
        if split.attributes is None:
            names = ", ".join(self.config.settings.task.attributes)
            raise UserError(f"{split.name}: its rows have no attributes, and the run reads {names}")
        return numbered(split.attributes, job.attributes)

    def labels(self, split: Split) -> NDArray[Any] | None:
        """Return the answers of a split, [rows], where it has some."""
        return None if split.labels is None else np.asarray(split.labels, dtype=self.label_type)

    def readings(self, data: TaskData, encoded: Encoded) -> list[Reading]:
        return readings_by_split(self.config.settings.task, data, encoded)

    def forward(self, model: Any, batch: Batch) -> Output:
        output = model(**batch)
        return Output(output.loss.float(), output.logits.float())

    def losses(self, model: Any, batch: Batch) -> torch.Tensor | None:
        if not self.divisible:
            return None
        inputs = {k: v for k, v in batch.items() if k != "labels"}
        outputs, labels = self.outputs(model, inputs), batch["labels"]
        return losses_of(outputs, labels, self.config.settings.task, self.criterion)

    def outputs(self, model: Any, batch: Batch) -> torch.Tensor:
        """Return what answers are read from, (B, outputs), in float32."""
        outputs: torch.Tensor = model(**batch).logits.float()
        return outputs

    def answer(self, model: Any, batch: Batch) -> torch.Tensor:
        return read_answers(self.outputs(model, batch), self.config.settings.task)

    def predict(
        self, model: Any, encoded: Encoded, splits: Sequence[Split], evaluation: Evaluation
    ) -> dict[str, NDArray[np.float64]]:
        was_training = model.training
        model.eval()
        predicted = {
            split.name: self._answers(model, encoded[split.name], evaluation) for split in splits
        }
        model.train(was_training)
        for name, values in predicted.items():
            if not np.all(np.isfinite(values)):
                raise NotFinite(f"a prediction on {name}")
        return predicted

    def _answers(self, model: Any, collate: Collate, evaluation: Evaluation) -> NDArray[np.float64]:
        return _of_each(self.answer, model, collate, evaluation).astype(np.float64)

    def all_outputs(
        self, model: Any, collate: Collate, evaluation: Evaluation
    ) -> NDArray[np.float32]:
        """Return the outputs of every example, [rows, outputs], of a model in evaluation mode."""
        return _of_each(self.outputs, model, collate, evaluation)

    def references(self, encoded: Encoded, split: Split) -> Sequence[float] | None:
        return split.labels

    def measured(self) -> dict[str, dict[str, float]]:
        return {}

    def stored(self, predicted: NDArray[np.float64]) -> list[float]:
        return [int(p) for p in predicted]


def _of_each(
    function: Callable[[Any, Batch], torch.Tensor],
    model: Any,
    collate: Collate,
    evaluation: Evaluation,
) -> NDArray[np.float32]:
    """Return a function's rows for all examples, in their order; it is given batches of a model."""
    plan = by_length(collate.lengths, evaluation.batch_size)
    to_come = Counter(collate.shape(indices) for indices in plan)
    again = {shape: count * evaluation.later for shape, count in to_come.items()}

    def act(batch: Batch) -> Results:
        with evaluation.accelerator.autocast():
            return (function(model, batch),)

    parts = []
    with torch.inference_mode():
        for batch in _batches(collate, plan, evaluation):
            batch.pop("labels", None)
            shape = tuple(batch["input_ids"].shape)
            if evaluation.repeats is None:
                [values] = act(batch)
            else:
                count = to_come[shape] + again[shape]
                [values] = evaluation.repeats(act, batch, count, function.__qualname__)
            to_come[shape] -= 1
            assert values is not None
            parts.append(values)
    rows = np.concatenate([values.cpu().numpy() for values in parts])
    ordered = np.empty_like(rows)
    ordered[np.concatenate(plan)] = rows
    return ordered


def _batches(
    collate: Collate, plan: Sequence[NDArray[np.int64]], evaluation: Evaluation
) -> Iterator[Batch]:
    """Make the batches of a plan, on the device."""
    device, levers = evaluation.accelerator.device, evaluation.levers
    if levers is not None and id(collate) not in evaluation.lying:
        evaluation.lying[id(collate)] = on_device(collate, device, levers)
    lying = evaluation.lying.get(id(collate))
    if lying is not None:
        yield from lying.batches(plan)
        return
    for indices in plan:
        yield {k: v.to(device) for k, v in collate(indices).items()}
