"""SAGE: an entry's step grows where its sensitivity is small, or varies much between batches.

Liang et al., ICLR 2022 (arXiv 2202.02664); authors' code cliang1453/SAGE 87cefb1, its AdamW-SAGE.
With g the clipped gradient of a weight w:

    I = |w g|,  U = β U + (1-β) I,  Û = U / (1-β^t)
    w moves by |I - Û| / (Û + ε²) times the optimizer's step

As in the code, that is so for weights and biases of the attention and the feed-forward parts of
each layer; normalisations, embeddings, pooler and head take the optimizer's steps. The factor lies
between 0 and β/(1-β), or 1 where that is more, and is 0 in the first step, where I = Û. A weight
of exactly 0 has no sensitivity and keeps its place, for which reason inserted modules, that often
begin at 0, are left out too.

The code's option to clip each tensor by itself is off in its trainer and script, which clip by the
norm of all gradients, as here. Its weight decay, not scaled by the factor, is at the peak rate;
here it is the optimizer's own. The authors advise β from 0.6 to 0.9, and rates 2 to 5 times those
of plain AdamW. Their Adamax-SAGE, of their script for MNLI, is not here.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

from annotated_types import Gt, Lt

from methods.method import Method, Setting

if TYPE_CHECKING:
    import torch


@dataclass(kw_only=True)
class Sage(Method):
    """Scale each entry's step by how far its sensitivity is from its moving average."""

    name: ClassVar[str] = "sage"
    paper: ClassVar[str] = "Liang, Jiang et al. 2022"
    trains: ClassVar[str] = "steps grow where sensitivity is small"
    needs: ClassVar[frozenset[str]] = frozenset({"pretrained"})
    # Biases that begin at 0.
    may_stay: ClassVar[tuple[str, ...]] = ("query.bias", "key.bias", "value.bias", "dense.bias")

    beta: Annotated[float, Gt(0), Lt(1)] = 0.75
    eps: Annotated[float, Gt(0)] = 1e-6

    @property
    def acts_on(self) -> frozenset[str]:
        return frozenset({"layers", "matrices"})

    def prepare(self, model: Any, setting: Setting) -> None:
        from torch import nn

        from methods.surgery import places

        norms = {id(parameter) for parameter in places.layer_norms(model)}

        self.covered = {
            f"{layer.name}.{module}.{part}"
            for layer in places.layers(model, "sage")
            for module, one in layer.module.named_modules()
            if not isinstance(one, nn.Embedding)  # T5 has one of positions in a layer
            for part, parameter in one.named_parameters(recurse=False)
            if id(parameter) not in norms
        } & set(setting.pretrained)
        self.average: dict[str, torch.Tensor] = {}
        self.power: torch.Tensor | None = None  # β^t, a scalar where the weights are
        self.factors: dict[str, torch.Tensor] = {}  # from a step's gradients until it is taken

    def optimizer_built(self, optimizer: torch.optim.Optimizer) -> None:
        from methods.surgery.steps import Steps

        self.steps = Steps(optimizer)

    def after_clipping(self, model: torch.nn.Module, step: int) -> None:
        import torch

        parameters = self._parameters(model)
        self.steps.remember(parameters)
        with torch.no_grad():
            for name, parameter in parameters.items():
                if parameter.grad is not None:
                    self.factors[name] = (parameter * parameter.grad).abs_()
            device = next(model.parameters()).device
            power = torch.ones((), device=device) if self.power is None else self.power.to(device)
            self.power = power.mul_(self.beta)
            for name, now in self.factors.items():
                average = self.average.get(name)
                average = torch.zeros_like(now) if average is None else average.to(device)
                self.average[name] = average.mul_(self.beta).add_(now, alpha=1 - self.beta)
                corrected = average / (1 - power)
                now.sub_(corrected).abs_().div_(corrected.add_(self.eps**2))

    def after_step(self, model: torch.nn.Module, step: int) -> None:
        import torch

        with torch.no_grad():
            for name, parameter, start, _ in self.steps.taken(self._parameters(model)):
                parameter.copy_(start.lerp_(parameter, self.factors[name]))
        self.factors = {}

    def _parameters(self, model: torch.nn.Module) -> dict[str, torch.nn.Parameter]:
        return {n: p for n, p in model.named_parameters() if n in self.covered}

    def state_dict(self) -> dict[str, Any]:
        return {"average": self.average, "power": self.power}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.average, self.power = dict(state["average"]), state["power"]
