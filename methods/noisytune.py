"""NoisyTune: uniform noise on the pretrained weights, once before training.

Wu et al., ACL 2022 (arXiv 2202.12024): W + U(-λ/2, λ/2) · std(W), one standard deviation a tensor.
Encoder and pooler are perturbed, a fresh head is not (`scope=all` does), nor what another method
inserts, in whatever order the two are named. Tensors of one entry have no standard deviation and
stay. Other methods take the weights as loaded, before the noise, for the pretrained ones.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from annotated_types import Ge

from methods.method import Method, Options, Setting
from methods.surgery.inserted import as_loaded, inserts

if TYPE_CHECKING:
    import torch


@dataclass(kw_only=True)
class Noisytune(Method):
    """Add uniform noise to the weights at the start, scaled by each tensor's standard deviation."""

    name: ClassVar[str] = "noisytune"
    paper: ClassVar[str] = "Wu et al. 2022"
    trains: ClassVar[str] = "noise on the weights, once at the start"
    changes_start: ClassVar[bool] = True
    needs: ClassVar[frozenset[str]] = frozenset({"pretrained"})
    no_strength: ClassVar[Options | None] = {"strength": 0}

    strength: Annotated[float, Ge(0)] = 0.15
    scope: Literal["encoder", "all"] = "encoder"

    @property
    def unread(self) -> Mapping[str, str]:
        return {"scope": "strength=0"} if self.strength == 0 else {}

    def version_beside(self, methods: Sequence[Method]) -> int:
        """Return 2 behind a method that inserts parameters, which had noise too before."""
        before = methods[: methods.index(self)]
        return self.version + int(self.strength > 0 and any(inserts(m) for m in before))

    def prepare(self, model: torch.nn.Module, setting: Setting) -> None:
        import torch

        if self.strength == 0:
            return
        half, known = self.strength / 2, {*setting.pretrained, *setting.head}
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                if parameter.numel() < 2 or as_loaded(name) not in known:
                    continue
                if self.scope == "encoder" and name in setting.head:
                    continue
                noise = torch.empty_like(parameter).uniform_(
                    -half, half, generator=setting.generator
                )
                parameter.add_(noise * parameter.std())
