"""Full fine-tuning: every parameter trains. The baseline that all differences refer to.

Devlin et al. 2019 (arXiv 1810.04805), section 4.1. Nothing is changed about the plain loop.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from methods.method import Method, Setting

if TYPE_CHECKING:
    import torch


@dataclass(kw_only=True)
class Full(Method):
    """Train every parameter of encoder and head."""

    name: ClassVar[str] = "full"
    paper: ClassVar[str] = "Devlin et al. 2019"
    trains: ClassVar[str] = "everything"
    owns: ClassVar[frozenset[str]] = frozenset({"parameters"})

    def prepare(self, model: torch.nn.Module, setting: Setting) -> None:
        model.requires_grad_(True)
