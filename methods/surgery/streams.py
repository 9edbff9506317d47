"""Random streams of a method's own, on whatever device the model is, and what a pass holds."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch

VALUES = 2**16  # a draw of 16 bits says keep or drop, on a CPU


def keep_bits(
    shape: torch.Size, dropped: int, dtype: torch.dtype, generator: torch.Generator | None = None
) -> torch.Tensor:
    """Return zeros with probability dropped / 2¹⁶ and else ones, on the CPU.

    torch draws a 53-bit number for every element; here one 64-bit draw serves four. `dropped`
    lies between 1 and 2¹⁶ - 1.
    """
    count = shape.numel()
    draws = torch.empty(-(-count // 4), dtype=torch.int64)
    bits = draws.random_(-(2**63), None, generator=generator).view(torch.int16)[:count].view(shape)
    mask = torch.empty(shape, dtype=dtype)
    torch.ge(bits, dropped - VALUES // 2, out=mask)
    return mask


def is_on_host(tensor: torch.Tensor) -> bool:
    """Say whether a tensor is in the machine's own memory, where reading it waits for nothing."""
    return tensor.device.type == "cpu"


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
        """Return ones with a probability, else zeros, in the shape, type and place of a tensor.

        On a CPU the probability is rounded to a multiple of 2⁻¹⁶, unless that would be none or all.
        """
        dropped = round((1 - probability) * VALUES)
        if is_on_host(like) and 0 < dropped < VALUES:
            return keep_bits(like.shape, dropped, like.dtype, self.on(like.device))
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


def global_streams(device: torch.device) -> list[torch.Tensor]:
    """Return the states of the global streams that dropout draws from, on a device and the host."""
    on_gpu = device.type == "cuda"
    return [torch.get_rng_state(), *([torch.cuda.get_rng_state(device)] if on_gpu else [])]


def set_global_streams(states: list[torch.Tensor], device: torch.device) -> None:
    """Set global streams back to what `global_streams` returned."""
    torch.set_rng_state(states[0])
    for state in states[1:]:
        torch.cuda.set_rng_state(state, device)


class Held:
    """What a pass through the model computes once and layers then read, such as examples' vectors.

    A method keeps it as an attribute of its own: a layer that is computed again for its gradients
    reads what it held in that pass.
    """

    value: torch.Tensor | None = None


def generators_of(methods: Iterable[Any]) -> list[torch.Generator]:
    """Return the generators of methods' own streams, of all devices that they drew on."""
    streams = [s for method in methods for s in vars(method).values() if isinstance(s, Streams)]
    return [generator for one in streams for generator in one.generators.values()]
