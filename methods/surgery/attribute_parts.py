"""What attributes add to a bottleneck and to a head, each a vector an example."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import torch
from torch import nn
from torch.nn import functional

from methods.method import by_token
from methods.surgery.bottleneck import Bottleneck, undrawn
from methods.surgery.places import own_head_linears
from methods.surgery.streams import Held
from results.errors import UserError


def zero_map(inputs: int, outputs: int) -> nn.Linear:
    """Return a linear layer of zeros without a bias."""
    linear = undrawn(inputs, outputs, bias=False)
    nn.init.zeros_(linear.weight)
    return linear


class Tables(nn.Module):
    """A table of vectors for each attribute, of which row 0 is for unknown values.

    Numbers (B, attributes, values) to (B, width): the sum over attributes of the mean over an
    example's values. -1 is no value. Rows are drawn from N(0, std²).
    """

    def __init__(
        self, sizes: Sequence[int], width: int, std: float, generator: torch.Generator
    ) -> None:
        super().__init__()
        rows = [torch.empty(size + 1, width) for size in sizes]
        for table in rows:
            table.normal_(0.0, std, generator=generator) if std else table.zero_()
        self.tables = nn.ModuleList(
            nn.Embedding(len(table), width, _weight=table) for table in rows
        )

    def forward(self, numbers: torch.Tensor) -> torch.Tensor:
        means = []
        for place, table in enumerate(self.tables):
            own = numbers[:, place]
            present = (own >= 0).unsqueeze(2)
            rows = table(own.clamp(min=0)) * present
            means.append(rows.sum(1) / present.sum(1))
        return torch.stack(means).sum(0)


def only_unknown(numbers: torch.Tensor, keep: torch.Tensor) -> torch.Tensor:
    """Return numbers (B, attributes, values), unknown where `keep` (B, attributes) is 0."""
    unknown = torch.full_like(numbers, -1)
    unknown.select(2, 0).zero_()
    return torch.where(keep.bool().unsqueeze(2), numbers, unknown)


@by_token
class Joint(nn.Module):
    """x, e ↦ x Σ_i R_i ⊗ (s_i diag(Q_i e) t_i), without a matrix for each example.

    `rule` (n, n, n) is shared by every layer. `left` holds the s_i, `right` the t_i, and `scale`
    the Q_i, which are zero at first: (B, L, inputs) and (B, width) to (B, L, outputs).
    """

    def __init__(
        self, rule: nn.Parameter, sizes: tuple[int, int], rank: int, width: int, stream: Any
    ) -> None:
        super().__init__()
        self.n, self.rule = rule.shape[0], rule
        inputs, outputs = (size // self.n for size in sizes)
        channels = self.n * rank
        self.left = undrawn(inputs, channels, bias=False)
        self.right = undrawn(channels, outputs, bias=False)
        for slices in (self.left.weight.split(rank), self.right.weight.split(rank, dim=1)):
            for one in slices:
                nn.init.xavier_uniform_(one.detach(), gain=2**0.5, generator=stream)
        self.scale = zero_map(width, channels)

    def forward(self, hidden_states: torch.Tensor, vector: torch.Tensor) -> torch.Tensor:
        blocks = self.left(hidden_states.unflatten(-1, (self.n, -1)))  # (B, L, a, i·r)
        scaled = blocks * self.scale(vector)[:, None, None]
        # Block b of the output is Σ_i Σ_a R_i[a, b] of the input's blocks a.
        mixed = torch.einsum("iab,zlair->zlbir", self.rule, scaled.unflatten(-1, (self.n, -1)))
        added: torch.Tensor = self.right(mixed.flatten(-2)).flatten(-2)
        return added


@by_token
class AttributePart(nn.Module):
    """What an example's attributes add to a bottleneck's D h: (B, L, width) to (B, L, size)."""

    def __init__(self, vector: Held, independent: nn.Linear | None, joint: Joint | None) -> None:
        super().__init__()
        self.vector, self.independent, self.joint = vector, independent, joint

    def forward(self, hidden_states: torch.Tensor) -> torch.Tensor:
        vector = self.vector.value
        assert vector is not None
        parts = []
        if self.independent is not None:
            parts.append(self.independent(vector).unsqueeze(1))
        if self.joint is not None:
            parts.append(self.joint(hidden_states, vector))
        added: torch.Tensor = sum(parts[1:], parts[0])
        return added


def add_to_bottleneck(bottleneck: Bottleneck, part: AttributePart) -> None:
    """Let a bottleneck's first matrix give what a part adds as well."""
    bottleneck.add_module("attr", part)
    bottleneck.down.register_forward_hook(partial(_with_part, part))


@by_token
def _with_part(part: nn.Module, module: nn.Module, inputs: Any, output: torch.Tensor) -> Any:
    return output + part(inputs[0])


def head_linears(model: Any) -> list[nn.Linear]:
    """Return the linear layers outside the encoder, in the order in which they act."""
    linears = own_head_linears(model)
    if not linears:
        raise UserError(
            f"method=attributes: a {type(model).__name__} has no linear layer outside its encoder;"
            " use method.attributes.inject=adapter"
        )
    return linears


def add_to_linear(linear: nn.Linear, vector: Held, weight: nn.Parameter | None) -> None:
    """Let a layer of the head add W e, or e itself where there is no W, to what it gives."""

    def added(module: nn.Module, inputs: Any, output: torch.Tensor) -> torch.Tensor:
        own = vector.value
        assert own is not None
        own = own if weight is None else functional.linear(own, weight)
        return output + (own if output.dim() == 2 else own.unsqueeze(1))

    linear.register_forward_hook(added)
