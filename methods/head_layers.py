"""Which layers the head reads: another than the last, or the mean or maximum of several.

Sun et al. 2019 (arXiv 1905.05583), section 5.3, compare layers of BERT: the maximum of the last
four is as good there as the last. What the head, and a pooler before it, would be given of the last
layer's output is the combination instead; nothing is added to the model. Layers above the highest
that is read have no gradient and stay as they are. Sun et al. also set states end to end, which
needs a wider head, and is not offered. ALBERT's layers are one, and are refused. Of T5 the layers
are its decoder's, whose states the head reads.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from methods.method import Method, Options, Setting, by_token
from results.errors import UserError

if TYPE_CHECKING:
    import torch


@dataclass(kw_only=True)
class HeadLayers(Method):
    """Give the head the mean or maximum, element by element, of several layers' (B, L, width).

    `layers` counts from 1, the first, or backwards from -1, the last.
    """

    name: ClassVar[str] = "head_layers"
    paper: ClassVar[str] = "Sun et al. 2019"
    trains: ClassVar[str] = "the head reads several layers; `layers=`, `pool=`"
    of_whole_texts: ClassVar[str] = "chooses what a head over whole texts reads"
    leaves: ClassVar[str] = "has the head read several layers"
    changes_start: ClassVar[bool] = True
    no_strength: ClassVar[Options | None] = {"layers": [-1]}
    narrow: ClassVar[Options] = {"layers": [-2, -1]}

    layers: list[int] = field(default_factory=lambda: [-4, -3, -2, -1])
    pool: Literal["max", "mean"] = "max"

    @property
    def unread(self) -> Mapping[str, str]:
        return {"pool": "one layer"} if len(self.layers) == 1 else {}

    def say_alike(self) -> None:
        self.layers = sorted(self.layers)

    def prepare(self, model: Any, setting: Setting) -> None:
        from methods.surgery import places

        if model.config.model_type == "albert":
            raise UserError(
                "method=head_layers: albert's layers share their weights; use another model"
            )
        last = places.stacks(model, "head_layers")[-1]
        every = [one for one in places.layers(model, "head_layers") if one.places == last]
        chosen = _indices(self.layers, len(every))
        if chosen == [len(every) - 1]:
            return
        self._states: list[torch.Tensor] = []
        for index in chosen[:-1] if chosen[-1] == len(every) - 1 else chosen:
            every[index].module.register_forward_hook(self._keep)
        self._reads_last = chosen[-1] == len(every) - 1
        every[-1].module.register_forward_hook(self._combine, prepend=True)  # for what pools it

    @by_token
    def _keep(self, module: torch.nn.Module, inputs: Any, output: Any) -> None:
        self._states.append(_state(output))

    @by_token
    def _combine(self, module: torch.nn.Module, inputs: Any, output: Any) -> Any:
        import torch

        last = _state(output)
        tokens = last.shape[1]  # one, where nothing reads the others
        states = [state[:, :tokens] for state in self._states] + [last] * self._reads_last
        self._states.clear()
        stacked = torch.stack(states)
        combined = stacked.amax(0) if self.pool == "max" else stacked.mean(0)
        return (combined, *output[1:]) if isinstance(output, tuple) else combined


def _state(output: Any) -> torch.Tensor:
    """Return a layer's hidden states, (B, L, width)."""
    state: torch.Tensor = output[0] if isinstance(output, tuple) else output
    return state


def _indices(named: list[int], count: int) -> list[int]:
    """Return the layers named, each once, counted from 0; a wrong name is a UserError."""
    indices = [n - 1 if n > 0 else n + count for n in named]
    wrong = [n for n, i in zip(named, indices, strict=True) if n == 0 or not 0 <= i < count]
    if wrong or not named or len({*indices}) < len(indices):
        what = f"{wrong[0]} is not one of them" if wrong else "name one or more, each once"
        raise UserError(
            f"method.head_layers.layers={named}: this encoder has layers 1 to {count}, or -{count}"
            f" to -1 from the last; {what}"
        )
    return sorted(indices)
