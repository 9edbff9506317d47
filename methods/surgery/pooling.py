"""What makes one vector of a text's states, (B, L, width) and a mask (B, L) to (B, width)."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn

Dropped = Callable[[torch.Tensor, float], torch.Tensor]


class LightAttention(nn.Module):
    """Sum of values by weights of their own for each channel, and their maximum, joined.

    Values and weights are two convolutions over the tokens, which see zeros for padding.
    """

    def __init__(self, width: int, kernel: int, rate: float, dropped: Dropped) -> None:
        """Make it; `dropped` is dropout at a rate, of the values (B, width, L)."""
        super().__init__()
        self.values = nn.Conv1d(width, width, kernel, padding=kernel // 2)
        self.weights = nn.Conv1d(width, width, kernel, padding=kernel // 2)
        self.joined = nn.Linear(2 * width, width)
        self.own_rate, self.dropped = rate, dropped

    def forward(self, states: torch.Tensor, real: torch.Tensor) -> torch.Tensor:
        tokens = (states * real[..., None]).transpose(1, 2)
        values, padding = self.values(tokens), ~real[:, None]
        if self.training:
            values = self.dropped(values, self.own_rate)
        weights = _without(self.weights(tokens), padding).softmax(-1)
        summed, largest = (values * weights).sum(-1), _without(values, padding).amax(-1)
        joined: torch.Tensor = self.joined(torch.cat([summed, largest], -1))
        return joined


class QueryAttention(nn.Module):
    """The mean of a text's states by one weight a token, its product with a learned query.

    The query starts at zero, so that all tokens weigh the same.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.query = nn.Linear(width, 1, bias=False)
        nn.init.zeros_(self.query.weight)
        self.scale = width**-0.5

    def forward(self, states: torch.Tensor, real: torch.Tensor) -> torch.Tensor:
        products = self.query(states).squeeze(-1) * self.scale
        weights = _without(products, ~real).softmax(-1)
        return (states * weights[..., None]).sum(1)


def _without(values: torch.Tensor, padding: torch.Tensor) -> torch.Tensor:
    return values.masked_fill(padding, torch.finfo(values.dtype).min)
