"""Linear layers that compute real tokens only, where much of a training batch is padding.

What stands at a padded place is read by nobody: attention gives it a weight of zero, and heads read
real tokens. So a layer's products are made of the real places alone, and padded places hold zeros.
Logits and gradients are the same but for rounding, and dropout, which still draws for every place,
draws the same.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from methods.surgery.places import layers
from methods.surgery.streams import Held
from runners.speed.become import become
from runners.speed.gradient_checkpointing import hold_too
from runners.speed.lever import Lever, Start
from runners.speed.repeat import repeats_on

WORTH = 0.9  # at most this share of a batch's places is real where padding is skipped


class Real(Held):
    """The mask (B, L) of real places of the batch under way; None where every one is computed."""

    def note(self, encoder: nn.Module, given: Any, named: dict[str, Any]) -> None:
        """Take the mask that the encoder is given: its forward pre-hook."""
        self.value = None
        named = dict(zip(("input_ids", "attention_mask"), given, strict=False)) | named
        mask = named.get("attention_mask")
        tokens = named.get("input_ids")
        tokens = named.get("inputs_embeds") if tokens is None else tokens
        if mask is None or tokens is None or mask.dim() != 2 or not encoder.training:
            return
        real = mask[:, -tokens.shape[1] :] != 0  # a prefix stands before the tokens
        if real.float().mean() <= WORTH and bool(real.any(dim=1).all()):
            self.value = real

    def forget(self, *_: Any) -> None:
        """Compute every place again: the encoder's forward hook."""
        self.value = None

    def places(self, shape: torch.Size) -> torch.Tensor | None:
        """Return which of a state's B · L places are real, in order, or None for every one."""
        if self.value is None or self.value.shape != shape:
            return None
        return self.value.flatten().nonzero().squeeze(1)


class _Pick(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, every: torch.Tensor, places: torch.Tensor) -> torch.Tensor:
        ctx.places, ctx.count = places, len(every)
        return every.index_select(0, places)

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> Any:
        return spread(gradient, ctx.places, ctx.count), None


class _Spread(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, rows: torch.Tensor, places: torch.Tensor, count: int) -> torch.Tensor:
        ctx.places = places
        return rows.new_zeros(count, rows.shape[1]).index_copy_(0, places, rows)

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> Any:
        return pick(gradient, ctx.places), None, None


def pick(every: torch.Tensor, places: torch.Tensor) -> torch.Tensor:
    """Return the rows (n, width) at n places of (N, width)."""
    rows: torch.Tensor = _Pick.apply(every, places)  # type: ignore[no-untyped-call]
    return rows


def spread(rows: torch.Tensor, places: torch.Tensor, count: int) -> torch.Tensor:
    """Return rows (n, width) at their places in (count, width), and zeros elsewhere."""
    every: torch.Tensor = _Spread.apply(rows, places, count)  # type: ignore[no-untyped-call]
    return every


class RealLinear(nn.Linear):
    """A linear layer, (B, L, in) to (B, L, out), that computes the real places."""

    real: Real

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        places = self.real.places(input.shape[:-1])
        if places is None:
            return super().forward(input)
        every = input.flatten(0, 1)
        rows = super().forward(pick(every, places))
        computed: torch.Tensor = spread(rows, places, len(every)).unflatten(0, input.shape[:2])
        return computed


class SkipPadding(Lever):
    """speed.skip_padding; on a GPU a batch's shape is to be the same again."""

    hooks: Sequence[Any] = ()
    linears: Sequence[nn.Module] = ()

    def before_first_step(self, start: Start) -> None:
        on_host = self.device == "cpu" and not repeats_on(self.device)
        if not on_host or start.precision != "fp32" or not start.known:
            return
        encoder, real = start.model.base_model, Real()
        hold_too(start.model, real)
        self.hooks = (
            encoder.register_forward_pre_hook(real.note, with_kwargs=True),
            encoder.register_forward_hook(real.forget, always_call=True),
        )
        every = nn.ModuleList(layer.module for layer in layers(start.model, "full"))
        self.linears = [  # one that layers share is named once
            module
            for module in every.modules()
            if type(module) is nn.Linear and "forward" not in vars(module)
        ]
        for linear in self.linears:
            become(linear, RealLinear)
            setattr(linear, "real", real)  # noqa: B010

    def after_last_step(self) -> None:
        for hook in self.hooks:
            hook.remove()
        for linear in self.linears:
            become(linear, nn.Linear)
            del linear.real
        self.hooks = self.linears = ()

    def facts(self, model: Any) -> dict[str, Any]:
        return {} if model is None or self.device != "cpu" else {"skip_padding": bool(self.linears)}
