"""Bottleneck adapters: small residual networks inside every layer of a frozen encoder.

Houlsby et al., ICML 2019 (arXiv 1902.00751), authors' code google-research/adapter-bert 1a31fc6;
Pfeiffer et al., EACL 2021 (arXiv 2005.00247), as AdapterHub computes it; parallel form: He et al.,
ICLR 2022 (arXiv 2110.04366).

Where paper and code differ, and what is the default here:
- weights start at a truncated normal of std 1e-2 (paper); `init_std=1e-3` is the authors' code;
- the paper leaves the nonlinearity open; `gelu_new` is the authors' code;
- LayerNorms train with placement=houlsby, as in paper and code, and stay frozen otherwise, as in
  AdapterHub (`layer_norms` decides);
- placement=pfeiffer applies the frozen LayerNorm twice, as AdapterHub does; pfeiffer_postln is the
  common simplification z + A(z);
- weights, activation and scale are the same at every placement, and AdapterHub's are others: with
  `pfeiffer` N(0, 0.02²), not cut, and ReLU (`init=normal init_std=0.02 activation=relu`); with
  `parallel` Kaiming's uniform for D, zeros for U, ReLU, and scale 4, after He et al.
  (`init=kaiming activation=relu scale=4`). With `init=kaiming` the start is the pretrained model.
A pretrained pooler stays frozen. ALBERT shares its layer, and with it the adapters. T5's decoder
has them after its own attention and its feed-forward branch, and none after the attention to the
encoder. XLNet's stand before the branch's dropout.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from annotated_types import Ge, Gt

from methods.method import LearningRate, Method, Options, Setting
from results.errors import UserError

if TYPE_CHECKING:
    import torch


@dataclass(kw_only=True)
class Adapter(Method):
    """Insert A(h) = U φ(D h + b_D) + b_U with its skip into each layer; train these and the head.

    `size` is the bottleneck, at most the hidden size. `init_std` is of the normal, cut or not, that
    `init` names; D of init=kaiming is uniform within 1/√width. `scale` multiplies the parallel
    form's output. `layer_norms=null` trains them with placement=houlsby only.
    """

    name: ClassVar[str] = "adapter"
    paper: ClassVar[str] = "Houlsby et al. 2019; Pfeiffer et al. 2021; He et al. 2022"
    trains: ClassVar[str] = "bottlenecks after attention and feed-forward, LayerNorms; `placement=`"
    owns: ClassVar[frozenset[str]] = frozenset({"parameters"})
    leaves: ClassVar[str] = "leaves bottlenecks in the encoder"
    changes_start: ClassVar[bool] = True  # near the pretrained model, not at it
    narrow: ClassVar[Options] = {"size": 8}
    added: ClassVar[Options] = {"init": "truncated"}

    lr: LearningRate = 1e-3
    placement: Literal["houlsby", "pfeiffer", "pfeiffer_postln", "parallel"] = "houlsby"
    size: Annotated[int, Ge(1)] = 64
    activation: Literal["gelu", "gelu_new", "relu", "swish", "tanh"] = "gelu_new"
    init: Literal["truncated", "normal", "kaiming"] = "truncated"
    init_std: Annotated[float, Gt(0)] = 1e-2
    scale: Annotated[float, Gt(0)] = 1.0
    layer_norms: bool | None = None

    @property
    def moves(self) -> frozenset[str]:
        return frozenset({"layers"})

    @property
    def unread(self) -> Mapping[str, str]:
        unread = {"init_std": "init=kaiming"} if self.init == "kaiming" else {}
        if self.placement != "parallel":
            unread["scale"] = f"placement={self.placement}"
        return unread

    def say_alike(self) -> None:
        if self.layer_norms == (self.placement == "houlsby"):
            self.layer_norms = None

    def prepare(self, model: torch.nn.Module, setting: Setting) -> None:
        from methods.surgery import bottleneck, places

        width = places.hidden_size(model)
        if self.size > width:
            raise UserError(
                f"method.adapter.size={self.size}: a bottleneck is at most as wide as the encoder's"
                f" {width}"
            )
        needs = ["last_norm"] if self.placement.startswith("pfeiffer") else []
        needs += ["attention"] if self.placement == "houlsby" else []
        layers = places.layers(model, f"adapter placement={self.placement}", needs)
        places.freeze_all_but_head(model, setting.head)

        stream = setting.generator
        down, up = {
            "truncated": (bottleneck.truncated_linear, bottleneck.truncated_linear),
            "normal": (bottleneck.normal_linear, bottleneck.normal_linear),
            "kaiming": (bottleneck.kaiming_linear, bottleneck.zero_linear),
        }[self.init]

        def draw() -> bottleneck.Bottleneck:
            return bottleneck.Bottleneck(
                down(width, self.size, self.init_std, stream),
                bottleneck.ACTIVATIONS[self.activation](),
                up(self.size, width, self.init_std, stream),
            )

        for layer in layers:
            if self.placement == "houlsby":
                bottleneck.add_to_branch(layer, "attention", draw())
                bottleneck.add_to_branch(layer, "ffn", draw())
            elif self.placement == "pfeiffer":
                bottleneck.add_before_second_norm(layer, draw())
            elif self.placement == "pfeiffer_postln":
                bottleneck.add_after_norm(layer, draw())
            else:
                bottleneck.Parallel(layer, draw(), self.scale)
        train_norms = self.placement == "houlsby" if self.layer_norms is None else self.layer_norms
        if train_norms:
            for parameter in places.layer_norms(model):
                parameter.requires_grad_(True)
