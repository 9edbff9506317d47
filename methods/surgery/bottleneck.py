"""Bottleneck adapters and the three ways to attach them to a layer."""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from torch import nn
from torch.nn import functional

from methods.method import by_token
from methods.surgery.places import Layer

ACTIVATIONS: dict[str, Any] = {
    "gelu": nn.GELU,
    "gelu_new": partial(nn.GELU, approximate="tanh"),
    "relu": nn.ReLU,
    "swish": nn.SiLU,
    "tanh": nn.Tanh,
}


@by_token
class Bottleneck(nn.Module):
    """h ↦ U φ(D h + b_D) + b_U, without the skip: (..., width) to (..., width)."""

    def __init__(self, down: nn.Module, activation: nn.Module, up: nn.Module) -> None:
        super().__init__()
        self.down, self.activation, self.up = down, activation, up

    def forward(self, hidden_states: torch.Tensor) -> torch.Tensor:
        result: torch.Tensor = self.up(self.activation(self.down(hidden_states)))
        return result


def undrawn(inputs: int, outputs: int, bias: bool = True) -> nn.Linear:
    """Return a linear layer whose weights are still to be filled: nothing was drawn for them."""
    return nn.Linear(inputs, outputs, bias, device="meta").to_empty(device="cpu")


def truncated_linear(
    inputs: int, outputs: int, std: float, generator: torch.Generator
) -> nn.Linear:
    """Return a linear layer with weights from N(0, std²) cut at two std, and zero biases."""
    linear = undrawn(inputs, outputs)
    nn.init.trunc_normal_(linear.weight, std=std, a=-2 * std, b=2 * std, generator=generator)
    nn.init.zeros_(linear.bias)
    return linear


def normal_linear(inputs: int, outputs: int, std: float, generator: torch.Generator) -> nn.Linear:
    """Return a linear layer with weights from N(0, std²), and zero biases."""
    linear = undrawn(inputs, outputs)
    nn.init.normal_(linear.weight, std=std, generator=generator)
    nn.init.zeros_(linear.bias)
    return linear


def kaiming_linear(inputs: int, outputs: int, std: float, generator: torch.Generator) -> nn.Linear:
    """Return a linear layer with weights uniform within 1/√inputs, and zero biases.

    That is Kaiming's with a slope of √5; `std` says nothing.
    """
    linear = undrawn(inputs, outputs)
    nn.init.kaiming_uniform_(linear.weight, a=5**0.5, generator=generator)
    nn.init.zeros_(linear.bias)
    return linear


def zero_linear(inputs: int, outputs: int, std: float, generator: torch.Generator) -> nn.Linear:
    """Return a linear layer of zeros; nothing is drawn for it."""
    linear = undrawn(inputs, outputs)
    nn.init.zeros_(linear.weight)
    nn.init.zeros_(linear.bias)
    return linear


def add_to_branch(layer: Layer, place: str, adapter: nn.Module) -> None:
    """Insert an adapter with its skip into a branch, before the branch meets its residual."""
    layer.module.add_module(f"{place}_adapter", adapter)
    layer.at(place).register_forward_hook(partial(_with_skip, adapter))


def add_to_projection(layer: Layer, place: str, adapter: nn.Module) -> None:
    """Insert an adapter with its skip behind a branch's last projection, before any dropout."""
    layer.module.add_module(f"{place}_adapter", adapter)
    module = layer.at("contraction" if place == "ffn" else "attention")
    if isinstance(module, nn.Linear):
        module.register_forward_hook(partial(_with_skip, adapter))
    else:  # the branch's dropout
        module.register_forward_pre_hook(partial(_before, adapter))


@by_token
def _before(adapter: nn.Module, module: nn.Module, inputs: Any) -> Any:
    return (inputs[0] + adapter(inputs[0]), *inputs[1:])


@by_token
def _with_skip(adapter: nn.Module, module: nn.Module, inputs: Any, output: torch.Tensor) -> Any:
    return output + adapter(output)


def add_before_second_norm(layer: Layer, adapter: nn.Module) -> None:
    """Attach as AdapterHub's Pfeiffer form: LN(f + x + A(LN(f + x))), the same LN twice."""
    layer.module.add_module("ffn_adapter", adapter)
    layer.at("last_norm").register_forward_hook(partial(_normed_twice, adapter))


@by_token
def _normed_twice(adapter: nn.Module, norm: nn.Module, inputs: Any, output: torch.Tensor) -> Any:
    return norm.forward(inputs[0] + adapter(output))  # .forward: hooks must not run again


def add_after_norm(layer: Layer, adapter: nn.Module) -> None:
    """Attach after the layer's last normalisation: z + A(z)."""
    layer.module.add_module("ffn_adapter", adapter)
    layer.at("last_norm").register_forward_hook(partial(_with_skip, adapter))


class Parallel:
    """Adds scale · A(x) to the feed-forward branch, x being that branch's own input."""

    def __init__(self, layer: Layer, adapter: nn.Module, scale: float) -> None:
        self.adapter, self.scale = adapter, scale
        self.input: torch.Tensor | None = None
        layer.module.add_module("ffn_adapter", adapter)
        # The branch's module is registered last: it may be the very module that takes the input.
        layer.at("ffn_input").register_forward_pre_hook(self.keep)
        layer.at("ffn").register_forward_hook(self.add)

    @by_token
    def keep(self, module: nn.Module, inputs: Any) -> None:
        """Remember the branch's input."""
        self.input = inputs[0]

    @by_token
    def add(self, module: nn.Module, inputs: Any, output: torch.Tensor) -> torch.Tensor:
        """Return the branch with the adapter's part added."""
        assert self.input is not None
        added: torch.Tensor = self.adapter(self.input)
        self.input = None
        return output + self.scale * added


@by_token
class PHMLinear(nn.Module):
    """x ↦ x Σ_i R_i ⊗ (s_i t_i) + b: (..., inputs) to (..., outputs), of rank one per block.

    `rule` (n, n, n) is shared by every layer of the model; `left` is (n, inputs/n, 1), `right`
    (n, 1, outputs/n).
    """

    def __init__(self, rule: nn.Parameter, left: torch.Tensor, right: torch.Tensor) -> None:
        super().__init__()
        self.rule = rule
        self.left, self.right = nn.Parameter(left), nn.Parameter(right)
        n = rule.shape[0]
        self.bias = nn.Parameter(torch.zeros(n * right.shape[2]))

    def forward(self, hidden_states: torch.Tensor) -> torch.Tensor:
        # Σ_i R_i ⊗ W_i as a matrix: block (a, b) is Σ_i R_i[a, b] s_i t_i.
        n = self.rule.shape[0]
        blocks = torch.einsum(
            "iab,ip,iq->apbq", self.rule, self.left.squeeze(2), self.right.squeeze(1)
        )
        matrix = blocks.reshape(n * self.left.shape[1], n * self.right.shape[2])
        return functional.linear(hidden_states, matrix.t(), self.bias)

    def per_example_gradients(self, seen: torch.Tensor, g: torch.Tensor) -> dict[str, torch.Tensor]:
        """Return each example's gradients of this layer's parameters, (B, *shape).

        `seen` is the input, (B, L, inputs), and `g` the gradient of the output, (B, L, outputs).
        """
        n, left, right = self.rule.shape[0], self.left.squeeze(2), self.right.squeeze(1)
        blocks = (seen.transpose(1, 2) @ g).view(
            len(g), n, left.shape[1], n, right.shape[1]
        )  # of the matrix: (B, a, p, b, q)
        rule, left, right = (t.detach().float() for t in (self.rule, left, right))
        return {
            "rule": torch.einsum("zapbq,ip,iq->ziab", blocks, left, right),
            "left": torch.einsum("zapbq,iab,iq->zip", blocks, rule, right).unsqueeze(3),
            "right": torch.einsum("zapbq,iab,ip->ziq", blocks, rule, left).unsqueeze(2),
            "bias": g.sum(1),
        }
