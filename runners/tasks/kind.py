"""What a kind of task is: texts to tensors, tensors to a loss and to predictions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Protocol

if TYPE_CHECKING:
    import numpy as np
    import torch
    from accelerate import Accelerator
    from numpy.typing import NDArray

    from methods.method import Batch, Output
    from runners.config.task import Task
    from runners.data.split import Split, TaskData
    from runners.jobs.job import Job
    from runners.speed.levers import Levers
    from runners.speed.repeat import Repeats
    from runners.tasks.collate import Collate
    from runners.tasks.on_device import OnDevice
    from runners.tasks.tokens import Tokens

Encoded = Mapping[str, "Collate"]
Scores = dict[str, dict[str, float]]


class Diverged(Exception):
    """Something became nan or infinite, seen at `step` (counted from 1)."""

    def __init__(self, what: str, step: int) -> None:
        super().__init__(f"{what} was not finite at step {step}")
        self.step = step


class NotFinite(Exception):
    """A prediction, named, is nan or infinite."""


@dataclass
class Evaluation:
    """How predictions are computed: on which device, and so many examples at a time.

    `later` says how often the same is evaluated after this time, `lying` holds the splits that lie
    on the device, by the ids of their collates.
    """

    accelerator: Accelerator
    batch_size: int
    repeats: Repeats | None = None
    levers: Levers | None = None
    later: int = 0
    lying: dict[int, OnDevice | None] = field(default_factory=dict)


@dataclass(frozen=True)
class Reading:
    """Examples of one task that a run reads under one name, and what it reads of their texts.

    `columns` are tokenised apart, a row an example in each.
    """

    name: str
    task: Task
    split: Split
    columns: Sequence[Tokens]
    is_trained_on: bool


class Kind(Protocol):
    """All that differs between kinds of task, for one run; one class a kind, in its own file.

    `evaluates` says whether the report splits are scored whenever an evaluation is due or at the
    end only, and `evaluates_start` whether also before the first step. The loss of a batch is
    `divisible` where it is the mean of its examples' losses. A kind that `needs_model` to encode
    waits until the methods have prepared it. `hinders_capture` says why a device cannot repeat a
    step of it, empty where it can.
    """

    evaluates: ClassVar[Literal["when due", "at the end"]]
    evaluates_start: ClassVar[bool]
    needs_model: ClassVar[bool]
    hinders_capture: ClassVar[str]

    @property
    def divisible(self) -> bool: ...

    def encode(self, job: Job, tokenizer: Any) -> Encoded:
        """Tokenise what is trained on, as `train`, and what is scored, by names of its own."""
        ...

    def readings(self, data: TaskData, encoded: Encoded) -> list[Reading]:
        """Return all examples that a run reads, those that it trains on first."""
        ...

    def forward(self, model: Any, batch: Batch) -> Output:
        """Return the task's own loss of a batch, a scalar, and its logits, in float32."""
        ...

    def losses(self, model: Any, batch: Batch) -> torch.Tensor | None:
        """Return the loss of each example of a batch, (B,) in float32, whose mean is the batch's.

        None where only a batch has a loss.
        """
        ...

    def answer(self, model: Any, batch: Batch) -> torch.Tensor:
        """Return what an evaluation batch is answered with, one row an example."""
        ...

    def predict(
        self, model: Any, encoded: Encoded, splits: Sequence[Split], evaluation: Evaluation
    ) -> dict[str, NDArray[np.float64]]:
        """Return one prediction for each of `references`, of each split by name.

        The model's training mode is put back, and no random number is drawn. What is not finite
        raises NotFinite.
        """
        ...

    def references(self, encoded: Encoded, split: Split) -> Sequence[float] | None:
        """Return what the predictions of a split are scored by; None where that is not known."""
        ...

    def measured(self) -> dict[str, dict[str, float]]:
        """Return by split what the last predictions say besides and no score counts."""
        ...

    def stored(self, predicted: NDArray[np.float64]) -> list[float]:
        """Return predictions as a record keeps them."""
        ...
