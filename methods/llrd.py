"""Layer-wise learning rate decay: lower layers take smaller steps.

Sun et al., CCL 2019 (arXiv 1905.05583): η of a layer is ξ times that of the layer
above. Conventions, with L layers numbered from 0: recommended here, head and pooler η, layer i
η ξ^(L-1-i), embeddings η ξ^L; `convention=sun` is that paper's code, which leaves the embeddings at
η; `convention=zhang` is that of Zhang et al., ICLR 2021 (code 0aa4f4e): layer i η ξ^(L-i),
embeddings η ξ^(L+1). A parameter that layers share, as Compacter's rule, is of none of them and has
η. ξ=1 is plain fine-tuning.

Only the rates are a convention's; this too differs in the code of Zhang et al.:
- pooler and head have no weight decay there, and the rest has none either unless it is towards the
  pretrained weights (`wd_pre`): `budget.weight_decay=0` is both;
- a parameter outside embeddings, layers, pooler and classifier is given to no optimizer there:
  ELECTRA's `embeddings_project` stays as it was pretrained, which looks like an oversight and is
  not copied; here it has the embeddings' rate. So have ALBERT's `embedding_hidden_mapping_in`, the
  relative positions of MPNet and DeBERTa-v2 (`rel_embeddings`, with its normalisation), which all
  layers read, and the convolution beside DeBERTa-v2's first layer: version 2 of these three
  architectures. What else stands in no layer has η, as the head: the last normalisation of
  ModernBERT and T5.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal

from annotated_types import Gt, Le

from methods.method import Method, Options, ParameterGroup, Setting
from results.errors import UserError

# Those with parts of the encoder below its first layer, which had the head's rate in version 1.
BELOW_LAYERS = frozenset({"albert", "deberta-v2", "mpnet"})


@dataclass(kw_only=True)
class Llrd(Method):
    """Scale the learning rate of each layer by a power of `decay`."""

    name: ClassVar[str] = "llrd"
    paper: ClassVar[str] = "Sun et al. 2019"
    trains: ClassVar[str] = "lower layers take smaller steps"
    no_strength: ClassVar[Options | None] = {"decay": 1}

    decay: Annotated[float, Gt(0), Le(1)] = 0.95
    convention: Literal["recommended", "sun", "zhang"] = "recommended"

    @property
    def unread(self) -> Mapping[str, str]:
        return {"convention": "decay=1"} if self.decay == 1 else {}

    @property
    def acts_on(self) -> frozenset[str]:
        return frozenset({"layers"})

    def prepare(self, model: Any, setting: Setting) -> None:
        from methods.surgery.depths import Depths

        self.depths = Depths(model, "llrd")
        self.together = ",".join(setting.methods)

    def model_known(self, architecture: str) -> None:
        self._below = architecture in BELOW_LAYERS

    def version_beside(self, methods: Sequence[Method]) -> int:
        """Return one more for each of two that had other rates before, where there is a decay.

        Behind compacter, its shared rule had the lowest layer's; parts below the layers the head's.
        """
        before = [m.name for m in methods[: methods.index(self)]]
        others = int("compacter" in before) + int(getattr(self, "_below", False))
        return self.version + (others if self.decay < 1 else 0)

    def _power(self, depth: int) -> int:
        """Return the power of the decay for parameters so far below the head."""
        if depth == 0 or (self.convention == "sun" and depth > self.depths.layers):
            return 0
        return depth - 1 + int(self.convention == "zhang")

    def parameter_groups(self, model: Any, groups: list[ParameterGroup]) -> list[ParameterGroup]:
        if self.decay == 1:
            return groups
        powers = {p: self._power(depth) for p, depth in self.depths.of(model).items()}
        if not any(powers[id(p)] for group in groups for p in group["params"]):
            raise UserError(
                f"method=[{self.together}]: all that trains is at the full rate, and llrd has"
                " nothing to scale; train more layers, or leave it out"
            )
        split = []
        for group in groups:
            for power in sorted({powers[id(p)] for p in group["params"]}):
                chosen = [p for p in group["params"] if powers[id(p)] == power]
                split.append({**group, "params": chosen, "lr": group["lr"] * self.decay**power})
        return split
