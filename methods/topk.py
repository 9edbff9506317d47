"""Top-K tuning: only the top K layers, the pooler and the head train.

The baseline of Child-Tuning and HyPe's comparisons (related to Houlsby et al., ICML 2019). Dropout
stays on in the frozen part. ALBERT's layers are one, and cannot be told apart.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, ClassVar

from annotated_types import Ge

from methods.method import Method, Options, Setting
from results.errors import UserError


@dataclass(kw_only=True)
class Topk(Method):
    """Freeze embeddings and lower layers; train the top `layers`, the pooler and the head."""

    name: ClassVar[str] = "topk"
    paper: ClassVar[str] = "Houlsby et al. 2019"
    trains: ClassVar[str] = "the top 3 layers, the pooler; `layers=`"
    owns: ClassVar[frozenset[str]] = frozenset({"parameters"})
    narrow: ClassVar[Options] = {"layers": 1}
    with_others: ClassVar[Options] = {"layers": 2}

    layers: Annotated[int, Ge(0)] = 3

    @property
    def moves(self) -> frozenset[str]:
        return frozenset({"layers", "matrices"} if self.layers else {"matrices"})  # the pooler's

    def prepare(self, model: Any, setting: Setting) -> None:
        from methods.surgery import places

        if model.config.model_type == "albert":
            raise UserError("method=topk: albert's layers share their weights; use another model")
        layers = places.layers(model, "topk")
        if self.layers > len(layers):
            raise UserError(
                f"method.topk.layers={self.layers}: this encoder has {len(layers)} layers; use"
                " method=full to train all of them and the embeddings"
            )
        top = tuple(f"{layer.name}." for layer in layers[len(layers) - self.layers :])
        for name, parameter in model.named_parameters():
            inside = bool(top) and name.startswith(top)
            pooler = ".pooler." in f".{name}"
            parameter.requires_grad_(inside or pooler or name in setting.head)
