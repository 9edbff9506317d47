"""UniPELT's parts: gates, gated LoRA, gated prefixes, gated adapters."""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from torch import nn

from methods.surgery.bottleneck import undrawn

KERNEL = "tunebench_prefix"


class Mask:
    """The attention mask of the batch that is passing through, for modules that see no mask."""

    def __init__(self, model: nn.Module) -> None:
        self.now: torch.Tensor | None = None
        model.register_forward_pre_hook(self.keep, with_kwargs=True)

    def keep(self, module: nn.Module, inputs: Any, named: dict[str, Any]) -> None:
        """Remember the mask that the model is called with."""
        self.now = named.get("attention_mask")


class Gate(nn.Module):
    """One number in (0, 1) for each sequence: the mean of σ(w·x + c) over its positions.

    (B, L, width) to (B, 1, 1). With `mask`, padding does not count (so batches may be padded to
    any length); without, every position does, as in the authors' code.
    """

    def __init__(self, width: int, mask: Mask | None, generator: torch.Generator) -> None:
        super().__init__()
        self.linear = undrawn(width, 1)
        nn.init.normal_(self.linear.weight, std=0.02, generator=generator)
        nn.init.zeros_(self.linear.bias)
        self.mask = mask
        self.seen: list[tuple[torch.Tensor, torch.Tensor]] = []  # at which pass, and values
        self.passes = torch.zeros((), dtype=torch.int64)  # counted where a graph counts too

    def forward(self, hidden_states: torch.Tensor) -> torch.Tensor:
        opened = torch.sigmoid(self.linear(hidden_states))
        if self.mask is None or self.mask.now is None:
            value = opened.mean(dim=1, keepdim=True)
        else:
            real = self.mask.now.to(opened.dtype).unsqueeze(2)
            value = (opened * real).sum(dim=1, keepdim=True) / real.sum(dim=1, keepdim=True)
        if self.training:
            self.passes = self.passes.to(value.device)
            self.passes.add_(1)
            self.seen = []
        else:
            self.seen.append((self.passes.clone(), value.detach().flatten()))
        return value

    def summary(self) -> dict[str, float] | None:
        """Return mean, lowest and highest value over the latest evaluation."""
        if not self.seen:
            return None
        last = int(self.seen[-1][0])
        values = torch.cat([value for passes, value in self.seen if int(passes) == last]).float()
        return {
            "mean": round(float(values.mean()), 6),
            "min": round(float(values.min()), 6),
            "max": round(float(values.max()), 6),
        }


class GatedLowRank(nn.Module):
    """x ↦ gate(x) · scale · B A x, added to a linear layer's output."""

    def __init__(
        self, linear: Any, rank: int, gate: Gate, scale: float, generator: torch.Generator
    ) -> None:
        super().__init__()
        self.A = undrawn(linear.in_features, rank, bias=False)
        self.B = undrawn(rank, linear.out_features, bias=False)
        nn.init.kaiming_uniform_(self.A.weight, a=5**0.5, generator=generator)
        nn.init.zeros_(self.B.weight)
        self.gate, self.scale = gate, scale
        linear.register_forward_hook(partial(_add_gated, self))

    def forward(self, hidden_states: torch.Tensor) -> torch.Tensor:
        result: torch.Tensor = self.gate(hidden_states) * self.B(self.A(hidden_states))
        return result * self.scale


def _add_gated(added: nn.Module, module: nn.Module, inputs: Any, output: torch.Tensor) -> Any:
    return output + added(inputs[0])


class GatedBottleneck(nn.Module):
    """z ↦ gate(z) · U φ(D z): what a Pfeiffer adapter adds before the second normalisation."""

    def __init__(self, bottleneck: nn.Module, gate: Gate) -> None:
        super().__init__()
        self.bottleneck, self.gate = bottleneck, gate

    def forward(self, hidden_states: torch.Tensor) -> torch.Tensor:
        result: torch.Tensor = self.gate(hidden_states) * self.bottleneck(hidden_states)
        return result


class Prefixes(nn.Module):
    """Keys and values put before every layer's own, made by one MLP while training.

    `forward()` returns (2N, heads, length, head width), a key and a value for each layer. After
    `fold`, or in place of the MLP, only that tensor is kept.
    """

    folded: torch.Tensor | None

    def __init__(
        self,
        length: int,
        layers: int,
        heads: int,
        width: int,
        middle: int,
        generator: torch.Generator,
    ) -> None:
        super().__init__()
        self.shape = (length, 2 * layers, heads, width // heads)
        self.embedding = nn.Parameter(torch.empty(length, width))
        self.inner = undrawn(width, middle)
        self.outer = undrawn(middle, 2 * layers * width)
        for weight in (self.embedding, self.inner.weight, self.outer.weight):
            nn.init.normal_(weight, std=0.02, generator=generator)
        nn.init.zeros_(self.inner.bias)
        nn.init.zeros_(self.outer.bias)
        self.register_buffer("folded", None, persistent=False)  # follows the model

    def forward(self) -> torch.Tensor:
        if self.folded is not None:
            return self.folded
        with torch.autocast(self.embedding.device.type, enabled=False):
            rows = self.outer(torch.tanh(self.inner(self.embedding)))
        result: torch.Tensor = rows.view(self.shape).permute(1, 2, 0, 3)
        return result


class CurrentPrefixes:
    """The prefixes of the forward pass that is under way, made once for all layers."""

    def __init__(self, model: nn.Module, prefixes: Prefixes) -> None:
        self.prefixes = prefixes
        self.now: torch.Tensor
        model.register_forward_pre_hook(self.make)

    def make(self, module: nn.Module, inputs: Any) -> None:
        """Run the MLP."""
        self.now = self.prefixes()


class PrefixedAttention:
    """Gives one layer's attention kernel its prefix, scaled by a gate on the layer's input.

    The kernel is reached through transformers' table of attention functions, so positions of real
    tokens stay as they are, unlike with a key-value cache.
    """

    def __init__(self, core: nn.Module, index: int, gate: Gate, current: CurrentPrefixes) -> None:
        self.index, self.gate, self.current = index, gate, current
        self.opened: torch.Tensor | None = None
        core.register_forward_pre_hook(self.open, with_kwargs=True)
        core.tunebench_prefix = self  # type: ignore[assignment]

    def open(self, module: nn.Module, inputs: Any, named: dict[str, Any]) -> None:
        """Compute the gate from the input of the attention."""
        hidden_states = inputs[0] if inputs else named["hidden_states"]
        self.opened = self.gate(hidden_states).unsqueeze(1)  # (B, 1, 1, 1)

    def extend(
        self, key: torch.Tensor, value: torch.Tensor, mask: torch.Tensor | None
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor | None]:
        """Prepend prefix to (B, heads, L, head width), and visible columns to (B, 1, L, L)."""
        assert self.opened is not None
        prefix = self.current.now[2 * self.index : 2 * self.index + 2].unsqueeze(1).to(key.dtype)
        opened = self.opened.to(key.dtype)
        key = torch.cat([opened * prefix[0], key], dim=2)
        value = torch.cat([opened * prefix[1], value], dim=2)
        if mask is not None:
            visible = mask.new_ones if mask.dtype == torch.bool else mask.new_zeros
            mask = torch.cat([visible((*mask.shape[:3], prefix.shape[3])), mask], dim=3)
        self.opened = None
        return key, value, mask


def use_prefix_kernel(model: Any) -> None:
    """Route the model's attention through a kernel that prepends what a module's prefix holds."""
    from transformers import AttentionInterface, AttentionMaskInterface
    from transformers.masking_utils import ALL_MASK_ATTENTION_FUNCTIONS
    from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

    def kernel(
        module: nn.Module,
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        attention_mask: torch.Tensor | None,
        **more: Any,
    ) -> Any:
        prefix: Any = getattr(module, "tunebench_prefix", None)
        if prefix is not None:
            key, value, attention_mask = prefix.extend(key, value, attention_mask)
        return ALL_ATTENTION_FUNCTIONS["sdpa"](module, query, key, value, attention_mask, **more)

    AttentionInterface.register(KERNEL, kernel)
    AttentionMaskInterface.register(KERNEL, ALL_MASK_ATTENTION_FUNCTIONS["sdpa"])
    model.set_attn_implementation(KERNEL)
