"""Compacter: adapters whose matrices are sums of Kronecker products with one shared rule.

Karimi Mahabadi, Henderson and Ruder, NeurIPS 2021 (arXiv 2106.04647); authors' code
rabeehk/compacter e123daa (T5). The constants are those of its compacter configuration, not the
code's defaults: n=4, reduction 32, rule shared by all layers and drawn from N(0, 1e-4²),
factors Glorot uniform with gain √2, gelu_new, LayerNorms trained. placement=ffn is Compacter++.

An adapter stands after the dropout of its branch here, where Houlsby's adapters stand in BERT; in
the authors' code it takes the output of the branch's last projection, and dropout falls on what it
returns (`before_dropout=true`). The two differ while training only.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from annotated_types import Ge

from methods.method import LearningRate, Method, Options, ParameterGroup, Setting
from results.errors import UserError

if TYPE_CHECKING:
    import torch


@dataclass(kw_only=True)
class Compacter(Method):
    """Insert PHM bottlenecks after attention and feed-forward; train these and the head.

    The bottleneck has width / `reduction` units; `n` must divide it and the width.
    """

    name: ClassVar[str] = "compacter"
    paper: ClassVar[str] = "Karimi Mahabadi et al. 2021"
    trains: ClassVar[str] = "Kronecker bottlenecks, LayerNorms; `placement=`"
    owns: ClassVar[frozenset[str]] = frozenset({"parameters"})
    leaves: ClassVar[str] = "leaves bottlenecks in the encoder"
    changes_start: ClassVar[bool] = True  # near the pretrained model, not at it
    narrow: ClassVar[Options] = {"reduction": 4}
    added: ClassVar[Options] = {"before_dropout": False}

    lr: LearningRate = 3e-3
    n: Annotated[int, Ge(1)] = 4
    reduction: Annotated[int, Ge(1)] = 32
    placement: Literal["both", "ffn"] = "both"
    layer_norms: bool = True
    before_dropout: bool = False

    @property
    def moves(self) -> frozenset[str]:
        return frozenset({"layers"})

    def prepare(self, model: torch.nn.Module, setting: Setting) -> None:
        import torch

        from methods.surgery import bottleneck, places

        width = places.hidden_size(model)
        size = width // self.reduction
        if size == 0 or size % self.n or width % self.n:
            raise UserError(
                f"method=compacter: n={self.n} must divide the encoder's width {width} and the"
                f" bottleneck {width} // {self.reduction} = {size}; choose method.compacter.n and"
                " method.compacter.reduction accordingly"
            )
        both = self.placement == "both"
        layers = places.layers(
            model, f"compacter placement={self.placement}", ["attention"] if both else []
        )
        places.freeze_all_but_head(model, setting.head)
        n, stream = self.n, setting.generator
        rule = torch.nn.Parameter(torch.empty(n, n, n).normal_(std=1e-4, generator=stream))

        def factor(*shape: int) -> torch.Tensor:
            drawn = torch.empty(n, *shape)
            for piece in drawn:
                torch.nn.init.xavier_uniform_(piece, gain=2**0.5, generator=stream)
            return drawn

        def linear(inputs: int, outputs: int) -> bottleneck.PHMLinear:
            left, right = factor(inputs // n, 1), factor(1, outputs // n)
            return bottleneck.PHMLinear(rule, left, right)

        add = bottleneck.add_to_projection if self.before_dropout else bottleneck.add_to_branch
        for layer in layers:
            for place in ("attention", "ffn") if both else ("ffn",):
                middle = bottleneck.ACTIVATIONS["gelu_new"]()
                adapter = bottleneck.Bottleneck(linear(width, size), middle, linear(size, width))
                add(layer, place, adapter)
        self.rule = rule
        if self.layer_norms:
            for parameter in places.layer_norms(model):
                parameter.requires_grad_(True)

    def parameter_groups(
        self, model: torch.nn.Module, groups: list[ParameterGroup]
    ) -> list[ParameterGroup]:
        """Keep weight decay off the rule, which every layer shares; its rate stays."""
        rates = [g["lr"] for g in groups if any(p is self.rule for p in g["params"])]
        if not rates:  # a frozen start's
            return groups
        rest = [
            {**group, "params": [p for p in group["params"] if p is not self.rule]}
            for group in groups
        ]
        return [*rest, {"params": [self.rule], "lr": rates[0], "weight_decay": 0.0}]
