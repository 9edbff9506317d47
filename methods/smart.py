"""SMART's smoothness term: predictions must not change within a small ball around the words.

Jiang et al., ACL 2020 (arXiv 1911.03437); code namisan/mt-dnn 3228e7c.

One step of ascent on the divergence moves a random start z ~ N(0, σ²) of the word embeddings by
`step` times the gradient over its largest entry of each token, and is then projected to |z| ≤
`radius` (paper). The code divides by the largest entry after the step instead, so that its |z| is
about 1 (`normalise=unit`), and adds positions and LayerNorm to an embedding that already has them;
that is not copied. The term is the batch's mean of KL(P‖Q) + KL(Q‖P), of the squared difference
for regression, and the ascent is on the same divergence. Three forward passes a step.

In the paper gradients go through P and Q of both divergences. In the code each divergence's target
is detached: the loss is the same number, but near P = Q its gradient is half as long
(`detach=true`), so λ_s of the code's runs pulls as half of it does in the paper's formula. The
code's ascent has log odds in place of log probabilities, which is not copied.

The paper's other half, the Bregman proximal point term, is not in the code, and off by default:
`proximal` times the mean of the same divergence between the model and its own moving average,
θ̃ ← average · θ̃ + (1 - average) · θ after every step, once all methods have edited θ, whose
predictions are taken without dropout and without a gradient. It costs a fourth forward pass and a
copy of the trained weights. weight=0 and proximal=0 are plain fine-tuning.

Below float32 what `radius` leaves of z is lost in rounding, so a small one is refused there.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from annotated_types import Ge, Gt, Lt

from methods.method import Batch, Forward, Method, Options, Setting
from methods.surgery.edits import edited_behind
from results.errors import UserError

if TYPE_CHECKING:
    import torch


@dataclass(kw_only=True)
class Smart(Method):
    """Add `weight` times the divergence between clean and adversarially perturbed predictions."""

    name: ClassVar[str] = "smart"
    paper: ClassVar[str] = "Jiang et al. 2020"
    trains: ClassVar[str] = "predictions smooth around the words, adversarially"
    owns: ClassVar[frozenset[str]] = frozenset({"loss"})
    of_whole_texts: ClassVar[str] = "compares answers to whole texts"
    version: ClassVar[int] = 2
    added: ClassVar[Mapping[str, Any]] = {"proximal": 0.0, "average": 0.99, "detach": False}
    no_strength: ClassVar[Options | None] = {"weight": 0}
    other_dropout: ClassVar[bool] = True

    weight: Annotated[float, Ge(0)] = 1.0
    sigma: Annotated[float, Gt(0)] = 1e-5
    step: Annotated[float, Gt(0)] = 1e-3
    radius: Annotated[float, Gt(0)] = 1e-5
    normalise: Literal["project", "unit"] = "project"
    proximal: Annotated[float, Ge(0)] = 0.0
    average: Annotated[float, Ge(0), Lt(1)] = 0.99
    detach: bool = False

    @property
    def unread(self) -> Mapping[str, str]:
        unread = {"average": "proximal=0"} if self.proximal == 0 else {}
        if self.weight == 0:
            idle = ("sigma", "step", "radius", "normalise", "detach")
            return unread | dict.fromkeys(idle, "weight=0")
        return unread | ({"radius": "normalise=unit"} if self.normalise == "unit" else {})

    def version_beside(self, methods: Sequence[Method]) -> int:
        """Return one more before a method that edits weights after the average took them in."""
        return self.version + int(self.proximal > 0 and edited_behind(self, methods))

    def prepare(self, model: Any, setting: Setting) -> None:
        from methods.surgery import places
        from methods.surgery.streams import Streams

        bounded = self.weight > 0 and self.normalise == "project" and self.radius < 1e-3
        if setting.precision != "fp32" and bounded and not setting.stored:
            raise UserError(
                f"method=smart: noise within radius={self.radius:g} is lost in {setting.precision},"
                " whose rounding is coarser; use precision=fp32, or method.smart.radius of 1e-3 or"
                " more"
            )
        self.streams = Streams(setting.generator)
        self.words: torch.Tensor | None = None  # the last pass's word embeddings (B, L, width)
        self.delta: torch.Tensor | None = None
        self.mean: dict[str, torch.Tensor] = {}  # the moving average, of what is trained
        places.embedding_of_words(model, "smart").register_forward_hook(self._moved)

    def _moved(self, module: torch.nn.Module, inputs: Any, output: torch.Tensor) -> Any:
        if self.delta is None:
            self.words = output.detach()
            return None
        return output + self.delta

    def loss(self, model: torch.nn.Module, batch: Batch, forward: Forward) -> torch.Tensor:
        averaged = self._of_average(model, batch, forward) if self.proximal else None
        clean = forward(batch)
        loss = clean.loss
        if self.weight:
            loss = loss + self.weight * self._smoothness(clean.logits, batch, forward).mean()
        if averaged is not None:
            loss = loss + self.proximal * _apart(clean.logits, averaged).mean()
        return loss

    def _smoothness(self, clean: torch.Tensor, batch: Batch, forward: Forward) -> torch.Tensor:
        """Return each example's divergence (B,) from its logits (B, classes) nearby."""
        import torch

        assert self.words is not None
        start = self.streams.normal(self.words.float(), self.sigma).requires_grad_(True)
        self.delta = start
        try:
            distance = _apart(forward(batch).logits, clean.detach()).sum()
            [gradient] = torch.autograd.grad(distance, start)
            self.delta = self.ascended(start.detach(), gradient)
            moved = forward(batch)
        finally:
            self.delta = None
        return _apart(moved.logits, clean, self.detach)

    def _of_average(self, model: torch.nn.Module, batch: Batch, forward: Forward) -> torch.Tensor:
        """Return the logits (B, classes) of the moving average, which starts as the model."""
        import torch

        trained = {n: p for n, p in model.named_parameters() if p.requires_grad}
        if not self.mean:
            self.mean = {n: p.detach().clone() for n, p in trained.items()}
        current = {n: p.data for n, p in trained.items()}
        model.eval()
        try:
            for name, parameter in trained.items():
                parameter.data = self.mean[name]
            with torch.no_grad():
                return forward(batch).logits
        finally:
            for name, parameter in trained.items():
                parameter.data = current[name]
            model.train()

    def see_weights(self, model: torch.nn.Module, step: int) -> None:
        for name, parameter in model.named_parameters():
            if name in self.mean:
                self.mean[name].lerp_(parameter.detach(), 1 - self.average)

    def ascended(self, start: torch.Tensor, gradient: torch.Tensor) -> torch.Tensor:
        """Return the perturbation (B, L, width) after one step of ascent."""
        if self.normalise == "unit":
            moved = start + self.step * gradient
            return moved / (moved.abs().amax(-1, keepdim=True) + 1e-6)
        size = gradient.abs().amax(-1, keepdim=True).clamp_min(1e-30)
        moved = start + self.step * (gradient / size).nan_to_num(0.0)
        return moved.clamp(-self.radius, self.radius)

    def state_dict(self) -> dict[str, Any]:
        return {"streams": self.streams.state_dict(), "mean": self.mean}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.streams.load_state_dict(state["streams"])
        self.mean = state["mean"]


def _apart(first: torch.Tensor, second: torch.Tensor, detach: bool = False) -> torch.Tensor:
    """Return the paper's l_s of two outputs, (B,): squared for scores, else the sum of two KLs."""
    from methods.surgery.divergences import both_kl, both_kl_detached, is_score, squared_difference

    if is_score(first):
        return squared_difference(first, second)
    return (both_kl_detached if detach else both_kl)(first, second)
