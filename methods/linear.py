"""Linear probe: the encoder is frozen and only the head trains. The floor that a method must beat.

The head is what is drawn from the run's seed: the classifier, a pooler that the checkpoint did not
hold, and modules of `model.untrained`, which it holds but never trained, such as minilm's pooler. A
pretrained pooler stays frozen. Dropout stays on in training, as for every method.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from methods.method import LearningRate, Method, Setting

if TYPE_CHECKING:
    import torch


@dataclass(kw_only=True)
class Linear(Method):
    """Freeze every pretrained parameter and train the head."""

    name: ClassVar[str] = "linear"
    paper: ClassVar[str] = "–"
    trains: ClassVar[str] = "nothing"
    owns: ClassVar[frozenset[str]] = frozenset({"parameters", "head"})

    lr: LearningRate = 1e-3

    @property
    def moves(self) -> frozenset[str]:
        return frozenset()

    def prepare(self, model: torch.nn.Module, setting: Setting) -> None:
        for name, parameter in model.named_parameters():
            parameter.requires_grad_(name in setting.head)
