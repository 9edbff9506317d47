"""The levers by their keys, and those of a run as one."""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

from runners.speed.bf16_copy import Bf16Copy
from runners.speed.dropout import FastDropoutLever
from runners.speed.first_token import FirstTokenLever
from runners.speed.gradient_checkpointing import GradientCheckpointing
from runners.speed.graphs import Graphs
from runners.speed.lever import Lever, Start
from runners.speed.memory import ReleaseMemory
from runners.speed.onednn import OneDNN
from runners.speed.prefetch import Prefetch
from runners.speed.resident import Resident
from runners.speed.skip_padding import SkipPadding
from runners.speed.vocabulary import TrimVocabulary

if TYPE_CHECKING:
    import torch

    from methods.method import Batch
    from runners.speed.repeat import Repeats

LEVERS: dict[str, type[Lever]] = {
    "bf16_copy": Bf16Copy,
    "fast_dropout": FastDropoutLever,
    "first_token": FirstTokenLever,
    "gradient_checkpointing": GradientCheckpointing,
    "graphs": Graphs,
    "onednn": OneDNN,
    "prefetch": Prefetch,
    "release_memory": ReleaseMemory,
    "resident": Resident,
    "skip_padding": SkipPadding,
    "trim_vocabulary": TrimVocabulary,
}


class Levers:
    """Every lever of a run; the hooks are Lever's, called in the order of LEVERS."""

    def __init__(self, switches: Mapping[str, bool], device: str) -> None:
        """Take a switch for each key, as speed.* in a configuration, and cpu, mps or cuda:N."""
        self.all: Sequence[Lever] = [cls(switches[key], device) for key, cls in LEVERS.items()]
        self.on = [lever for lever in self.all if lever.on]

    @property
    def hinders_capture(self) -> str:
        """Why a training step cannot be captured under these levers, empty where it can."""
        return next((lever.hinders_capture for lever in self.on if lever.hinders_capture), "")

    def device_chosen(self, precision: str) -> None:
        for lever in self.all:
            lever.device_chosen(precision)

    def model_loaded(self, model: Any) -> None:
        for lever in self.on:
            lever.model_loaded(model)

    def model_prepared(self, model: Any) -> None:
        for lever in self.on:
            lever.model_prepared(model)

    def before_first_step(self, start: Start) -> None:
        for lever in self.on:
            lever.before_first_step(start)

    def batches(self, coming: Generator[Batch]) -> Generator[Batch]:
        for lever in self.on:
            coming = lever.batches(coming)
        return coming

    def before_pass(self) -> None:
        for lever in self.on:
            lever.before_pass()

    def repeated(
        self,
        what: str,
        generators: Callable[[], Sequence[torch.Generator]],
        hindrance: str = "",
        trusted: bool = True,
    ) -> Repeats | None:
        given = (lever.repeated(what, generators, hindrance, trusted) for lever in self.on)
        return next((repeats for repeats in given if repeats is not None), None)

    def lies_on_device(self, size: int) -> bool:
        return any(lever.lies_on_device(size) for lever in self.on)

    def after_step(self, places: int) -> None:
        for lever in self.on:
            lever.after_step(places)

    def whole(self) -> ExitStack:
        stack = ExitStack()
        for lever in self.on:
            stack.enter_context(lever.whole())
        return stack

    def after_last_step(self) -> None:
        for lever in self.on:
            lever.after_last_step()

    def facts(self, model: Any) -> dict[str, Any]:
        return {name: fact for lever in self.all for name, fact in lever.facts(model).items()}
