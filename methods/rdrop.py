"""R-Drop: two forward passes with different dropout are pulled together.

Liang, Wu et al., NeurIPS 2021 (arXiv 2106.14448); authors' code dropreg/R-Drop 9dcc830.

Loss: the mean of the two passes' task losses, plus α times the mean over the batch of
(KL(P1‖P2) + KL(P2‖P1)) / 2; for regression the squared difference of the outputs. The code's
constants depend on the model, it sums the divergence over the batch (`reduction=sum`, where α grows
with the batch), and for RoBERTa loses the second task loss by a slip. With dropout off both passes
agree and the term is zero. α=0 is plain fine-tuning, with one pass.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from annotated_types import Ge

from methods.method import Batch, Forward, Method, Options, Setting

if TYPE_CHECKING:
    import torch


@dataclass(kw_only=True)
class Rdrop(Method):
    """Add α · symmetric divergence between two passes of the same batch."""

    name: ClassVar[str] = "rdrop"
    paper: ClassVar[str] = "Liang, Wu et al. 2021"
    trains: ClassVar[str] = "two passes are pulled together"
    owns: ClassVar[frozenset[str]] = frozenset({"loss"})
    no_strength: ClassVar[Options | None] = {"alpha": 0}
    other_dropout: ClassVar[bool] = True

    alpha: Annotated[float, Ge(0)] = 0.5
    reduction: Literal["mean", "sum"] = "mean"

    @property
    def divisible(self) -> bool:
        return self.reduction == "mean" or self.alpha == 0

    def prepare(self, model: torch.nn.Module, setting: Setting) -> None:
        self.regression = setting.regression

    def loss(self, model: torch.nn.Module, batch: Batch, forward: Forward) -> torch.Tensor:
        first = forward(batch)
        if self.alpha == 0:
            return first.loss
        from methods.surgery.divergences import squared_difference, symmetric_kl

        second = forward(batch)
        apart = squared_difference if self.regression else symmetric_kl
        rows = apart(first.logits, second.logits)
        term = rows.sum() if self.reduction == "sum" else rows.mean()
        return 0.5 * (first.loss + second.loss) + self.alpha * term
