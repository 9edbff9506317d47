"""UniPELT: adapter, prefix and LoRA in every layer, each behind a gate that depends on the input.

Mao et al., ACL 2022 (arXiv 2110.07577), authors' code morningmoni/UniPELT 53d3c35.

Where paper and code differ, and what is the default here:
- one gate a layer for LoRA (paper), on queries and values together; `lora_gate=per_matrix` is the
  code's two;
- the gate stands in the place of α/r, in both; `lora_scale=alpha` multiplies by α/r as well;
- a gate is the mean over real tokens; `gate_mean=all` also counts padding, as the code does, and
  then depends on how batches are padded;
- the head always trains; the code freezes its weights in runs without an adapter.
The adapter has Pfeiffer's form (the frozen LayerNorm twice), ReLU and biases. The prefix leaves
position ids alone; a gate of zero does not remove it, its keys still take attention. The MLP that
makes the prefix is used while training and not kept. Letter B also trains the biases; the paper
leaves it out.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from annotated_types import Ge, Gt

from methods.bitfit import is_bias
from methods.method import Folded, LearningRate, Method, Options, Setting
from results.errors import UserError

if TYPE_CHECKING:
    from methods.surgery.gates import Gate


@dataclass(kw_only=True)
class Unipelt(Method):
    """Insert gated sub-modules, named by the letters of `variant`; train these and the head."""

    name: ClassVar[str] = "unipelt"
    watches_evaluation: ClassVar[bool] = True
    paper: ClassVar[str] = "Mao et al. 2022"
    trains: ClassVar[str] = "gated adapter, prefix and LoRA; `variant=AP`, `APL`, `APLB`"
    owns: ClassVar[frozenset[str]] = frozenset({"parameters"})
    leaves: ClassVar[str] = "leaves gated modules in the encoder"
    changes_start: ClassVar[bool] = True  # prefix and adapter start near the pretrained model
    narrow: ClassVar[Options] = {"size": 8, "projection_size": 16}
    other_dropout: ClassVar[bool] = True

    lr: LearningRate = 1e-3
    variant: Literal["AP", "APL", "APLB"] = "APL"
    size: Annotated[int, Ge(1)] = 48
    length: Annotated[int, Ge(1)] = 10
    projection_size: Annotated[int, Ge(1)] = 512
    rank: Annotated[int, Ge(1)] = 8
    alpha: Annotated[float, Gt(0)] = 16
    lora_gate: Literal["shared", "per_matrix"] = "shared"
    lora_scale: Literal["none", "alpha"] = "none"
    gate_mean: Literal["real", "all"] = "real"

    @property
    def moves(self) -> frozenset[str]:
        return frozenset({"layers"})

    @property
    def unread(self) -> Mapping[str, str]:
        if "L" not in self.variant:
            lora = ("rank", "alpha", "lora_gate", "lora_scale")
            return dict.fromkeys(lora, f"variant={self.variant}")
        return {"alpha": "lora_scale=none"} if self.lora_scale == "none" else {}

    def prepare(self, model: Any, setting: Setting) -> None:
        import torch

        from methods.surgery import bottleneck, gates, places

        kind = model.config.model_type
        if kind in ("deberta-v2", "mpnet"):
            raise UserError(
                f"method=unipelt: {kind} computes attention with relative positions of its own,"
                " where a prefix has no place; use another model, or method=adapter"
            )
        layers = places.layers(model, "unipelt", ["last_norm", "query", "value"])
        width, stream = places.hidden_size(model), setting.generator
        if self.size > width:
            raise UserError(
                f"method.unipelt.size={self.size}: a bottleneck is at most as wide as the"
                f" encoder's {width}"
            )
        for name, parameter in model.named_parameters():
            biases = "B" in self.variant and is_bias(name)
            parameter.requires_grad_(name in setting.head or biases)
        mask = gates.Mask(model) if self.gate_mean == "real" else None
        self.gates: dict[str, Gate] = {}

        def gate(layer: places.Layer, of: str) -> Gate:
            module = gates.Gate(width, mask, stream)
            layer.module.add_module(f"{of}_gate", module)
            self.gates[f"layer {layer.index} {of}"] = module
            return module

        heads = model.config.num_attention_heads
        model.prefixes = gates.Prefixes(
            self.length, len(layers), heads, width, self.projection_size, stream
        )
        current = gates.CurrentPrefixes(model, model.prefixes)
        for layer in layers:
            down, up = (
                bottleneck.undrawn(a, b) for a, b in ((width, self.size), (self.size, width))
            )
            for linear in (down, up):
                torch.nn.init.normal_(linear.weight, std=0.02, generator=stream)
                torch.nn.init.zeros_(linear.bias)
            adapter = bottleneck.Bottleneck(down, torch.nn.ReLU(), up)
            gated = gates.GatedBottleneck(adapter, gate(layer, "adapter"))
            bottleneck.add_before_second_norm(layer, gated)
            core = layer.at("core")
            gates.PrefixedAttention(core, layer.index, gate(layer, "prefix"), current)
            if "L" in self.variant:
                scale = self.alpha / self.rank if self.lora_scale == "alpha" else 1.0
                shared = gate(layer, "lora") if self.lora_gate == "shared" else None
                for place in ("query", "value"):
                    own = shared or gate(layer, f"lora_{place}")
                    added = gates.GatedLowRank(layer.at(place), self.rank, own, scale, stream)
                    layer.module.add_module(f"lora_{place}", added)
        gates.use_prefix_kernel(model)

    def fold(self, model: Any) -> Folded:
        import torch

        names = {f"prefixes.{n}" for n, _ in model.prefixes.named_parameters()}
        with torch.no_grad():
            return Folded(frozenset(names), {"prefixes": model.prefixes().detach().clone()})

    def unfold(self, model: Any, tensors: dict[str, Any]) -> None:
        model.prefixes.folded = tensors["prefixes"]

    def report(self) -> dict[str, Any]:
        seen = {name: gate.summary() for name, gate in self.gates.items()}
        return {"gates": {name: values for name, values in seen.items() if values}}
