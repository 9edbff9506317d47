"""How far below the head each parameter of an encoder lies."""

from __future__ import annotations

import re
from collections import defaultdict
from typing import Any

from methods.surgery import places


class Depths:
    """Depths of parameters: 1 for the last layer to `layers` for the first, embeddings below.

    The embeddings are what the architecture names so, ELECTRA's and ALBERT's projections of them
    and an encoder's own relative positions included. The head, the pooler and all else that stands
    in no layer have 0, and so has a parameter that several layers share, as Compacter's rule.
    """

    def __init__(self, model: Any, method: str) -> None:
        """Learn where the layers are; what is not known is a UserError of that method."""
        layers = places.layers(model, method)
        self._prefixes = {f"{layer.name}.": layer.index for layer in layers}
        known = layers[0].places
        lowest = "|".join(re.escape(name) for name in (known.embeddings, *known.below))
        self._embeddings = re.compile(rf"{re.escape(model.base_model_prefix)}\.({lowest})(\.|_)")
        self.layers = len(layers)

    def _layer(self, name: str) -> int | None:
        return next((i for prefix, i in self._prefixes.items() if name.startswith(prefix)), None)

    def _named(self, name: str) -> int:
        index = self._layer(name)
        if index is not None:
            return self.layers - index
        return self.layers + 1 if self._embeddings.match(name) else 0

    def of(self, model: Any) -> dict[int, int]:
        """Return the depth of each parameter of the model, by its id."""
        depths = {id(p): self._named(n) for n, p in model.named_parameters()}
        inside: dict[int, set[int | None]] = defaultdict(set)
        for name, parameter in model.named_parameters(remove_duplicate=False):
            inside[id(parameter)].add(self._layer(name))
        return depths | {p: 0 for p, layers in inside.items() if len(layers - {None}) > 1}
