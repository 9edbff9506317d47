"""SWA: the weights that are evaluated and kept are the mean of those at the end of training.

Izmailov et al., UAI 2018 (arXiv 1803.05407); authors' code timgaripov/swa 090b95e.

From step ⌈start · steps⌉ on, every `every` steps, the weights of all trained parameters go into a
mean in which all count alike. As in the code, the step that begins it is the first one in it.

What differs:
- the rates are the budget's. The paper's are constant or cyclic while it averages, so that the
  weights go on to wander: `budget.schedule=constant` is the nearest here. Under linear decay to
  zero the last ones lie close together, and the mean next to them;
- a step's weights are taken, not an epoch's, as fine-tuning has few epochs; so do Lu et al.,
  Findings of EMNLP 2022 (arXiv 2212.05956), who bring SWA to it;
- `start` is the authors' in their account of it for PyTorch (the last quarter of training); their
  code's default is epoch 161 of 200;
- models with batch normalisation would need its statistics anew, which no encoder here has.

Training goes on from the weights themselves: its losses are the same to the bit as without. Until
the mean begins, the weights themselves are evaluated. Evaluations, the selected step, saved weights
and the record's scores are then of the mean. What several factors make together, such as LoRA's, is
averaged factor by factor. start=1 is plain fine-tuning: the mean of the last weights alone.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

from annotated_types import Ge, Le

from methods.method import Method, Options, Setting

if TYPE_CHECKING:
    import torch


@dataclass(kw_only=True)
class Swa(Method):
    """Evaluate and keep the mean of the weights after every `every` steps from a share on."""

    name: ClassVar[str] = "swa"
    paper: ClassVar[str] = "Izmailov et al. 2018"
    trains: ClassVar[str] = "the mean of the last steps' weights is evaluated and kept"
    owns: ClassVar[frozenset[str]] = frozenset({"average"})
    no_strength: ClassVar[Options | None] = {"start": 1}
    narrow: ClassVar[Options] = {"start": 0}  # so that runs of two steps have a mean

    start: Annotated[float, Ge(0), Le(1)] = 0.75
    every: Annotated[int, Ge(1)] = 1

    @property
    def unread(self) -> Mapping[str, str]:
        return {"every": "start=1"} if self.start == 1 else {}

    def first(self, steps: int) -> int:
        """Return the step, counted from 1, that begins the mean in a run of so many."""
        return max(1, math.ceil(round(self.start * steps, 9)))

    def data_known(self, rows: int, batch_size: int, steps: int, epoch: int = 0) -> list[str]:
        """Say where the mean would be of one step's weights."""
        if steps - self.first(steps) >= self.every:
            return []
        return [
            f"method=swa: start={self.start:g} and every={self.every} take the weights of one of"
            f" {steps} steps, so that nothing is averaged"
        ]

    def prepare(self, model: torch.nn.Module, setting: Setting) -> None:
        self.begins = self.first(setting.total_steps)
        self.mean: dict[str, torch.Tensor] = {}
        self.count = 0  # steps in the mean

    def average_weights(self, model: torch.nn.Module, step: int) -> None:
        import torch

        since = step + 1 - self.begins
        if since < 0 or since % self.every:
            return
        self.count += 1
        own = {n: p.detach() for n, p in model.named_parameters() if p.requires_grad}
        if self.count == 1:
            self.mean = {name: weight.clone() for name, weight in own.items()}
            return
        self.mean = {n: t.to(own[n].device) for n, t in self.mean.items()}  # a checkpoint's
        with torch.no_grad():
            torch._foreach_lerp_(
                list(self.mean.values()), [own[name] for name in self.mean], 1 / self.count
            )

    def averaged_weights(self) -> Mapping[str, torch.Tensor]:
        return self.mean

    def state_dict(self) -> dict[str, Any]:
        return {"mean": self.mean, "count": self.count}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.mean, self.count = dict(state["mean"]), state["count"]

    def report(self) -> dict[str, Any]:
        """Return of what the evaluated and kept weights are a mean."""
        if not self.count:
            return {"weights": "as trained"}
        return {"weights": "averaged", "from_step": self.begins, "steps": self.count}
