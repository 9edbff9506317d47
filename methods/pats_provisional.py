"""PATS, provisional: noise on the weights while training, more where a weight matters less.

Zhang et al., EMNLP 2022 (arXiv 2210.12403). Only the abstract and summaries could be read, and no
official code was found. That noise goes to the parameters during fine-tuning, that low sensitivity
gets more of it, and that sensitivity is averaged along training is established; the formulas,
constants, scope and timing below are a design of this project. Its scores are not PATS's.

For each matrix w of the encoder's layers with gradient g before clipping:

    S  = β S + (1-β) |w g|,  Ŝ = S / (1-β^t)
    a  = clip((ref - Ŝ) / (Ŝ + γ ref), 0, a_max),  ref the mean of Ŝ over the tensor
    w += λ_t std(θ0) a z,  z ~ N(0, 1), after the optimizer's step

λ_t is `strength` times the current share of the peak learning rate, and starts after `start` of
the steps. The noises of the steps add up, so a strength suits a number of steps. Controls, without
which a gain says nothing about sensitivity: `mapping=uniform` spreads the same noise energy, Σ a²,
evenly over a matrix. `mapping=reversed` gives noise to the entries above the mean, by
a = clip((Ŝ - ref) / (ref + γ ref), 0, a_max), of less energy; `mapping=reversed_equal` scales that
to the same energy.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from annotated_types import Ge, Gt, Lt

from methods.method import Method, Options, Setting

if TYPE_CHECKING:
    import torch


@dataclass(kw_only=True)
class PatsProvisional(Method):
    """Add noise to the weights after each step, falling with a weight's sensitivity."""

    name: ClassVar[str] = "pats_provisional"
    paper: ClassVar[str] = "after Zhang et al. 2022; provisional"
    trains: ClassVar[str] = "noise on insensitive weights; a design of this project"
    hinders_capture: ClassVar[str] = "its noise depends on the number of the step"
    needs: ClassVar[frozenset[str]] = frozenset({"pretrained"})
    no_strength: ClassVar[Options | None] = {"strength": 0}

    strength: Annotated[float, Ge(0)] = 3e-4
    beta: Annotated[float, Ge(0), Lt(1)] = 0.85
    gamma: Annotated[float, Gt(0)] = 1e-2
    a_max: Annotated[float, Gt(0)] = 1.0
    start: Annotated[float, Ge(0), Lt(1)] = 0.1
    mapping: Literal["sensitivity", "uniform", "reversed", "reversed_equal"] = "sensitivity"

    @property
    def unread(self) -> Mapping[str, str]:
        idle = ("beta", "gamma", "a_max", "start", "mapping") if self.strength == 0 else ()
        return dict.fromkeys(idle, "strength=0")

    @property
    def acts_on(self) -> frozenset[str]:
        return frozenset({"layers", "matrices"})

    def prepare(self, model: Any, setting: Setting) -> None:
        from methods.surgery import places
        from methods.surgery.streams import Streams

        self.streams = Streams(setting.generator)
        inside = tuple(f"{layer.name}." for layer in places.layers(model, "pats_provisional"))
        self.scale = {
            n: float(t.std())
            for n, t in setting.pretrained.items()
            if n.startswith(inside) and t.ndim > 1
        }
        self.average: dict[str, torch.Tensor] = {}
        self.first = math.ceil(self.start * setting.total_steps)

    def optimizer_built(self, optimizer: torch.optim.Optimizer) -> None:
        self.optimizer = optimizer

    def after_backward(self, model: torch.nn.Module, step: int) -> None:
        import torch

        if self.strength == 0:
            return
        for name, parameter in model.named_parameters():
            if name in self.scale and parameter.grad is not None:
                now = (parameter.detach() * parameter.grad).abs()
                average = self.average.get(name)
                average = torch.zeros_like(now) if average is None else average.to(now.device)
                self.average[name] = average.mul_(self.beta).add_(now, alpha=1 - self.beta)

    def amount(self, average: torch.Tensor, step: int) -> torch.Tensor:
        """Return a, the noise's share of its scale, from the average after `step` (from 0)."""
        corrected = average / (1 - self.beta ** (step + 1))
        mean = corrected.mean()
        if self.mapping == "reversed":
            return self._above(corrected, mean)
        share = ((mean - corrected) / (corrected + self.gamma * mean)).clamp(0.0, self.a_max)
        share = share.nan_to_num_(0.0)
        if self.mapping == "sensitivity":
            return share
        energy = share.pow(2).mean()
        if self.mapping == "uniform":
            return energy.sqrt().expand_as(share)
        above = self._above(corrected, mean)
        return above.mul_((energy / above.pow(2).mean()).sqrt()).nan_to_num_(0.0)

    def _above(self, corrected: torch.Tensor, mean: torch.Tensor) -> torch.Tensor:
        """Return how far entries are above the mean, in means, at most a_max."""
        apart = (corrected - mean) / (mean + self.gamma * mean)
        return apart.clamp(0.0, self.a_max).nan_to_num_(0.0)

    def after_step(self, model: torch.nn.Module, step: int) -> None:
        import torch

        if self.strength == 0 or step < self.first:
            return
        shares = {
            id(p): group["lr"] / group["initial_lr"]  # the latter is the schedule's peak
            for group in self.optimizer.param_groups
            for p in group["params"]
        }
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                if name in self.average and id(parameter) in shares:
                    size = self.strength * shares[id(parameter)] * self.scale[name]
                    noise = self.streams.normal(parameter, 1.0)
                    parameter.add_(noise.mul_(self.amount(self.average[name], step)), alpha=size)

    def state_dict(self) -> dict[str, Any]:
        return {"average": self.average, "streams": self.streams.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.average = dict(state["average"])
        self.streams.load_state_dict(state["streams"])

    def report(self) -> dict[str, Any]:
        return {"provisional": "a design of this project, not the paper's; see the method's file"}
