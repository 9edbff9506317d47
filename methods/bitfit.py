"""BitFit: only the bias vectors and the head train.

Ben Zaken, Goldberg and Ravfogel, ACL 2022 (arXiv 2106.10199); authors' code benzakenelad/BitFit,
7ead19a.

Where paper and code differ, and what is the default here:
- the pooler's bias is not discussed in the paper and trained in the code: trained here
  (`pooler=false` freezes it);
- the code holds the learning rate constant; here the schedule is the budget's, the same for every
  method (`budget.schedule=constant budget.warmup=0` is the code's);
- the paper selects the best epoch on dev; here the protocol decides, the same for every method.
Biases never decay: the loop keeps weight decay off every one-dimensional parameter.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

from methods.method import LearningRate, Method, Setting
from results.errors import UserError

if TYPE_CHECKING:
    import torch

# Query projections and the feed-forward expansion, as the architectures name them.
_QUERY = re.compile(r"(\.query|\.query_proj|\.q_lin|\.attn\.q)\.bias$|\.q_bias$")
_INTERMEDIATE = re.compile(r"(\.intermediate\.dense|\.ffn|\.ffn\.lin1|\.ff\.layer_1)\.bias$")


def is_bias(name: str) -> bool:
    """Tell whether a parameter is a bias vector; DeBERTa's first version has q_bias, v_bias."""
    last = name.rsplit(".", 1)[-1]
    return last in {"bias", "q_bias", "v_bias"}


@dataclass(kw_only=True)
class BitFit(Method):
    """Freeze everything but the biases (all, or b_q and b_m2 of section 4) and the head.

    `layers` lists the encoder layers whose biases train, from 0; null means all, and the
    embeddings' normalisation as well.
    An encoder without a matching bias is refused: only its head would train. XLNet's queries have
    none, so that a subset is the expansions' there.
    """

    name: ClassVar[str] = "bitfit"
    paper: ClassVar[str] = "Ben Zaken et al. 2022"
    trains: ClassVar[str] = "biases; `subset=query_intermediate`, `layers=[…]`"
    owns: ClassVar[frozenset[str]] = frozenset({"parameters"})

    lr: LearningRate = 1e-3
    subset: Literal["all", "query_intermediate"] = "all"
    pooler: bool = True
    layers: list[int] | None = None

    @property
    def moves(self) -> frozenset[str]:
        return frozenset({"layers"})

    def version_beside(self, methods: Sequence[Method]) -> int:
        """Return 2 with a subset, which left out the query's biases of MPNet before."""
        return self.version + int(self.subset != "all")

    def say_alike(self) -> None:
        if self.layers is not None:
            self.layers = sorted({*self.layers})

    def _chosen_layers(self, model: torch.nn.Module) -> Callable[[str], bool]:
        """Return a test on parameter names: in one of `layers`, or in the pooler."""
        if self.layers is None:
            return lambda name: True
        from methods.surgery import places

        names = {layer.index: layer.name for layer in places.layers(model, "bitfit")}
        wrong = [i for i in self.layers if i not in names]
        if wrong or not self.layers:
            raise UserError(
                f"method.bitfit.layers={self.layers}: this encoder has layers 0 to {max(names)}"
            )
        chosen = tuple(f"{names[i]}." for i in self.layers)
        return lambda name: name.startswith(chosen) or ".pooler." in f".{name}"

    def _selects(self, name: str) -> bool:
        if not is_bias(name):
            return False
        if ".pooler." in f".{name}":
            return self.pooler
        return self.subset == "all" or bool(_QUERY.search(name) or _INTERMEDIATE.search(name))

    def prepare(self, model: torch.nn.Module, setting: Setting) -> None:
        inside = self._chosen_layers(model)
        biases = {
            n
            for n, _ in model.named_parameters()
            if n not in setting.head and self._selects(n) and inside(n)
        }
        if not {n for n in biases if ".pooler." not in f".{n}"}:
            what = "bias" if self.subset == "all" else "query or intermediate bias"
            raise UserError(
                f"method=bitfit: {type(model).__name__} has no {what} in its encoder, so only the"
                " head would train; use method=linear for that, or a model with biases such as"
                " minilm"
            )
        for name, parameter in model.named_parameters():
            parameter.requires_grad_(name in setting.head or name in biases)
