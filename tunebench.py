"""The library: `from tunebench import run, load_results, compare`; docs/library.md says how.

A name is imported when it is first used, so that `import tunebench` costs nothing.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from results.errors import UserError as UserError
    from results.pages.frame import TwoRows as TwoRows
    from results.pages.frame import compare as compare
    from results.pages.frame import load_results as load_results
    from results.record import Record as Record
    from runners.library import RunFailed as RunFailed
    from runners.library import run as run
    from runners.machine.warm import warm as warm
    from runners.training.method_trainer import MethodTrainer as MethodTrainer

_PLACES = {
    "MethodTrainer": "runners.training.method_trainer",
    "Record": "results.record",
    "RunFailed": "runners.library",
    "TwoRows": "results.pages.frame",
    "UserError": "results.errors",
    "compare": "results.pages.frame",
    "load_results": "results.pages.frame",
    "run": "runners.library",
    "warm": "runners.machine.warm",
}
__all__ = [*_PLACES]


def __getattr__(name: str) -> Any:
    if name not in _PLACES:
        raise AttributeError(f"module 'tunebench' has no attribute {name!r}")
    return getattr(importlib.import_module(_PLACES[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
