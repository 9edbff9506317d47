"""LayerNorm tuning: only the gains and biases of the encoder's LayerNorms and the head train.

Houlsby et al., ICML 2019 (arXiv 1902.00751), section 3.4; Zhao et al. 2023 (arXiv 2312.11420);
equal to peft's LNTuningConfig(target_modules=["LayerNorm"]), which trains copies. Gains and biases
never decay here.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from methods.method import LearningRate, Method, Setting

if TYPE_CHECKING:
    import torch


@dataclass(kw_only=True)
class LnTuning(Method):
    """Freeze everything but the LayerNorms of the encoder and the head."""

    name: ClassVar[str] = "ln_tuning"
    paper: ClassVar[str] = "Zhao et al. 2023"
    trains: ClassVar[str] = "LayerNorms"
    owns: ClassVar[frozenset[str]] = frozenset({"parameters"})

    lr: LearningRate = 1e-3

    @property
    def moves(self) -> frozenset[str]:
        return frozenset({"layers"})

    def prepare(self, model: torch.nn.Module, setting: Setting) -> None:
        from methods.surgery import places

        places.freeze_all_but_head(model, setting.head)
        for parameter in places.layer_norms(model):
            parameter.requires_grad_(True)
