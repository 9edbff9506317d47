"""EMA: the weights that are evaluated and kept are an exponential moving average of training's.

Morales-Brotons et al., TMLR 2024 (arXiv 2411.18704), on the average by itself.

After each step t, counted from 1, of all trained parameters,

    w̄_t = d_t w̄_{t-1} + (1 - d_t) w_t,   d_t = min(decay, (1 + t) / (10 + t)),   w̄_0 = w_0

The warm-up of d is that of TensorFlow's ExponentialMovingAverage with `num_updates`, whose w̄_0 is
this too; without it (`warmup=false`) the start weighs decay^t, much in a short run. `decay` is
torch's default (torch.optim.swa_utils), for runs of thousands of steps: with the warm-up it is
reached after 8,990, and before that the average is over about the last ninth of the steps.

Training goes on from w_t: its losses are the same to the bit as without. Evaluations, the selected
step, saved weights and the record's scores are of w̄. What several factors make together, such as
LoRA's, is averaged factor by factor. It takes a copy of the trained weights, and another while the
model is evaluated. decay=0 is plain fine-tuning.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

from annotated_types import Ge, Lt

from methods.method import Method, Options, ParameterGroup, Setting

if TYPE_CHECKING:
    import torch


@dataclass(kw_only=True)
class Ema(Method):
    """Evaluate and keep the moving average of the weights, with weight 1 - `decay` for each step's.

    With `warmup` the first steps weigh more.
    """

    name: ClassVar[str] = "ema"
    paper: ClassVar[str] = "Morales-Brotons et al. 2024"
    trains: ClassVar[str] = "a moving average of the weights is evaluated and kept"
    owns: ClassVar[frozenset[str]] = frozenset({"average"})
    no_strength: ClassVar[Options | None] = {"decay": 0}

    decay: Annotated[float, Ge(0), Lt(1)] = 0.999
    warmup: bool = True

    @property
    def unread(self) -> Mapping[str, str]:
        return {"warmup": "decay=0"} if self.decay == 0 else {}

    def prepare(self, model: torch.nn.Module, setting: Setting) -> None:
        self.mean: dict[str, torch.Tensor] = {}
        self.steps = 0  # that were taken in

    def parameter_groups(
        self, model: torch.nn.Module, groups: list[ParameterGroup]
    ) -> list[ParameterGroup]:
        """Start the average at the weights before the first step."""
        if self.decay:
            self.trained = {n: p for n, p in model.named_parameters() if p.requires_grad}
            self.mean = {n: p.detach().clone() for n, p in self.trained.items()}
        return groups

    def phase(self, step: int) -> str:
        """Begin at what other methods' `before_training` left, before the first step."""
        import torch

        if step == 0 and self.mean:
            torch._foreach_copy_([*self.mean.values()], [p.detach() for p in self.trained.values()])
        return ""

    def version_beside(self, methods: Sequence[Method]) -> int:
        """Return 2 beside a method that sets weights to zero before the first step."""
        zeroed = any(
            getattr(m, "outside", "") == "zero" and getattr(m, "p", 1) < 1 for m in methods
        )
        return self.version + int(self.decay > 0 and zeroed)

    def decay_at(self, step: int) -> float:
        """Return d_t at step t, counted from 1."""
        return min(self.decay, (1 + step) / (10 + step)) if self.warmup else self.decay

    def average_weights(self, model: torch.nn.Module, step: int) -> None:
        import torch

        if self.decay == 0:
            return
        self.steps += 1
        own = dict(model.named_parameters())
        with torch.no_grad():
            torch._foreach_lerp_(
                list(self.mean.values()),
                [own[name].detach() for name in self.mean],
                1 - self.decay_at(self.steps),
            )

    def averaged_weights(self) -> Mapping[str, torch.Tensor]:
        return self.mean

    def state_dict(self) -> dict[str, Any]:
        return {"mean": self.mean, "steps": self.steps}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.steps = state["steps"]
        for name, tensor in state["mean"].items():
            self.mean[name].copy_(tensor)

    def report(self) -> dict[str, Any]:
        """Return of what the evaluated and kept weights are an average."""
        if not self.steps:
            return {}
        return {"weights": "averaged", "steps": self.steps, "last_decay": self.decay_at(self.steps)}
