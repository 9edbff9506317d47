"""A linear layer whose matrix is divided by an estimate of its largest singular value."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.nn import functional

AT_START = 15  # rounds of power iteration before the first step, as in torch's parametrization


class SpectralNorm:
    """Has a layer compute with W / σ, σ = uᵀ W v, where u and v follow the largest singular value.

    Miyato et al., ICLR 2018 (arXiv 1802.05957). In training each pass does one round of power
    iteration before it; gradients go through σ by W, and take u and v as constants. The layer's
    weight keeps its name and is W.
    """

    def __init__(
        self,
        layer: nn.Linear,
        name: str,
        generator: torch.Generator,
        paused: Callable[[], bool] = lambda: False,
    ) -> None:
        """Draw u, (outputs,), and v, (inputs,), from a CPU generator.

        `name` is the layer's. While `paused`, passes leave both vectors as they are.
        """
        self.layer, self.name, self.paused, self.bounded = layer, f"{name}.weight", paused, False
        outputs, inputs = layer.weight.shape
        self.left = functional.normalize(torch.randn(outputs, generator=generator), dim=0)
        self.right = functional.normalize(torch.randn(inputs, generator=generator), dim=0)
        for _ in range(AT_START):
            self._iterate()
        layer.forward = self._forward  # type: ignore[method-assign, assignment]

    @torch.no_grad()
    def _iterate(self) -> None:
        weight = self.layer.weight
        self._follow()
        self.left.copy_(functional.normalize(torch.mv(weight, self.right), dim=0))
        self.right.copy_(functional.normalize(torch.mv(weight.t(), self.left), dim=0))

    def _follow(self) -> None:
        """Have both vectors where the matrix is."""
        device = self.layer.weight.device
        self.left, self.right = self.left.to(device), self.right.to(device)

    def weight(self) -> torch.Tensor:
        """Return the matrix that the layer computes with."""
        if self.bounded:
            return self.layer.weight
        self._follow()
        left, right = self.left.clone(), self.right.clone()  # later passes write over both
        return self.layer.weight / torch.dot(left, torch.mv(self.layer.weight, right))

    def hold(self, weight: torch.Tensor) -> None:
        """Put a matrix into the layer with which it computes as it is from now on."""
        self.layer.weight.data.copy_(weight)
        self.bounded = True

    def _forward(self, inputs: torch.Tensor) -> torch.Tensor:
        with torch.autocast(inputs.device.type, enabled=False):
            if self.layer.training and not self.bounded and not self.paused():
                self._iterate()
            weight = self.weight()
        return functional.linear(inputs, weight, self.layer.bias)

    def state_dict(self) -> dict[str, Any]:
        """Return both vectors."""
        return {"left": self.left, "right": self.right}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from what `state_dict` returned."""
        self._follow()
        self.left.copy_(state["left"])
        self.right.copy_(state["right"])
