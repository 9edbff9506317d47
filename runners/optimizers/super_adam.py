"""SUPER-ADAM: an adaptive matrix, with variance reduction (tau=1) or a moving average (tau=0).

Huang et al., NeurIPS 2021 (arXiv 2106.08208); authors' code LIJUNYI95/SuperAdam, which departs from
it. With G_t the clipped gradient, μ_t = k / (m + t)^e and t from 1 (e = 1/3 or 1/2):

    tau=0:  g_t = a G_t + (1 - a) g_{t-1},             a = min(c μ_{t-1}, 1)
    tau=1:  g_t = G_t + (1 - a) (g_{t-1} - G'_t),      a = min(c μ²_{t-1}, 1)
    x_{t+1} = x_t - η_t g_t / H_t,                     g_1 = G_1

where G'_t is the gradient of the same batch, under the same dropout, at the weights before the last
step. H is √v + λ with v the moving average of G², by coordinate, or of its norm over all
parameters. Taken from the paper where the code differs: tau=1 is the variance reduction; v is not
corrected unless asked; the norm is the gradients'; λ is added once; a never exceeds 1. With tau=0
the code's average starts at zero, where here it starts at the first gradient, and its α is of this
step's μ_t; `average=code` does both. Its first steps then are about c μ times as long.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch

from runners.config.settings import SuperAdamOptions

Tensors = list[torch.Tensor]


class SuperAdam(torch.optim.Optimizer):
    """Steps along g / H; each group's `lr` is the effective rate η_t, set by a schedule.

    With tau=1, `step` needs a closure that leaves in `.grad` the clipped gradient of the step's
    batch at the weights of the moment, under the dropout already drawn for it.
    """

    def __init__(self, params: Iterable[Any], lr: float, options: SuperAdamOptions) -> None:
        super().__init__(params, {"lr": lr, "weight_decay": 0.0})
        self.options = options
        first = options.m ** -(2 * self.exponent if options.tau else self.exponent)
        first *= options.k ** (1 + options.tau)
        self.c = 0.1 / first if options.c is None else options.c
        self.t = 0  # the step that is taken, counted by `advance`
        self.numbers: dict[str, torch.Tensor] | None = None

    def keep_numbers(self, device: torch.device) -> None:
        """Have the numbers that change from step to step in a device's memory, with tau=0.

        Before each step, `advance` is to be called then.
        """
        self.numbers = {name: torch.ones((), device=device) for name in ("alpha", "correction")}

    def advance(self) -> None:
        """Count a step, and put its numbers where one that is repeated finds them."""
        assert self.numbers is not None
        begun = [state for state in self.state.values() if "step" in state]
        self.t = int(begun[0]["step"]) + 1 if begun else 1
        for state in begun:
            state["step"] = self.t
        if self.t > 1 or self.starts_at_zero:
            self.numbers["alpha"].fill_(self.alpha(self.t))
        self.numbers["correction"].fill_(1 - self.options.beta**self.t)

    @property
    def starts_at_zero(self) -> bool:
        """Whether the average starts at zero, and takes the μ of its own step."""
        return self.options.average == "code"

    @property
    def exponent(self) -> float:
        return 1 / 3 if self.options.tau else 1 / 2

    def mu(self, t: int) -> float:
        """Return μ at step t, counted from 1; with decay=budget, that of the start."""
        t = t if self.options.decay == "own" else 0
        return float(self.options.k / (self.options.m + t) ** self.exponent)

    def alpha(self, t: int) -> float:
        """Return the weight of the new gradient at step t, at least 2 unless average=code."""
        t = t if self.starts_at_zero else t - 1
        return min(self.c * self.mu(t) ** (1 + self.options.tau), 1.0)

    def rate_factor(self, step: int) -> float:
        """Return μ over its start, at a step counted from 0: this optimizer's own schedule."""
        return float((self.options.m / (self.options.m + step + 1)) ** self.exponent)

    @property
    def own_rate_factor(self) -> Callable[[int], float] | None:
        """Return the schedule that replaces the budget's, unless decay=budget."""
        return self.rate_factor if self.options.decay == "own" else None

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> None:  # type: ignore[override]
        """Take one step; parameters without a gradient stay as they are."""
        rates = {p: (g["lr"], g["weight_decay"]) for g in self.param_groups for p in g["params"]}
        trained = [p for p in rates if p.grad is not None]
        if not trained:
            return
        states = [self.state[p] for p in trained]
        t = int(states[0].get("step", 0)) + 1 if self.numbers is None else self.t
        gradients = [p.grad.clone() for p in trained]
        older = self._gradients_before(trained, states, closure) if self._wants_older(t) else None
        for i, (state, gradient) in enumerate(zip(states, gradients, strict=True)):
            if t == 1 and self.starts_at_zero:
                state["average"] = torch.zeros_like(gradient)
            if t == 1 and not self.starts_at_zero:
                state["average"] = gradient.clone()
            elif older is not None:
                state["average"].sub_(older[i]).mul_(1 - self.alpha(t)).add_(gradient)
            else:
                kept = self.numbers and self.numbers["alpha"]
                state["average"].lerp_(gradient, self.alpha(t) if kept is None else kept)
            state["step"] = t
        matrices = self._matrices(trained, states, gradients, older, t)
        for parameter, state, matrix in zip(trained, states, matrices, strict=True):
            rate, decay = rates[parameter]
            if self.options.tau:
                state["before"] = parameter.detach().clone()
            if decay:
                parameter.mul_(1 - rate * decay)
            if isinstance(rate, torch.Tensor):  # reading it would wait for the device
                parameter.sub_(state["average"].div(matrix).mul_(rate))
            else:
                parameter.addcdiv_(state["average"], matrix, value=-rate)

    def _wants_older(self, t: int) -> bool:
        return bool(self.options.tau) and t > 1

    def _gradients_before(
        self, trained: Tensors, states: list[dict[str, Any]], closure: Callable[[], Any] | None
    ) -> Tensors:
        """Return the batch's gradient at the weights before the last step; both are put back."""
        if closure is None:
            raise TypeError("super_adam with tau=1 needs a closure that computes the gradient")
        now = [p.detach().clone() for p in trained]
        for parameter, state in zip(trained, states, strict=True):
            parameter.copy_(state["before"])
        with torch.enable_grad():
            closure()
        older = [torch.zeros_like(p) if p.grad is None else p.grad.clone() for p in trained]
        for parameter, value in zip(trained, now, strict=True):
            parameter.copy_(value)
        return older

    def _matrices(
        self,
        trained: Tensors,
        states: list[dict[str, Any]],
        gradients: Tensors,
        older: Tensors | None,
        t: int,
    ) -> Tensors:
        """Return H's diagonal for each tensor, of its shape or a scalar."""
        options, beta = self.options, self.options.beta
        if options.matrix in ("norm", "barzilai_borwein"):
            if options.matrix == "norm":
                value = _squares(gradients)
            elif older is None:  # nothing to compare with at the first step
                value = torch.zeros(())
            else:
                moved = [p - s["before"] for p, s in zip(trained, states, strict=True)]
                turned = [g - o for g, o in zip(gradients, older, strict=True)]
                inner = sum((a * b).sum() for a, b in zip(turned, moved, strict=True))
                value = abs(inner) / _squares(moved).clamp_min(torch.finfo(torch.float32).tiny)
            kept = states[0]  # one scalar for all, with the first tensor so that it is saved
            scalar = kept.setdefault("scalar", torch.zeros_like(value))
            scalar.mul_(beta).add_((1 - beta) * value)
            scale = kept["scalar"].sqrt() if options.matrix == "norm" else kept["scalar"]
            return [(scale + options.lam).to(p.dtype) for p in trained]
        roots = []
        for state, gradient in zip(states, gradients, strict=True):
            squares = state.setdefault("squares", torch.zeros_like(gradient))
            squares.mul_(beta).addcmul_(gradient, gradient, value=1 - beta)
            if options.matrix == "amsgrad":
                highest = state.setdefault("highest", squares.clone())
                squares = torch.maximum(highest, squares, out=highest)
            correction: Any = 1 - beta**t if self.numbers is None else self.numbers["correction"]
            corrected = squares / correction if options.bias_correction else squares
            roots.append(corrected.sqrt())
        if options.matrix == "coordinate_norm":
            length = _squares(roots).sqrt()
            return [length + options.lam for _ in trained]
        return [root.add_(options.lam) for root in roots]


def _squares(tensors: Tensors) -> torch.Tensor:
    """Return the sum of the squares of all entries."""
    return torch.stack([t.square().sum() for t in tensors]).sum()
