"""SMART's smoothness term: predictions must not change within a small ball around the words.

Jiang et al., ACL 2020 (arXiv 1911.03437); code namisan/mt-dnn 3228e7c.

One step of ascent on the divergence moves a random start z ~ N(0, σ²) of the word embeddings by
`step` times the gradient over its largest entry of each token, and is then projected to |z| ≤
`radius` (paper). The code divides by the largest entry after the step instead, so that its |z| is
about 1 (`normalise=unit`), and adds positions and LayerNorm to an embedding that already has them;
that is not copied. The term is the mean of the symmetric divergence, the squared difference for
regression. The paper's proximal point term is not built, nor is it in the code. Three forward
passes a step. weight=0 is plain fine-tuning.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from annotated_types import Ge, Gt

from methods.method import Batch, Forward, Method, Setting

if TYPE_CHECKING:
    import torch


@dataclass(kw_only=True)
class Smart(Method):
    """Add `weight` times the divergence between clean and adversarially perturbed predictions."""

    name: ClassVar[str] = "smart"
    paper: ClassVar[str] = "Jiang et al. 2020"
    trains: ClassVar[str] = "predictions smooth around the words, adversarially"
    owns: ClassVar[frozenset[str]] = frozenset({"loss"})

    weight: Annotated[float, Ge(0)] = 1.0
    sigma: Annotated[float, Gt(0)] = 1e-5
    step: Annotated[float, Gt(0)] = 1e-3
    radius: Annotated[float, Gt(0)] = 1e-5
    normalise: Literal["project", "unit"] = "project"

    def prepare(self, model: Any, setting: Setting) -> None:
        from methods.surgery.streams import Streams

        self.streams = Streams(setting.generator)
        self.regression = setting.regression
        self.words: torch.Tensor | None = None  # the last pass's word embeddings (B, L, width)
        self.delta: torch.Tensor | None = None
        model.get_input_embeddings().register_forward_hook(self._moved)

    def _moved(self, module: torch.nn.Module, inputs: Any, output: torch.Tensor) -> Any:
        if self.delta is None:
            self.words = output.detach()
            return None
        return output + self.delta

    def loss(self, model: torch.nn.Module, batch: Batch, forward: Forward) -> torch.Tensor:
        import torch

        clean = forward(batch)
        if self.weight == 0:
            return clean.loss
        from methods.surgery.divergences import squared_difference, symmetric_kl

        apart = squared_difference if self.regression else symmetric_kl
        assert self.words is not None
        start = self.streams.normal(self.words.float(), self.sigma).requires_grad_(True)
        self.delta = start
        try:
            found = apart(forward(batch).logits, clean.logits.detach()).sum()
            [gradient] = torch.autograd.grad(found, start)
            self.delta = self.ascended(start.detach(), gradient)
            moved = forward(batch)
        finally:
            self.delta = None
        return clean.loss + self.weight * apart(moved.logits, clean.logits).mean()

    def ascended(self, start: torch.Tensor, gradient: torch.Tensor) -> torch.Tensor:
        """Return the perturbation (B, L, width) after one step of ascent."""
        if self.normalise == "unit":
            moved = start + self.step * gradient
            return moved / (moved.abs().amax(-1, keepdim=True) + 1e-6)
        size = gradient.abs().amax(-1, keepdim=True).clamp_min(1e-30)
        moved = start + self.step * (gradient / size).nan_to_num(0.0)
        return moved.clamp(-self.radius, self.radius)

    def state_dict(self) -> dict[str, Any]:
        return self.streams.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.streams.load_state_dict(state)
