"""Computes an encoder's last layer for the first token only, where a head reads nothing else.

The head of a BERT reads the last layer's state of the first token. That state needs keys and values
of every token, but a query, an output and a feed-forward branch of the first one only: ten twelfths
of the last layer's products are for states that nobody reads. Left out, logits and gradients are
the same but for rounding. Dropout still draws for every token, so that what is drawn, here and
later, is what it would be; on a GPU the fused attention draws otherwise.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import nn

from methods.surgery.places import layers
from runners.speed.become import become
from runners.speed.dropout import ATTENTION, FastDropout, attention, dropout
from runners.speed.lever import Lever

# Their heads read the first token, and their layers are written alike.
MODELS = frozenset(
    f"{family}ForSequenceClassification"
    for family in ("Bert", "Roberta", "XLMRoberta", "Camembert", "Electra")
)


_PLAIN = (
    nn.Linear, nn.LayerNorm, nn.Dropout, FastDropout, nn.Identity, nn.ModuleDict, nn.ModuleList,
    nn.ParameterDict, nn.GELU, nn.ReLU, nn.SiLU, nn.Tanh,
)  # fmt: skip


_DROPOUTS = ("attention.output.dropout", "output.dropout")


def use_first_token(model: Any) -> bool:
    """Narrow the last layer of a model that its methods have prepared; say whether it was done.

    It is not where another head or layer is, where attention is not `runners.speed.dropout`'s, or
    where something in the last layer is not known to treat tokens one by one (`hindrance`).
    """
    if hindrance(model) is not None:
        return False
    last: Any = layers(model, "full")[-1].module
    drawn = _Drawn()
    become(last.attention, _derived(type(last.attention), _Attention))
    become(last.attention.self, _derived(type(last.attention.self), _SelfAttention))
    for part in (last.attention, last.attention.output.dropout, last.output.dropout):
        part.drawn = drawn
    for part in (last.attention.output.dropout, last.output.dropout):
        become(part, _FirstOfDropout)
    return True


def narrowed(model: nn.Module) -> bool:
    """Say whether a model's last layer is computed for the first token only."""
    return any(isinstance(module, _Attention) for module in model.modules())


def hindrance(model: Any) -> str | None:
    """Return why a model's last layer has to be computed whole, or None."""
    if type(model).__name__ not in MODELS:
        return f"a {type(model).__name__} may read every token"
    if model.config._attn_implementation != ATTENTION:
        return f"its attention is {model.config._attn_implementation}"
    every_layer = layers(model, "full")
    if not every_layer:
        return "it has no layers"
    last: Any = every_layer[-1].module
    if last.is_decoder or last.chunk_size_feed_forward:
        return "its layers are a decoder's, or cut into chunks"
    core = last.attention.self
    inside = {f"attention.self.query.{n}".rstrip("."): m for n, m in core.query.named_modules()}
    inside |= {
        name: module
        for name, module in last.named_modules()
        if name and name != "attention.self" and not name.startswith("attention.self.")
    }
    for name, module in inside.items():
        if not _by_token(module):
            return f"{name} is a {type(module).__name__}"
        if isinstance(module, nn.Dropout) and module.p and name not in _DROPOUTS:
            return f"{name} would draw for other places"
    for name, module in {**inside, "": last, "attention.self": core}.items():
        whole = name in ("", "attention", "attention.self")  # these are still given every token
        for hook in _changes(module, whole):
            if not _marked(hook):
                return f"something is hooked to {name or 'the layer'}"
    return None


def _by_token(module: nn.Module) -> bool:
    from peft.tuners.tuners_utils import BaseTunerLayer

    of_transformers = type(module).__module__.startswith("transformers.")
    of_peft = isinstance(module, BaseTunerLayer) and getattr(module, "by_token", True)
    known = of_transformers or type(module) in _PLAIN or of_peft
    return known or _marked(module)


def _changes(module: nn.Module, whole: bool) -> Iterator[Any]:
    yield from module._forward_hooks.values()
    if not whole:
        yield from module._forward_pre_hooks.values()
    if "forward" in vars(module):
        yield vars(module)["forward"]


def _marked(thing: Any) -> bool:
    return bool(getattr(getattr(thing, "func", thing), "by_token", False))


class _Drawn:
    """For how many tokens dropout draws, in the pass that is under way."""

    tokens = 1


class _FirstOfDropout(FastDropout):
    """Drops the first token's elements as if every token's had been given."""

    drawn: _Drawn

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        return dropout(input, self.p, self.drawn.tokens) if self.training and self.p else input


class _Attention:
    """Attention with its residual: (B, L, width) to (B, 1, width)."""

    drawn: _Drawn
    output: Any

    def forward(self, hidden_states: torch.Tensor, *more: Any, **named: Any) -> Any:
        self.drawn.tokens = hidden_states.shape[1]
        attended, weights = self.self(hidden_states, *more, **named)  # type: ignore[attr-defined]
        return self.output(attended, hidden_states[:, :1]), weights


class _SelfAttention:
    """Attention of the first token to all: (B, L, width) to (B, 1, width)."""

    def forward(
        self: Any,
        hidden_states: torch.Tensor,
        attention_mask: torch.Tensor | None = None,
        past_key_values: Any = None,
        **named: Any,
    ) -> tuple[torch.Tensor, None]:
        def heads(projected: torch.Tensor) -> torch.Tensor:
            shape = (*projected.shape[:2], -1, self.attention_head_size)
            return projected.view(shape).transpose(1, 2)

        # contiguous: a strided view takes another way through torch where its weight is frozen.
        query = heads(self.query(hidden_states[:, :1].contiguous()))
        key, value = heads(self.key(hidden_states)), heads(self.value(hidden_states))
        if past_key_values is not None:  # a prefix
            key, value = past_key_values.update(key, value, self.layer_idx)
        if attention_mask is not None:
            attention_mask = attention_mask[:, :, :1]
        attended, _ = attention(
            self, query, key, value, attention_mask, drawn=hidden_states.shape[1],
            dropout=self.dropout.p if self.training else 0.0, scaling=self.scaling, **named,
        )  # fmt: skip
        return attended.flatten(2), None


def _derived(own: type, narrow: type) -> type:
    return type(f"FirstToken{own.__name__}", (narrow, own), {})


class FirstTokenLever(Lever):
    """speed.first_token."""

    def model_prepared(self, model: Any) -> None:
        use_first_token(model)

    def facts(self, model: Any) -> dict[str, Any]:
        return {} if model is None else {"first_token": narrowed(model)}
