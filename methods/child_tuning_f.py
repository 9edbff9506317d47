"""Child-Tuning F: every step, a fresh random part of the gradient is dropped.

Xu et al., EMNLP 2021 (arXiv 2109.05687); authors' code RunxinXu/ChildTuning d0d8655. The mask acts
after clipping and before the optimizer's moments, and the rest is divided by p, in both. Under Adam
that factor cancels: the method is noise, and steps smaller by about √p. As in the code, every
trained tensor is masked; `exclude=head` spares the head. p=1 is plain fine-tuning. Rows of an
embedding whose tokens are not in the batch have no gradient, and on a CPU no mask is drawn for
them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from annotated_types import Gt, Le

from methods.method import Method, Options, Setting

if TYPE_CHECKING:
    import torch


@dataclass(kw_only=True)
class ChildTuningF(Method):
    """Keep each entry of the gradient with probability `p`, anew at every step, divided by `p`."""

    name: ClassVar[str] = "child_tuning_f"
    paper: ClassVar[str] = "Xu et al. 2021"
    trains: ClassVar[str] = "a random part of the gradient is dropped, anew each step"
    version: ClassVar[int] = 2
    no_strength: ClassVar[Options | None] = {"p": 1}

    p: Annotated[float, Gt(0), Le(1)] = 0.3
    exclude: Literal["none", "head"] = "none"

    @property
    def unread(self) -> Mapping[str, str]:
        return {"exclude": "p=1"} if self.p == 1 else {}

    def prepare(self, model: torch.nn.Module, setting: Setting) -> None:
        import torch

        from methods.surgery.streams import Streams

        self.streams = Streams(setting.generator)
        self.spared = setting.head if self.exclude == "head" else frozenset()
        self.tables = {
            f"{name}.weight"
            for name, module in model.named_modules()
            if isinstance(module, torch.nn.Embedding)
        }

    def after_clipping(self, model: torch.nn.Module, step: int) -> None:
        import torch

        from methods.surgery import streams

        if self.p == 1:
            return
        for name, parameter in model.named_parameters():
            gradient = parameter.grad
            if gradient is None or name in self.spared:
                continue
            if name in self.tables and streams.is_on_host(gradient):  # a GPU would have to wait
                largest = torch.linalg.vector_norm(gradient, ord=torch.inf, dim=1)
                rows = largest.nonzero()[:, 0]  # nan counts as not zero
                gradient[rows] = self._masked(gradient[rows])
            else:
                self._masked(gradient)

    def _masked(self, gradient: torch.Tensor) -> torch.Tensor:
        """Mask a gradient in place."""
        return gradient.mul_(self.streams.keep(gradient, self.p).div_(self.p))

    def state_dict(self) -> dict[str, Any]:
        return self.streams.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.streams.load_state_dict(state)
