"""R-Drop: two forward passes with different dropout are pulled together.

Liang, Wu et al., NeurIPS 2021 (arXiv 2106.14448); authors' code dropreg/R-Drop 9dcc830.

Loss: the mean of the two passes' task losses, plus α times the mean over the batch of
(KL(P1‖P2) + KL(P2‖P1)) / 2; for regression the squared difference of the outputs. What differs from
the authors' code:
- the paper's equation and the code for BERT add the two task losses (`task_loss=sum`), so that the
  same α pulls half as hard there; a snippet in their README averages them, as is the default here;
- the code sums the divergence over the batch (`reduction=sum`, where α grows with the batch), for
  BERT with α = 0.5; in regression it takes the mean, with α = 1;
- for RoBERTa it loses the second task loss by a slip, which is not copied.
With dropout off both passes
agree and the term is zero: a run that was typed refuses that after a few steps. α=0 is plain
fine-tuning, with one pass.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from annotated_types import Ge

from methods.method import Batch, Forward, Method, Options, Setting
from results.errors import UserError

if TYPE_CHECKING:
    import torch


LOOKS = 5  # batches of which none had two passes that differ


@dataclass(kw_only=True)
class Rdrop(Method):
    """Add α · symmetric divergence between two passes of the same batch."""

    name: ClassVar[str] = "rdrop"
    paper: ClassVar[str] = "Liang, Wu et al. 2021"
    trains: ClassVar[str] = "two passes are pulled together"
    owns: ClassVar[frozenset[str]] = frozenset({"loss"})
    of_whole_texts: ClassVar[str] = "compares answers to whole texts"
    no_strength: ClassVar[Options | None] = {"alpha": 0}
    other_dropout: ClassVar[bool] = True
    added: ClassVar[Options] = {"task_loss": "mean"}

    alpha: Annotated[float, Ge(0)] = 0.5
    reduction: Literal["mean", "sum"] = "mean"
    task_loss: Literal["mean", "sum"] = "mean"

    @property
    def unread(self) -> Mapping[str, str]:
        idle = ("reduction", "task_loss") if self.alpha == 0 else ()
        return dict.fromkeys(idle, "alpha=0")

    @property
    def divisible(self) -> bool:
        return self.reduction == "mean" or self.alpha == 0

    def prepare(self, model: torch.nn.Module, setting: Setting) -> None:
        self.beside = setting.methods
        # Looking waits for the device. At first Mixout mixes weights with what they still are.
        self.to_look_at = 0 if setting.stored else min(LOOKS, setting.total_steps)

    def loss(self, model: torch.nn.Module, batch: Batch, forward: Forward) -> torch.Tensor:
        first = forward(batch)
        if self.alpha == 0:
            return first.loss
        from methods.surgery.divergences import difference

        second = forward(batch)
        if self.to_look_at > 0:
            self._compare(first.logits, second.logits)
        rows = difference(first.logits, second.logits)
        term = rows.sum() if self.reduction == "sum" else rows.mean()
        both = first.loss + second.loss
        return (both if self.task_loss == "sum" else 0.5 * both) + self.alpha * term

    def _compare(self, first: torch.Tensor, second: torch.Tensor) -> None:
        """Refuse a run whose passes are equal in each of its first batches."""
        self.to_look_at = self.to_look_at - 1 if first.equal(second) else -1
        if self.to_look_at == 0:
            raise UserError(
                f"method=[{','.join(self.beside)}]: the two passes of a batch are equal, as dropout"
                " is off; set budget.dropout=0.1, let no other method switch it off, or leave rdrop"
                " out"
            )
