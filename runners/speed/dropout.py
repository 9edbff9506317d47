"""Dropout on a CPU from 16 random bits an element, for modules and inside attention.

torch draws a 53-bit number for every element it may drop, on one thread, and that is up to half of
a bf16 step. Here one 64-bit draw from the same stream serves four elements. The rate is the nearest
multiple of 2⁻¹⁶ to the one asked, and the scale is exact for the rate used. Other devices keep
torch's own dropout, which is fast there.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from methods.surgery.streams import VALUES, keep_bits
from runners.speed.become import become
from runners.speed.lever import Lever
from runners.speed.padding_mask import padding_mask

ATTENTION = "sdpa_fast_dropout"  # the name under which transformers finds the attention here


def keep_mask(shape: torch.Size, p: float, dtype: torch.dtype) -> torch.Tensor:
    """Return a mask on the CPU: 0 with probability p, else the scale that keeps the expectation.

    Draws from torch's global stream. p lies in [0, 1).
    """
    dropped = round(p * VALUES)
    return keep_bits(shape, dropped, dtype).mul_(VALUES / (VALUES - dropped))


def dropout(values: torch.Tensor, p: float, drawn: int | None = None) -> torch.Tensor:
    """Drop elements of a tensor of any shape with probability p, and scale those kept.

    With `drawn`, values (..., rows, width) are the first rows of `drawn`, and draws are made for
    all: what is dropped of them, and the stream's state afterwards, are as if all had been given.
    """
    if drawn is not None and drawn != values.shape[-2]:
        shape = (*values.shape[:-2], drawn, values.shape[-1])
        return values * dropout(values.new_ones(shape), p)[..., : values.shape[-2], :]
    dropped = round(p * VALUES)
    if values.device.type != "cpu" or dropped == VALUES:
        return nn.functional.dropout(values, p)
    return values * keep_mask(values.shape, p, values.dtype) if dropped else values


class FastDropout(nn.Dropout):
    """nn.Dropout that draws its mask with `keep_mask`."""

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        return dropout(input, self.p) if self.training and self.p > 0 else input


def attention(
    module: nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    dropout: float = 0.0,
    scaling: float | None = None,
    drawn: int | None = None,
    position_bias: torch.Tensor | None = None,
    **more: Any,
) -> tuple[torch.Tensor, None]:
    """Attend as transformers' sdpa does; where a CPU would drop probabilities, drop them here.

    torch's fused kernel on CPUs cannot drop, and its unfused path draws slowly. Query, key and
    value are [batch, heads, length, width], the mask bool or added to the scores, as is the bias
    of positions; `drawn` is for how many queries draws are made, of which those given are the
    first. Returns [batch, length, heads, width].
    """
    from transformers.integrations.sdpa_attention import sdpa_attention_forward

    unlike = key.shape[1] != query.shape[1] or more.get("is_causal")
    if not dropout or query.device.type != "cpu" or unlike:
        more |= {} if position_bias is None else {"position_bias": position_bias}
        attended, _ = sdpa_attention_forward(
            module, query, key, value, attention_mask, dropout, scaling, **more
        )
        return attended, None
    if attention_mask is None and position_bias is not None and _looks_back(module):
        attention_mask = torch.ones(query.shape[2], key.shape[2], dtype=torch.bool).tril()
    if torch.is_autocast_enabled("cpu"):
        narrow = torch.get_autocast_dtype("cpu")
        query, key, value = query.to(narrow), key.to(narrow), value.to(narrow)
    with torch.autocast("cpu", enabled=False):  # softmax in bf16 still sums in float32
        scale = query.shape[-1] ** -0.5 if scaling is None else scaling
        scores = (query * scale) @ key.transpose(-1, -2)
        if position_bias is not None:
            scores = scores + position_bias.to(scores.dtype)
        if attention_mask is not None and attention_mask.dtype == torch.bool:
            scores = scores.masked_fill(~attention_mask, float("-inf"))
        elif attention_mask is not None:
            scores = scores + attention_mask.to(scores.dtype)
        attended = drop(scores.softmax(dim=-1), dropout, drawn) @ value
    return attended.transpose(1, 2).contiguous(), None


drop = dropout  # attention's parameter of that name is transformers'


def _looks_back(module: nn.Module) -> bool:
    """Say whether a token attends to none behind it, which a mask would say where there is one."""
    return bool(getattr(module, "is_causal", False))


def use_fast_dropout(model: Any) -> None:
    """Give a transformers model this dropout, in its modules and in its sdpa attention."""
    from transformers import AttentionInterface
    from transformers.masking_utils import AttentionMaskInterface

    for module in model.modules():
        if type(module) is nn.Dropout:
            become(module, FastDropout)
    if model.config._attn_implementation == "sdpa":
        AttentionInterface.register(ATTENTION, attention)
        AttentionMaskInterface.register(ATTENTION, padding_mask)
        model.set_attn_implementation(ATTENTION)


class FastDropoutLever(Lever):
    """speed.fast_dropout; its masks are other ones, so that it is part of a run's name."""

    def model_loaded(self, model: Any) -> None:
        use_fast_dropout(model)
