"""SiFT: virtual adversarial training on normalised embeddings.

He et al., ICLR 2021 (DeBERTa, arXiv 2006.03654), section 4; code microsoft/DeBERTa 4d7fe0b. The
paper gives no constants; those here are the code's.

The input of the embedding LayerNorm passes a LayerNorm without gain and bias (ε 1e-7) while
training, clean and perturbed alike. The perturbation starts at N(0, s0²) cut at 2 s0 and takes one
step of ascent, `step` times the gradient over its largest entry of each token, without projection.
The term is CE(P, Q) + CE(Q, P), each with its target detached; gradients reach both branches, but
not the embedding tables through the perturbed one.

Where paper and code differ, and what is the default here:
- with one output (STS-B) the published term and its gradient are exactly zero: by default the
  squared difference takes its place; `regression=published` keeps the zero;
- in evaluation the added LayerNorm is off here and on in the code (they differ by rounding where
  ε of the embedding LayerNorm is 1e-12, as in BERT).
Three forward passes a step. weight=0 is plain fine-tuning, without the added LayerNorm.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from annotated_types import Ge

from methods.method import Batch, Forward, Method, Options, Setting
from results.errors import UserError

if TYPE_CHECKING:
    import torch


@dataclass(kw_only=True)
class Sift(Method):
    """Add `weight` times the symmetric cross-entropy of clean and perturbed predictions."""

    name: ClassVar[str] = "sift"
    paper: ClassVar[str] = "He et al. 2021"
    trains: ClassVar[str] = "predictions smooth around normalised embeddings, adversarially"
    owns: ClassVar[frozenset[str]] = frozenset({"loss"})
    of_whole_texts: ClassVar[str] = "compares answers to whole texts"
    no_strength: ClassVar[Options | None] = {"weight": 0}
    other_dropout: ClassVar[bool] = True

    weight: Annotated[float, Ge(0)] = 5.0
    step: Annotated[float, Ge(0)] = 1e-4
    start: Annotated[float, Ge(0)] = 1e-2
    regression: Literal["squared", "published"] = "squared"

    @property
    def unread(self) -> Mapping[str, str]:
        idle = ("step", "start", "regression") if self.weight == 0 else ()
        return dict.fromkeys(idle, "weight=0")

    def prepare(self, model: Any, setting: Setting) -> None:
        import torch

        from methods.surgery.streams import Streams

        self.streams = Streams(setting.generator)
        self.normed: torch.Tensor | None = None  # the clean pass's normalised embeddings
        self.delta: torch.Tensor | None = None
        if self.weight == 0:
            return
        embeddings = getattr(model.base_model, "embeddings", None)
        inside = [] if embeddings is None else embeddings.modules()
        norms = [m for m in inside if isinstance(m, torch.nn.LayerNorm)]
        if len(norms) != 1:
            raise UserError(
                f"method=sift: {model.config.model_type} has {len(norms)} LayerNorms in its"
                " embeddings, one is needed; use another model, or method=smart"
            )
        norms[0].register_forward_pre_hook(self._perturb)

    def _perturb(self, module: torch.nn.Module, inputs: Any) -> Any:
        import torch

        if not module.training or self.paused:
            return None
        if self.delta is not None:
            assert self.normed is not None
            return (self.normed + self.delta,)
        summed = inputs[0]
        normed = torch.nn.functional.layer_norm(summed, summed.shape[-1:], eps=1e-7)
        self.normed = normed.detach()
        return (normed,)

    def _apart(self, moved: torch.Tensor, clean: torch.Tensor) -> torch.Tensor:
        from methods.surgery.divergences import cross_entropies, is_score, squared_difference

        squared = is_score(clean) and self.regression == "squared"
        return (squared_difference if squared else cross_entropies)(moved, clean)

    def loss(self, model: torch.nn.Module, batch: Batch, forward: Forward) -> torch.Tensor:
        import torch

        clean = forward(batch)
        if self.weight == 0:
            return clean.loss
        assert self.normed is not None
        noise = self.streams.normal(self.normed.float(), self.start)
        first = noise.clamp(-2 * self.start, 2 * self.start).requires_grad_(True)
        self.delta = first
        try:
            distance = self._apart(forward(batch).logits, clean.logits.detach()).sum()
            [gradient] = torch.autograd.grad(distance, first)
            self.delta = self.ascended(first.detach(), gradient)
            moved = forward(batch)
        finally:
            self.delta = None
        return clean.loss + self.weight * self._apart(moved.logits, clean.logits).mean()

    def ascended(self, first: torch.Tensor, gradient: torch.Tensor) -> torch.Tensor:
        """Return the perturbation (B, L, width) after one step; a broken gradient moves nothing."""
        import torch

        moved = first + self.step * gradient / (gradient.abs().amax(-1, keepdim=True) + 1e-6)
        return torch.where(torch.isfinite(gradient).all(), moved, first)

    def state_dict(self) -> dict[str, Any]:
        return self.streams.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.streams.load_state_dict(state)
