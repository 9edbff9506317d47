"""Replays training steps and evaluation batches as CUDA graphs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from runners.speed.lever import Lever
from runners.speed.repeat import CAPTURES, MULTIPLE, Repeats, repeats_on

if TYPE_CHECKING:
    import torch

    from runners.speed.repeat import Capture


class Graphs(Lever):
    """speed.graphs, for a GPU.

    Batches are padded there to a multiple of tokens with graphs or without, so that both do the
    same.
    """

    def __init__(self, on: bool, device: str) -> None:
        super().__init__(on, device)
        self.repeats: dict[str, Repeats] = {}
        self._capture: Capture | None = None

    def repeated(
        self,
        what: str,
        generators: Callable[[], Sequence[torch.Generator]],
        hindrance: str,
        trusted: bool,
    ) -> Repeats | None:
        if not repeats_on(self.device):
            return None
        if self._capture is None:
            self._capture = CAPTURES[self.device.partition(":")[0]](self.device)
        self.repeats[what] = Repeats(self._capture, generators, hindrance, trusted)
        return self.repeats[what]

    def after_last_step(self) -> None:
        for repeats in self.repeats.values():
            repeats.forget()

    def facts(self, model: Any) -> dict[str, Any]:
        if not repeats_on(self.device):
            return {}
        padded = {"padded_to": MULTIPLE}
        if not self.repeats:
            return padded
        return {**padded, "graphs": {what: one.facts for what, one in self.repeats.items()}}
