"""Weight decay towards the pretrained weights, decoupled from the gradient.

θ ← θ - η λ (θ - θ0) before the optimizer's step, with the group's current learning rate η; public
code asappresearch/revisit-bert-finetuning 0aa4f4e (Zhang et al., ICLR 2021, arXiv 2006.05987). As
there, biases and normalisation gains do not decay. In that code an index off by one also pulls the
head to its random start; here the head keeps the budget's ordinary decay. Ordinary decay of the
encoder is replaced. η λ is the pull a step: at η=1e-4, λ below 1 is close to nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, ClassVar

from annotated_types import Ge

from methods.method import Method, Options, ParameterGroup, Setting

if TYPE_CHECKING:
    import torch


@dataclass(kw_only=True)
class WdPre(Method):
    """Pull the encoder's matrices towards their values before training."""

    name: ClassVar[str] = "wd_pre"
    paper: ClassVar[str] = "Zhang et al. 2021"
    trains: ClassVar[str] = "weight decay towards the pretrained weights"
    needs: ClassVar[frozenset[str]] = frozenset({"pretrained"})
    no_strength: ClassVar[Options | None] = {"strength": 0}

    strength: Annotated[float, Ge(0)] = 1.0

    @property
    def acts_on(self) -> frozenset[str]:
        return frozenset({"matrices"})

    def prepare(self, model: torch.nn.Module, setting: Setting) -> None:
        self.pulled = {
            n: start
            for n, start in setting.pretrained.items()
            if n not in setting.head and start.ndim > 1
        }

    def parameter_groups(
        self, model: torch.nn.Module, groups: list[ParameterGroup]
    ) -> list[ParameterGroup]:
        if self.strength == 0:
            return groups
        own = {id(p) for n, p in model.named_parameters() if n in self.pulled}
        split = []
        for group in groups:
            rest = [p for p in group["params"] if id(p) not in own]
            mine = [p for p in group["params"] if id(p) in own]
            split += [{**group, "params": rest}] if rest else []
            split += [{**group, "params": mine, "weight_decay": 0.0}] if mine else []
        return split

    def optimizer_built(self, optimizer: torch.optim.Optimizer) -> None:
        self.optimizer = optimizer

    def after_clipping(self, model: torch.nn.Module, step: int) -> None:
        import torch

        if self.strength == 0:
            return
        rates = {id(p): g["lr"] for g in self.optimizer.param_groups for p in g["params"]}
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                if name in self.pulled and id(parameter) in rates:
                    start = self.pulled[name] = self.pulled[name].to(parameter.device)
                    parameter.lerp_(start, rates[id(parameter)] * self.strength)
