"""The process that runs are forked from: it imports what every run does, and touches no device.

No tensor is computed here: threads that a computation starts would not be in a forked process.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import os
import warnings
from collections.abc import Mapping
from typing import Any

from runners.machine.forking import leave, serve

# What a run of a classification task imports, to its last step.
_MODULES = (
    "accelerate",
    "peft",
    "sklearn.metrics",
    "transformers.conversion_mapping",
    "transformers.models.bert.modeling_bert",
    "runners.command",
    "runners.runs.attempt",
    "runners.runs.run",
    "runners.runs.train",
    "runners.tasks.glue_metrics.values",
)


def main(listener: int, alive: int, environment: Mapping[str, str] | None = None) -> int:
    """Import everything, then fork for each run that is asked for; return a run's exit code.

    `environment` is what was found before the first import; else what is found now.
    """
    environment = dict(os.environ) if environment is None else environment
    gc.disable()  # imports leave little to collect; the run turns it on again
    prepare()
    gc.freeze()
    request = serve(listener, alive, environment)
    if request is None:
        return 0
    request.enter()
    from runners.command import main as command

    return leave(command())


def prepare() -> None:
    """Import, and look up, what every run would; what fails here, the run meets itself."""
    for module in _MODULES:
        with contextlib.suppress(Exception):
            importlib.import_module(module)
    with contextlib.suppress(Exception), warnings.catch_warnings(action="ignore"):
        from hydra.core.plugins import Plugins

        from methods.registry import registered

        Plugins.instance()
        registered()
        _mapping().get_checkpoint_conversion_mapping("bert")


def _mapping() -> Any:
    return importlib.import_module("transformers.conversion_mapping")
