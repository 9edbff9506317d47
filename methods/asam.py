"""ASAM: SAM, with a neighbourhood that is as wide as each weight is large.

Kwon et al., ICML 2021 (arXiv 2102.11600); authors' code SamsungLabs/ASAM dc9b513.

As in `sam`, with norms over all trained parameters:

    g = ∇L(w),   g' = ∇L(w + ρ T² g / (‖T g‖ + 1e-16)),   T = |w| + η for weights, else 1

Weights are, as in the code, the parameters that have `weight` in their name, gains of LayerNorms
among them; biases and the bare parameters that some methods insert are moved as in SAM. The code's
example has η = 0, its class 0.01. davda54/sam's variant has η = 0 and T = |w| for all.

The second pass draws its dropout anew, as in the code; `same_dropout=true` is `sam`'s way. The code
subtracts the move again; here a copy puts the weights back to the bit. Clipping comes after the
second pass; the code has none. ρ and η were found for images. rho=0 is plain fine-tuning, with one
pass.
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
class Asam(Method):
    """Step by the gradient at weights moved along their gradient, each by its own size."""

    name: ClassVar[str] = "asam"
    paper: ClassVar[str] = "Kwon et al. 2021"
    trains: ClassVar[str] = "by the gradient at the worst weights nearby, by each weight's size"
    owns: ClassVar[frozenset[str]] = frozenset({"gradient"})
    no_strength: ClassVar[Options | None] = {"rho": 0}
    other_dropout: ClassVar[bool] = True

    rho: Annotated[float, Ge(0)] = 0.5
    eta: Annotated[float, Ge(0)] = 0.01
    same_dropout: bool = False

    @property
    def unread(self) -> Mapping[str, str]:
        idle = ("eta", "same_dropout") if self.rho == 0 else ()
        return dict.fromkeys(idle, "rho=0")

    @property
    def hindrance(self) -> str:
        sets_back = self.rho and self.same_dropout
        return "it sets dropout's stream back for its second pass" if sets_back else ""

    def backward_passes(
        self, model: torch.nn.Module, once: Callable[[], torch.Tensor]
    ) -> torch.Tensor:
        if self.rho == 0:
            return once()
        from methods.surgery.ascent import above

        return above(model, once, self.climb, self.same_dropout)

    def climb(self, named: Named) -> list[torch.Tensor]:
        """Return ρ T² g / ‖T g‖ for parameters with a gradient."""
        import torch

        from methods.surgery.ascent import norm_of

        gradients = [p.grad for _, p in named if p.grad is not None]
        sizes = [p.abs() + self.eta if "weight" in n else torch.ones_like(p) for n, p in named]
        sized = torch._foreach_mul(gradients, sizes)
        scale = self.rho / (norm_of(sized) + 1e-16)
        torch._foreach_mul_(sized, sizes)
        torch._foreach_mul_(sized, scale)
        return list(sized)
