"""Random streams of a method's own, on whatever device the model is."""

from __future__ import annotations

from typing import Any

import torch


class Streams:
    """One generator for each device that draws are asked for on, all from one seed."""

    def __init__(self, generator: torch.Generator) -> None:
        self.seed = int(torch.randint(2**62, (), generator=generator))
        self.generators: dict[str, torch.Generator] = {}

    def on(self, device: torch.device) -> torch.Generator:
        """Return the generator of a device."""
        name = device.type
        if name not in self.generators:
            self.generators[name] = torch.Generator(device).manual_seed(self.seed)
        return self.generators[name]

    def normal(self, like: torch.Tensor, std: float) -> torch.Tensor:
        """Return N(0, std²) in the shape, type and place of a tensor."""
        return torch.empty_like(like).normal_(0.0, std, generator=self.on(like.device))

    def uniform(self, like: torch.Tensor, low: float, high: float) -> torch.Tensor:
        """Return U(low, high) in the shape, type and place of a tensor."""
        return torch.empty_like(like).uniform_(low, high, generator=self.on(like.device))

    def keep(self, like: torch.Tensor, probability: float) -> torch.Tensor:
        """Return ones with a probability, else zeros, in the shape, type and place of a tensor."""
        return torch.empty_like(like).bernoulli_(probability, generator=self.on(like.device))

    def state_dict(self) -> dict[str, Any]:
        """Return where each stream stands."""
        states = {name: g.get_state() for name, g in self.generators.items()}
        return {"seed": self.seed, "states": states}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from what `state_dict` returned."""
        self.seed = state["seed"]
        self.generators = {}
        for name, place in state["states"].items():
            self.on(torch.device(name)).set_state(place)
