"""The weights that are evaluated and kept, where a method averages those of training."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence

import torch

from methods.method import Method
from runners.speed.levers import Levers

Tensors = Mapping[str, torch.Tensor]


class Averages:
    """Puts a method's averages where a model's weights are, and the weights back to the bit.

    Where no method owns "average", the weights themselves are evaluated and kept.
    """

    def __init__(self, model: torch.nn.Module, methods: Sequence[Method], levers: Levers) -> None:
        self.model, self.levers = model, levers
        self.owner = next((m for m in methods if "average" in m.owns), None)
        self._aside: Tensors = {}  # weights, while averages are in their place

    def take(self, step: int) -> None:
        """Average the weights that a step left."""
        if self.owner is not None:
            self.owner.average_weights(self.model, step)

    @contextlib.contextmanager
    def evaluated(self) -> Iterator[None]:
        """Have in the model what is evaluated, for a block in which nothing trains."""
        averages = {} if self.owner is None else self.owner.averaged_weights()
        if not averages:
            yield
            return
        self._aside = {n: t for n, t in self.weights().items() if n in averages}
        try:
            self._put(averages)
            yield
        finally:
            self._put(self._aside)
            self._aside = {}

    def keep(self) -> None:
        """Leave in the model what is to be kept, for good."""
        if self.owner is not None:
            self._put(self.owner.averaged_weights())

    def weights(self) -> dict[str, torch.Tensor]:
        """Return a copy of the weights that training goes on from, by name."""
        trained = {n: p for n, p in self.model.named_parameters() if p.requires_grad}
        return {n: self._aside.get(n, p).detach().clone() for n, p in trained.items()}

    def _put(self, tensors: Tensors) -> None:
        own = dict(self.model.named_parameters())
        with self.levers.whole(), torch.no_grad():
            for name, tensor in tensors.items():
                own[name].copy_(tensor)
