"""Mixout: in training, weights are mixed at random with their pretrained values.

Lee, Cho and Kang, ICLR 2020 (arXiv 1909.11299); authors' code bloodwass/mixout 18f377d.

W_eff = ((1-M) θ0 + M W - p θ0) / (1-p), M = 1 with probability 1-p, so that E[W_eff] = W. One draw
for all outgoing weights of an input unit (`unit=neuron`, paper and code); `unit=entry` draws each
weight.

Where paper and code differ, and what is the default here:
- the gradient is that of the formula, 0 or 1/(1-p); the code's is 0 or 1 (`backward=official`);
- the head, whose θ0 is its random start, keeps plain dropout; the code mixes it too (`head=mixed`);
- dropout elsewhere is off, as in the code (`dropout=keep` leaves it).
Matrices that another method froze are left alone. p=0 with dropout=keep is plain fine-tuning.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from annotated_types import Ge, Lt

from methods.method import Method, Options, Setting, by_token
from results.errors import UserError

if TYPE_CHECKING:
    import torch


@dataclass(kw_only=True)
class Mixout(Method):
    """Mix the matrices of linear layers with their values before training, in training only."""

    name: ClassVar[str] = "mixout"
    paper: ClassVar[str] = "Lee et al. 2020"
    trains: ClassVar[str] = "weights mixed with the pretrained ones, dropout off"
    version: ClassVar[int] = 2
    needs: ClassVar[frozenset[str]] = frozenset({"pretrained"})
    no_strength: ClassVar[Options | None] = {"p": 0, "dropout": "keep"}
    with_others: ClassVar[Options] = {"dropout": "keep"}
    other_dropout: ClassVar[bool] = True

    p: Annotated[float, Ge(0), Lt(1)] = 0.7
    unit: Literal["neuron", "entry"] = "neuron"
    backward: Literal["exact", "official"] = "exact"
    head: Literal["plain", "mixed"] = "plain"
    dropout: Literal["off", "keep"] = "off"

    @property
    def unread(self) -> Mapping[str, str]:
        if self.p:
            return {}
        idle = ["unit", "backward", *(["head"] if self.dropout == "keep" else [])]
        return dict.fromkeys(idle, "p=0")

    @property
    def acts_on(self) -> frozenset[str]:
        return frozenset({"matrices"})

    def prepare(self, model: Any, setting: Setting) -> None:
        import torch

        from methods.surgery import places
        from methods.surgery.streams import Streams

        if model.config.model_type == "xlnet":
            raise UserError(
                "method=mixout: the matrices of xlnet's attention are bare parameters, and those of"
                " linear layers are mixed; use method=wd_pre, or another model"
            )
        self.streams = Streams(setting.generator)
        if self.dropout == "off":
            rates = {n: m.p for n, m in model.named_modules() if isinstance(m, torch.nn.Dropout)}
            places.switch_off_dropout(model, "mixout", attention=True)
            encoder = f"{model.base_model_prefix}."
            for name, module in model.named_modules():
                if name in rates and not name.startswith(encoder) and self.head == "plain":
                    module.p = rates[name]
        if self.p == 0:
            return
        self.start: dict[str, torch.Tensor] = {}
        for name, module in model.named_modules():
            weight = f"{name}.weight"
            mixed = weight not in setting.head or self.head == "mixed"
            if isinstance(module, torch.nn.Linear) and weight in setting.pretrained and mixed:
                self.start[weight] = setting.pretrained[weight]
                module.forward = partial(self._mixed, module, weight)  # type: ignore[method-assign]

    @by_token
    def _mixed(self, module: torch.nn.Linear, name: str, inputs: torch.Tensor) -> torch.Tensor:
        import torch

        weight = module.weight
        if not module.training or self.paused or not weight.requires_grad:
            return torch.nn.functional.linear(inputs, weight, module.bias)
        start = self.start[name] = self.start[name].to(weight.device)
        draw = start[:1] if self.unit == "neuron" else start
        mask = self.streams.keep(draw, 1 - self.p)
        if self.backward == "exact":
            mixed = (start * (1 - mask) + mask * weight - self.p * start) / (1 - self.p)
        else:
            own = mask * weight
            value = (start * (1 - mask) + own.detach() - self.p * start) / (1 - self.p)
            mixed = own + (value - own.detach())
        return torch.nn.functional.linear(inputs, mixed, module.bias)

    def state_dict(self) -> dict[str, Any]:
        return self.streams.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.streams.load_state_dict(state)
