"""Learnable rational activations: safe Padé activation units of degrees (5, 4), version A."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

Coefficients = tuple[tuple[float, ...], tuple[float, ...]]

# Least-squares fits, numerator a0..a5 and denominator b1..b4. "narrow" and TANH are the published
# ones of ml-research/rational_activations 2496d91, fitted on [-3, 3]; "wide" is a fit on [-10, 10].
GELU: dict[str, Coefficients] = {
    "narrow": (
        (
            -0.0012423594497499122,
            0.5080497063245629,
            0.41586363182937475,
            0.13022718688035761,
            0.024355900098993424,
            0.00290283948155535,
        ),
        (-0.06675015696494944, 0.17927646217001553, 0.03746682605496631, 1.6561610853276082e-10),
    ),
    "wide": (
        (-0.00208, 0.5117871, 0.4225214, 0.1223273, 0.0147368, 0.000627),
        (-0.0320199, 0.2317972, 0.0019325, 0.0011579),
    ),
}
TANH: Coefficients = (
    (
        -1.0804622559204184e-08,
        1.0003008043819048,
        -2.5878199375289335e-08,
        0.09632129918392647,
        3.4775841628196104e-09,
        0.0004255709234726337,
    ),
    (-0.0013027181209176277, 0.428349017422072, 1.4524304083061898e-09, 0.010796648111337176),
)


class _Rational(torch.autograd.Function):
    """R(x) = (a0 + … + a5 x^5) / (1 + |b1 x| + … + |b4 x^4|); keeps x, P and Q for backward."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        size = x.abs()
        top = a[5].expand_as(x).clone()
        for i in range(4, -1, -1):
            top.mul_(x).add_(a[i])
        bottom = b[3].abs().expand_as(x).clone()
        for j in range(2, -1, -1):
            bottom.mul_(size).add_(b[j].abs())
        bottom.mul_(size).add_(1.0)
        ctx.save_for_backward(x, a, b, top, bottom)
        return top / bottom

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> Any:
        x, a, b, top, bottom = ctx.saved_tensors
        size, sign = x.abs(), x.sign()
        over = gradients[0] / bottom  # dL/dP
        below = over * top / bottom  # -dL/dQ
        slope_top = (5 * a[5]).expand_as(x).clone()
        for i in range(4, 0, -1):
            slope_top.mul_(x).add_(i * a[i])
        slope_bottom = (4 * b[3].abs()).expand_as(x).clone()
        for j in range(3, 0, -1):
            slope_bottom.mul_(size).add_(j * b[j - 1].abs())
        for_x = over * slope_top - below * slope_bottom * sign
        for_a = torch.empty_like(a)
        power = over.clone()
        for i in range(6):
            for_a[i] = power.sum()
            power.mul_(x)
        for_b = torch.empty_like(b)
        power = below * size
        for j in range(4):
            for_b[j] = -power.sum() * b[j].sign()
            power.mul_(size)
        return for_x, for_a, for_b


class Rational(nn.Module):
    """Applies R element-wise, in float32 whatever the precision of its input (x^5 overflows half).

    Any shape to the same shape. `seen` holds the lowest and the highest input in evaluation, where
    extrapolation would show.
    """

    seen: torch.Tensor

    def __init__(self, start: Coefficients) -> None:
        super().__init__()
        self.numerator = nn.Parameter(torch.tensor(start[0]))
        self.denominator = nn.Parameter(torch.tensor(start[1]))
        self.register_buffer("seen", torch.zeros(2), persistent=False)

    def forward(self, hidden_states: torch.Tensor) -> torch.Tensor:
        if not self.training:
            low, high = hidden_states.detach().aminmax()
            lowest, highest = torch.minimum(self.seen[0], low), torch.maximum(self.seen[1], high)
            self.seen.copy_(torch.stack([lowest, highest]))
        wide = hidden_states.to(self.numerator.dtype)
        result: torch.Tensor = _Rational.apply(  # type: ignore[no-untyped-call]
            wide, self.numerator, self.denominator
        )
        return result.to(hidden_states.dtype)
