"""Where a run's values may be logged, and what has to be installed for that."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.util import find_spec
from typing import Literal

Tracker = Literal["tensorboard", "csv", "wandb", "mlflow", "trackio"]
WITHOUT_PACKAGE: tuple[Tracker, ...] = ("csv",)


def tracker_problems(log: Sequence[Tracker]) -> list[str]:
    """Say which trackers are not installed, and what to type for that."""
    return [
        f"log={name}: {name} is not installed; type pip install {name}, or leave it out"
        for name in log
        if name not in WITHOUT_PACKAGE and not _is_installed(name)
    ]


def _is_installed(package: str) -> bool:
    spec = find_spec(package)
    return spec is not None and spec.origin is not None  # a folder of that name is no package
