"""HyPe: fresh random noise on the input of every layer, in training only.

Yuan et al., ACL 2023 (arXiv 2212.08853); authors' code Yuanhy1997/HyPe 196efd5.

Where paper and code differ, and what is the default here:
- uniform noise is symmetric on (-σ, σ) in the paper; the code draws from [0, σ), as
  `distribution=uniform_positive`;
- dropout on hidden states, and as in the code the head's, is off, attention's is kept;
  `hidden_dropout=keep` leaves all of it. What another method inserts has none either, in whatever
  order the two are named. The control without noise is method=no_dropout.
Beside `r3f` its clean pass has no noise (appendix D.2); beside others of several passes each has.
The last layer's output is not perturbed. ALBERT's shared layer is perturbed at each repetition.
Below float32 the noise is lost in rounding (bf16 keeps eight bits), so small σ is refused there.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from annotated_types import Ge

from methods.method import Method, Options, Setting
from methods.no_dropout import NoDropout, left_on
from methods.r3f import R3f
from methods.surgery.passes import is_clean_pass
from results.errors import UserError

if TYPE_CHECKING:
    import torch


@dataclass(kw_only=True)
class Hype(Method):
    """Add N(0, σ²) or U(-σ, σ) to each layer's input (B, L, width), anew in every forward pass."""

    name: ClassVar[str] = "hype"
    paper: ClassVar[str] = "Yuan et al. 2023"
    trains: ClassVar[str] = "noise on every layer's input, hidden dropout off"
    no_strength: ClassVar[Options | None] = {"sigma": 0, "hidden_dropout": "keep"}
    other_dropout: ClassVar[bool] = True

    sigma: Annotated[float, Ge(0)] = 1e-5
    distribution: Literal["normal", "uniform", "uniform_positive"] = "normal"
    hidden_dropout: Literal["off", "keep"] = "off"

    @property
    def unread(self) -> Mapping[str, str]:
        return {"distribution": "sigma=0"} if self.sigma == 0 else {}

    def includes(self, other: Method) -> bool:
        return isinstance(other, NoDropout) and not other.attention and self.hidden_dropout == "off"

    def version_beside(self, methods: Sequence[Method]) -> int:
        """Return one more beside each that was met otherwise before.

        That is a method whose dropout was left on, and one whose clean pass had noise.
        """
        dropped = self.hidden_dropout == "off" and left_on(self, methods)
        noised = self.sigma > 0 and any(isinstance(m, R3f) and m.weight > 0 for m in methods)
        return self.version + int(dropped) + int(noised)

    def prepare(self, model: Any, setting: Setting) -> None:
        from methods.surgery import places
        from methods.surgery.streams import Streams

        if setting.precision != "fp32" and 0 < self.sigma < 1e-3:
            raise UserError(
                f"method=hype: noise of sigma={self.sigma:g} is lost in {setting.precision}, whose"
                " rounding is coarser; use precision=fp32, or method.hype.sigma of 1e-3 or more"
            )
        layers = places.layers(model, "hype")
        self.streams = Streams(setting.generator)
        if self.hidden_dropout == "off":
            places.switch_off_dropout(model, "hype", attention=False)
        if self.sigma > 0:
            for layer in layers:
                layer.module.register_forward_pre_hook(self._perturb, with_kwargs=True)

    def all_prepared(self, model: Any) -> None:
        """Switch off what other methods have inserted, too."""
        from methods.surgery import places

        if self.hidden_dropout == "off":
            places.switch_off_dropout(model, "hype", attention=False)
            places.switch_off_own_dropout(model)

    def _perturb(self, module: torch.nn.Module, inputs: Any, named: dict[str, Any]) -> Any:
        if not module.training or self.paused or is_clean_pass():
            return None
        if inputs:
            return (self._noised(inputs[0]), *inputs[1:]), named
        return inputs, {**named, "hidden_states": self._noised(named["hidden_states"])}

    def _noised(self, hidden_states: torch.Tensor) -> torch.Tensor:
        if self.distribution == "normal":
            return hidden_states + self.streams.normal(hidden_states, self.sigma)
        low = -self.sigma if self.distribution == "uniform" else 0.0
        return hidden_states + self.streams.uniform(hidden_states, low, self.sigma)

    def state_dict(self) -> dict[str, Any]:
        return self.streams.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.streams.load_state_dict(state)
