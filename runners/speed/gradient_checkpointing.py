"""Keeps of each layer its input only, and computes the layer again when gradients are due.

Chen, Xu, Zhang and Guestrin 2016 (arXiv 1604.06174). Memory for activations falls to one layer's
and the inputs of all; a step costs one more forward pass. Every random stream is set back for the
second pass, those of methods too, so that both passes drop and perturb the same.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from typing import Any, ClassVar

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from methods.method import Method
from methods.surgery.places import PLACES, layers
from methods.surgery.streams import Held, Streams
from results.errors import UserError
from runners.speed.become import become
from runners.speed.lever import Lever, Start


class Replayed:
    """The random streams of a run's methods, and what they hold, to be set back for a second pass.

    torch sets back its global streams itself.
    """

    def __init__(self, methods: Sequence[Method]) -> None:
        held = [value for method in methods for value in vars(method).values()]
        self.streams = [value for value in held if isinstance(value, Streams)]
        self.generators = [value for value in held if isinstance(value, torch.Generator)]
        self.held = [value for value in held if isinstance(value, Held)]

    def both_passes(self) -> tuple[AbstractContextManager[None], AbstractContextManager[None]]:
        """Return what surrounds the first pass and the second, as torch's checkpoint wants it."""
        before, values = self._places(), [held.value for held in self.held]
        return contextlib.nullcontext(), self._at(before, values)

    def _places(self) -> dict[torch.Generator, torch.Tensor]:
        return {generator: generator.get_state() for generator in self._all()}

    def _all(self) -> list[torch.Generator]:
        """Return all generators; one that a stream made since begins at its seed."""
        return [g for s in self.streams for g in s.generators.values()] + self.generators

    @contextlib.contextmanager
    def _at(
        self, before: dict[torch.Generator, torch.Tensor], values: Sequence[torch.Tensor | None]
    ) -> Iterator[None]:
        now, held = self._places(), [one.value for one in self.held]
        self._hold(values)
        for generator in now:
            if generator in before:
                generator.set_state(before[generator])
            else:
                generator.manual_seed(generator.initial_seed())
        try:
            yield
        finally:
            for generator, place in now.items():
                generator.set_state(place)
            self._hold(held)

    def _hold(self, values: Sequence[torch.Tensor | None]) -> None:
        for one, value in zip(self.held, values, strict=True):
            one.value = value


class _Twice:
    """A layer that is computed again for its gradients."""

    replayed: Replayed

    def forward(self, *given: Any, **named: Any) -> Any:
        own = super().forward  # type: ignore[misc]
        if not (self.training and torch.is_grad_enabled()):  # type: ignore[attr-defined]
            return own(*given, **named)
        cache = named.get("past_key_values")
        if cache is not None:
            named["past_key_values"] = _Prefix(cache)
        return checkpoint(
            own, *given, use_reentrant=False, context_fn=self.replayed.both_passes, **named
        )


def hold_too(model: nn.Module, held: Held) -> None:
    """Let layers that are computed twice read in the second pass what was held in the first."""
    every = {id(m.replayed): m.replayed for m in model.modules() if isinstance(m, _Twice)}
    for replayed in every.values():
        replayed.held.append(held)


class _Prefix:
    """Stands for a cache that holds a prefix; a pass leaves nothing in it for the next one."""

    def __init__(self, cache: Any) -> None:
        self.cache = cache

    def update(
        self, keys: torch.Tensor, values: torch.Tensor, layer: int, *_: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return keys and values (B, heads, length, width) with the prefix's before them."""
        held = self.cache.layers[layer]
        return torch.cat([held.keys, keys], dim=-2), torch.cat([held.values, values], dim=-2)


class GradientCheckpointing(Lever):
    """speed.gradient_checkpointing."""

    hinders_capture: ClassVar[str] = "layers computed twice set random streams back"
    layers: Sequence[nn.Module] = ()

    def model_loaded(self, model: Any) -> None:
        kind = model.config.model_type
        if kind not in PLACES:
            raise UserError(
                f"speed.gradient_checkpointing=true: it is not known where a {kind} model has its"
                f" layers; known are {', '.join(PLACES)}; use speed.gradient_checkpointing=false"
            )

    def before_first_step(self, start: Start) -> None:
        replayed = Replayed(start.methods)
        self.layers = [layer.module for layer in layers(start.model, "full")]
        for layer in self.layers:
            own = type(layer)
            become(layer, type(f"Twice{own.__name__}", (_Twice, own), {"replayed": replayed}))

    def after_last_step(self) -> None:
        for layer in self.layers:
            become(layer, type(layer).__bases__[1])
        self.layers = ()

    def facts(self, model: Any) -> dict[str, Any]:
        return {} if model is None or not self.on else {"gradient_checkpointing": True}
