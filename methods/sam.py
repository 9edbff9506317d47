"""SAM: the gradient is taken where the loss is highest within ρ of the weights, to first order.

Foret et al., ICLR 2021 (arXiv 2010.01412); authors' code google-research/sam 1c8af51.

A step takes two gradients of a batch, with the norm over all trained parameters:

    g = ∇L(w),   g' = ∇L(w + ρ g / (‖g‖ + 1e-12))

The weights are put back, and g' is clipped and given to the optimizer, in the code too; what other
methods do to a gradient they do to g'. 1e-12 is davda54/sam's: the authors divide by ‖g‖ alone.

Both passes have the same dropout, as in the authors' code, which gives them one key; with
`same_dropout=false` the second draws anew. What methods draw for themselves, such as `hype` and
`mixout`, is drawn anew in any case. Here weight decay is the optimizer's; the authors' is part of
the loss, and so of g. The recorded loss is that at w; the authors log that at the moved weights. ρ
is the paper's default, found for images. A step takes about twice the time, and two copies of the
trained weights. rho=0 is plain fine-tuning, with one pass.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, ClassVar

from annotated_types import Ge

from methods.method import Method, Options

if TYPE_CHECKING:
    import torch

    from methods.surgery.ascent import Named


@dataclass(kw_only=True)
class Sam(Method):
    """Step by the gradient at the weights moved by `rho` along their gradient."""

    name: ClassVar[str] = "sam"
    paper: ClassVar[str] = "Foret et al. 2021"
    trains: ClassVar[str] = "by the gradient at the worst weights nearby"
    owns: ClassVar[frozenset[str]] = frozenset({"gradient"})
    hinders_capture: ClassVar[str] = "it sets dropout's stream back for its second pass"
    no_strength: ClassVar[Options | None] = {"rho": 0}

    rho: Annotated[float, Ge(0)] = 0.05
    same_dropout: bool = True

    @property
    def unread(self) -> Mapping[str, str]:
        return {"same_dropout": "rho=0"} if self.rho == 0 else {}

    @property
    def hindrance(self) -> str:
        return self.hinders_capture if self.rho and self.same_dropout else ""

    def backward_passes(
        self, model: torch.nn.Module, once: Callable[[], torch.Tensor]
    ) -> torch.Tensor:
        if self.rho == 0:
            return once()
        from methods.surgery.ascent import above

        return above(model, once, self.climb, self.same_dropout)

    def climb(self, named: Named) -> list[torch.Tensor]:
        """Return ρ g / ‖g‖ for parameters with a gradient."""
        import torch

        from methods.surgery.ascent import norm_of

        gradients = [p.grad for _, p in named if p.grad is not None]
        scale = self.rho / (norm_of(gradients) + 1e-12)
        return list(torch._foreach_mul(gradients, scale))
