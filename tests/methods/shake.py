"""A method of a third party's, as an installed package would bring it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import EntryPoint
from typing import Any, ClassVar
from unittest import mock

import torch
from hydra.core.config_store import ConfigStore

from methods import registry
from methods.method import Method, Options, Setting


@dataclass(kw_only=True)
class Shake(Method):
    """Add noise to the gradients, from a stream that a checkpoint keeps."""

    name: ClassVar[str] = "shake"
    owns: ClassVar[frozenset[str]] = frozenset()
    no_strength: ClassVar[Options | None] = {"strength": 0.0}
    hinders_capture: ClassVar[str] = "it draws from a generator of the host"
    strength: float = 0.1

    def prepare(self, model: torch.nn.Module, setting: Setting) -> None:
        self.generator = setting.generator

    def after_clipping(self, model: torch.nn.Module, step: int) -> None:
        for parameter in model.parameters():
            if parameter.grad is not None:
                noise = torch.randn(parameter.grad.shape, generator=self.generator)
                parameter.grad.add_(noise, alpha=self.strength)

    def state_dict(self) -> dict[str, Any]:
        return {"stream": self.generator.get_state()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.generator.set_state(state["stream"])


@contextmanager
def shake_installed() -> Iterator[None]:
    """Register Shake by an entry point, beside all others."""
    group = registry.ENTRY_POINT_GROUP
    points = [*registry.entry_points(group=group), EntryPoint("shake", f"{__name__}:Shake", group)]
    with mock.patch.object(registry, "entry_points", return_value=points):
        registry.registered.cache_clear()
        yield
    registry.registered.cache_clear()
    ConfigStore.instance().repo.get("method", {}).pop("shake.yaml", None)
