"""Linear layers that compute real tokens only, where much of a training batch is padding.

What stands at a padded place is read by nobody: attention gives it a weight of zero, and the head
reads the first token. So a layer's products are made of the real places alone, and padded places
hold zeros. Logits and gradients are the same but for rounding, and dropout, which still draws for
every place, draws the same.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from methods.surgery.places import layers
from runners.speed.become import become
from runners.speed.first_token import MODELS
from runners.speed.gradient_checkpointing import computed_twice
from runners.speed.lever import Lever, Start

WORTH = 0.9  # at most this share of a batch's places is real where padding is skipped


class Real:
    """The real places of the batch that an encoder is computing."""

    def __init__(self) -> None:
        self.shape: tuple[int, ...] | None = None  # (B, L), None where every place is computed
        self.places: torch.Tensor | None = None  # which of the B · L, in order

    def note(self, encoder: nn.Module, given: Any, named: dict[str, Any]) -> None:
        """Take the mask that the encoder is given: its forward pre-hook."""
        self.forget()
        named = dict(zip(("input_ids", "attention_mask"), given, strict=False)) | named
        mask = named.get("attention_mask")
        tokens = named.get("input_ids")
        tokens = named.get("inputs_embeds") if tokens is None else tokens
        if mask is None or tokens is None or mask.dim() != 2 or not encoder.training:
            return
        real = mask[:, -tokens.shape[1] :] != 0  # a prefix stands before the tokens
        if real.float().mean() <= WORTH and bool(real.any(dim=1).all()):
            self.shape, self.places = tuple(tokens.shape[:2]), real.flatten().nonzero().squeeze(1)

    def forget(self, *_: Any) -> None:
        """Compute every place again: the encoder's forward hook."""
        self.shape = self.places = None


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
        places = self.real.places
        if places is None or input.shape[:-1] != self.real.shape:
            return super().forward(input)
        every = input.flatten(0, 1)
        rows = super().forward(pick(every, places))
        computed: torch.Tensor = spread(rows, places, len(every)).unflatten(0, input.shape[:2])
        return computed


def hindrance(start: Start) -> str | None:
    """Return why padded places of a prepared run have to be computed, or None."""
    if start.precision != "fp32":
        return f"it is computed in {start.precision}"
    if type(start.model).__name__ not in MODELS:
        return f"a {type(start.model).__name__} may read every token"
    if not start.known:
        return "a method of another package may read every token"
    if computed_twice(start.model):
        return "its layers are computed a second time, without the model"
    return None


class SkipPadding(Lever):
    """speed.skip_padding; on a GPU a batch's shape is to be the same again."""

    hooks: Sequence[Any] = ()
    linears: Sequence[nn.Module] = ()

    def before_first_step(self, start: Start) -> None:
        if self.device != "cpu" or hindrance(start) is not None:
            return
        encoder, real = start.model.base_model, Real()
        self.hooks = (
            encoder.register_forward_pre_hook(real.note, with_kwargs=True),
            encoder.register_forward_hook(real.forget, always_call=True),
        )
        self.linears = [
            module
            for layer in layers(start.model, "full")
            for module in layer.module.modules()
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
