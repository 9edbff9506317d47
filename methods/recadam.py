"""RecAdam: first the encoder is held at its pretrained weights, then the task takes over.

Chen et al., EMNLP 2020 (arXiv 2004.12651); authors' code Sanyuan-Chen/RecAdam 505ba3c. At step t
from 1, with λ = 1 / (1 + exp(-k (t - t0))) and the current rate η, each pretrained weight moves by

    λ times the optimizer's step, then w ← w - η (1-λ) γ (w - θ0)

The moments see the task's gradient as it is. As in the code, biases, normalisations and embeddings
are pulled too, the head is not. `schedule=linear` is λ = min(1, t / t0); `schedule=constant` is
λ = 1, plain fine-tuning to the bit.

What differs: η (1-λ) γ is at most 1, which puts w at θ0; the code goes beyond, and diverges where
η γ is above 2, at rates from 4e-4 with γ = 5000. Weight decay is the optimizer's, before its step;
the code's comes last. The code's t0 counts steps: of the 9,000 of its command for BERT 1,000,
elsewhere 100 to 1,000. Runs here may have fewer steps than that, so a t0 below 1 is a share of
them. The code begins at random weights unless `start_from_pretrain` is given; here training
begins, as ever, at the pretrained ones.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from annotated_types import Ge, Gt

from methods.method import Method, Options, Setting

if TYPE_CHECKING:
    import torch


@dataclass(kw_only=True)
class RecAdam(Method):
    """Shift from a pull towards the pretrained weights to the task, around step `t0`."""

    name: ClassVar[str] = "recadam"
    paper: ClassVar[str] = "Chen et al. 2020"
    trains: ClassVar[str] = "first a pull towards the pretrained weights, then the task"
    needs: ClassVar[frozenset[str]] = frozenset({"pretrained"})
    no_strength: ClassVar[Options | None] = {"schedule": "constant", "pull": 5000.0}  # its default
    narrow: ClassVar[Options] = {"pull": 50}  # trained at large rates

    pull: Annotated[float, Ge(0)] = 5000.0
    schedule: Literal["sigmoid", "linear", "constant"] = "sigmoid"
    k: Annotated[float, Gt(0)] = 0.5
    t0: Annotated[float, Gt(0)] = 0.1

    @property
    def unread(self) -> Mapping[str, str]:
        idle = {"linear": ("k",), "constant": ("k", "pull", "t0")}.get(self.schedule, ())
        return dict.fromkeys(idle, f"schedule={self.schedule}")

    @property
    def acts_on(self) -> frozenset[str]:
        return frozenset({"matrices"})

    def middle(self, steps: int) -> float:
        """Return t0 in steps, of a run of so many."""
        return self.t0 * steps if self.t0 < 1 else self.t0

    def data_known(self, rows: int, batch_size: int, steps: int, epoch: int = 0) -> list[str]:
        if self.schedule == "constant" or self.middle(steps) < steps:
            return []
        return [
            f"method=recadam: t0={self.t0:g} is not before the end of the run, after {steps} steps,"
            " so the encoder stays near its pretrained weights; a t0 below 1 is a share of the"
            " steps"
        ]

    def prepare(self, model: torch.nn.Module, setting: Setting) -> None:
        self.pulled = {n: s for n, s in setting.pretrained.items() if n not in setting.head}
        self.total = setting.total_steps
        self.taken: torch.Tensor | None = None  # steps, a scalar where the weights are

    def optimizer_built(self, optimizer: torch.optim.Optimizer) -> None:
        from methods.surgery.steps import Steps

        self.steps = Steps(optimizer)

    def after_clipping(self, model: torch.nn.Module, step: int) -> None:
        if self.schedule != "constant":
            self.steps.remember(self._parameters(model))

    def after_step(self, model: torch.nn.Module, step: int) -> None:
        import torch

        if self.schedule == "constant":
            return
        device = next(model.parameters()).device
        with torch.no_grad():
            taken = torch.zeros((), device=device) if self.taken is None else self.taken.to(device)
            self.taken = taken.add_(1)
            share = self.share(taken)
            left = self.pull * (1 - share)
            for name, parameter, start, rate in self.steps.taken(self._parameters(model)):
                origin = self.pulled[name] = self.pulled[name].to(device)
                start.lerp_(parameter, share)
                parameter.copy_(start.lerp_(origin, (left * rate).clamp_(max=1)))

    def share(self, taken: torch.Tensor) -> torch.Tensor:
        """Return λ at the step whose number from 1 is given, a scalar."""
        middle = self.middle(self.total)
        if self.schedule == "linear":
            return (taken / middle).clamp_(max=1)
        return (self.k * (taken - middle)).sigmoid_()

    def _parameters(self, model: torch.nn.Module) -> dict[str, torch.nn.Parameter]:
        return {n: p for n, p in model.named_parameters() if n in self.pulled}

    def state_dict(self) -> dict[str, Any]:
        return {"taken": self.taken}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.taken = state["taken"]
