"""Gradual unfreezing: the head trains first, then one more layer at a time, from the last down.

Howard and Ruder, ACL 2018 (arXiv 1801.06146), ULMFiT, section 3.3. The turns are: the head, a
pooler and all that stands in no layer; the last layer and so on to the first; the embeddings, with
relative positions of the encoder's own and ALBERT's projection (at once in version 1). Until
its turn a parameter has no gradient: it does not move, does not decay, has no moments and no part
in the norm that clips. `by=epochs` is the paper's, a turn an epoch, for a network of four layers
that trains for dozens of epochs: in three, the head and the last two layers are all that trains.
So by default all turns come evenly in the first `share` of the steps, half of them, which is a
choice of this project.

Rates are discriminative: η of a layer is that of the layer above it divided by `decay`, the head's
is the run's. 2.6 is the paper's, and leaves next to nothing to the lower ones of twelve layers;
decay=1 has one rate for all, and goes with `llrd`. The third part of ULMFiT, slanted triangular
rates over all steps, is `budget.schedule=slanted_triangular budget.warmup=0.1`. Its further
pretraining and its pooling of all states are not here. share=0 with decay=1 is plain fine-tuning.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from annotated_types import Ge, Le

from methods.llrd import BELOW_LAYERS, Llrd
from methods.method import Method, Options, ParameterGroup, Setting, TaskFacts
from results.errors import UserError

if TYPE_CHECKING:
    import torch


@dataclass(kw_only=True)
class GradualUnfreezing(Method):
    """Let one layer more train at each turn, at smaller rates the lower it is."""

    name: ClassVar[str] = "gradual_unfreezing"
    paper: ClassVar[str] = "Howard and Ruder 2018"
    trains: ClassVar[str] = "the head, then one layer more at a time, lower ones at smaller rates"
    no_strength: ClassVar[Options | None] = {"share": 0, "decay": 1}
    narrow: ClassVar[Options] = {"share": 0.1}
    with_others: ClassVar[Options] = {"decay": 1}

    by: Literal["share", "epochs"] = "share"
    share: Annotated[float, Ge(0), Le(1)] = 0.5
    decay: Annotated[float, Ge(1)] = 2.6

    @property
    def unread(self) -> Mapping[str, str]:
        return {"share": "by=epochs"} if self.by == "epochs" else {}

    @property
    def acts_on(self) -> frozenset[str]:
        return frozenset({"layers"})

    def refuses(self, other: Method) -> str:
        if other.per_example:
            return (
                f"{other.name} makes gradients of all that trains, and noise for it, at each step"
            )
        if other.name in ("adalora", "pats_provisional", "sage"):
            return f"{other.name} averages over steps that a layer which waits has not taken"
        if isinstance(other, Llrd) and self.decay != 1 and other.decay != 1:
            return "both scale the layers' rates, unless gradual_unfreezing.decay=1"
        return ""

    def data_known(self, rows: int, batch_size: int, steps: int, epoch: int = 0) -> list[str]:
        self.steps_per_epoch = epoch
        return []

    def task_known(self, task: TaskFacts) -> list[str]:
        self._mixes = bool(task.tasks)
        return []

    def model_known(self, architecture: str) -> None:
        self._below = architecture in BELOW_LAYERS

    def version_beside(self, methods: Sequence[Method]) -> int:
        """Return one more for each of two that had other turns before.

        By epochs of a mixture, each was taken for shorter than it is: it has the steps of each of
        its tasks, and their batches hold rows of one. Parts below the layers came with the head.
        """
        mixed = self.by == "epochs" and getattr(self, "_mixes", False)
        plain = self.by == "share" and self.share == 0 and self.decay == 1
        below = getattr(self, "_below", False) and not plain
        return self.version + int(mixed) + int(below)

    def prepare(self, model: Any, setting: Setting) -> None:
        from methods.surgery.depths import Depths

        self.depths = Depths(model, "gradual_unfreezing")
        self.together, self.total_steps = ",".join(setting.methods), setting.total_steps
        self.begins: list[int] = []  # the first step of each turn
        self.last = 0  # the last turn that has come

    def parameter_groups(self, model: Any, groups: list[ParameterGroup]) -> list[ParameterGroup]:
        depths = self.depths.of(model)
        present = sorted({depths[id(p)] for group in groups for p in group["params"]})
        if len(present) < 2:
            raise UserError(
                f"method=[{self.together}]: nothing that trains lies below the rest, and"
                " gradual_unfreezing has nothing to hold back; train more layers, or leave it out"
            )
        self.begins = self._beginnings(len(present))
        self.last = len(present) - 1
        for group in groups:
            for parameter in group["params"]:
                self._hold(parameter, present.index(depths[id(parameter)]))
        if self.decay == 1:
            return groups
        split = []
        for group in groups:
            for depth in sorted({depths[id(p)] for p in group["params"]}):
                chosen = [p for p in group["params"] if depths[id(p)] == depth]
                split.append({**group, "params": chosen, "lr": group["lr"] / self.decay**depth})
        return split

    def _beginnings(self, turns: int) -> list[int]:
        """Return the first step of each turn."""
        if self.by == "share":
            span = self.share * self.total_steps / (turns - 1)
            return [math.ceil(round(turn * span, 6)) for turn in range(turns)]
        epoch = getattr(self, "steps_per_epoch", 0)
        if not epoch:
            raise UserError(
                "method.gradual_unfreezing.by=epochs: it is not known here how many steps an epoch"
                " has; use by=share"
            )
        return [turn * epoch for turn in range(turns)]

    def _hold(self, parameter: torch.nn.Parameter, turn: int) -> None:
        """Give a parameter no gradient before its turn."""

        def cleared(held: torch.Tensor) -> None:
            if turn > self.last:
                held.grad = None

        if self.begins[turn] > 0:
            parameter.register_post_accumulate_grad_hook(cleared)

    def optimizer_built(self, optimizer: torch.optim.Optimizer) -> None:
        if type(optimizer).__name__ == "SuperAdam" and self.begins[-1] > 0:
            raise UserError(
                "method=gradual_unfreezing: optimizer=super_adam has one count of steps for all"
                " parameters, and those that train later have a later first step; use"
                " optimizer=adamw"
            )

    def phase(self, step: int) -> str:
        self.last = sum(begin <= step for begin in self.begins) - 1
        return str(self.last)

    def report(self) -> dict[str, Any]:
        return {"turns_begin": self.begins, "turns_taken": self.last + 1} if self.begins else {}
