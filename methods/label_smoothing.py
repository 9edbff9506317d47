"""Label smoothing: the targets of the cross-entropy are no longer certain.

Szegedy et al., CVPR 2016 (arXiv 1512.00567), section 7.

The target of label y among K is (1 - ε) [k = y] + ε / K, in training only. It is the number that
torch.nn.functional.cross_entropy(label_smoothing=ε) gives, and with weights of the classes, too:
each term counts with its own class's weight, and the sum is divided by the labels' weights. There a
formula stands in for torch's, which asks for what no CUDA graph can hold.

It changes the task's own loss, also where another method calls that (`rdrop`, `r3f`, `freelb`,
`smart`, `sift`) or takes it of each example (`dp`); what such methods add of their own is as it
was, and so is what `child_tuning_d` measures. A choice among options is smoothed over these, a
masked token over the vocabulary, a mixture in its tasks with labels. Scores have no labels:
such tasks are refused. epsilon=0 is plain fine-tuning.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

from annotated_types import Ge, Lt

from methods.method import Criterion, Method, Options

if TYPE_CHECKING:
    import torch


@dataclass(kw_only=True)
class LabelSmoothing(Method):
    """Take `epsilon` of each target away and spread it evenly over all labels."""

    name: ClassVar[str] = "label_smoothing"
    paper: ClassVar[str] = "Szegedy et al. 2016"
    trains: ClassVar[str] = "labels count as certain to 1 - ε only"
    owns: ClassVar[frozenset[str]] = frozenset({"criterion"})
    no_strength: ClassVar[Options | None] = {"epsilon": 0}

    epsilon: Annotated[float, Ge(0), Lt(1)] = 0.1

    @property
    def criterion(self) -> Criterion | None:
        return None if self.paused or self.epsilon == 0 else self.smoothed

    def smoothed(
        self,
        logits: torch.Tensor,
        labels: torch.Tensor,
        weight: torch.Tensor | None = None,
        reduction: str = "mean",
    ) -> torch.Tensor:
        """Return the smoothed cross-entropy of logits (B, K) and labels (B,); see `cross_entropy`.

        With weights (K,) of the classes the mean is over the labels' weights.
        """
        from torch.nn.functional import cross_entropy

        if weight is None or reduction != "mean":
            return cross_entropy(
                logits, labels, weight, reduction=reduction, label_smoothing=self.epsilon
            )
        certain = cross_entropy(logits, labels, weight)
        even = -(logits.log_softmax(-1) * weight).mean(-1).sum() / weight[labels].sum()
        return (1 - self.epsilon) * certain + self.epsilon * even

    def report(self) -> dict[str, Any]:
        """Return what is smoothed, so that recorded losses are read as what they are."""
        if self.epsilon == 0:
            return {}
        return {"smoothed": "the task's loss in training, and nothing in evaluation"}
