"""Composes the configurations of a board's runs: those that differ in plain values only once."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import hydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import DictConfig, OmegaConf

from runners.config.typed import is_typed
from runners.root import ROOT

PLAIN = ("seed", "lr")  # top-level values that choose no file of configs/


def resolved(composed: DictConfig) -> dict[str, Any]:
    """Return a composed configuration with its interpolations resolved, as plain containers."""
    container = OmegaConf.to_container(composed, resolve=True, throw_on_missing=True)
    assert isinstance(container, dict)
    return {str(k): v for k, v in container.items()}


class Composer:
    """Composes what is typed for a run, inside a running Hydra application.

    Hydra takes about a sixth of a second each time. Runs that differ only in their seed or learning
    rate share one composition: those values are set in it before interpolations are resolved.
    """

    def __init__(self) -> None:
        self._shared: dict[tuple[str, ...], DictConfig] = {}
        self._parser = OverridesParser.create()

    def __call__(self, overrides: Sequence[str]) -> dict[str, Any]:
        """Return the resolved configuration; Hydra's errors for what it cannot compose."""
        plain = [o for o in overrides if o.partition("=")[0] in PLAIN]
        rest = [o for o in overrides if o not in plain]
        parsed = self._parser.parse_overrides(plain)
        elsewhere = is_typed(rest, *PLAIN)
        if elsewhere or any(p.is_sweep_override() for p in parsed):
            return resolved(hydra.compose("config", overrides=list(overrides)))
        values = {p.key_or_group: p.value() for p in parsed}  # the last word counts, as in Hydra
        key = (*sorted(values), *rest)
        if key not in self._shared:
            self._shared[key] = hydra.compose("config", overrides=rest)
        composed = self._shared[key]
        for name, value in values.items():
            composed[name] = value
        return resolved(composed)


CONFIGS = ROOT / "configs"
