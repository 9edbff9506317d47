"""Says whether a device may repeat a run's steps, and which of them are known well enough."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

import methods
from methods.method import Method
from runners.optimizers.rates import capture_hindrance
from runners.tasks.kind import Kind

# The model types whose steps a test looks at, beside all methods of this project.
KNOWN = frozenset({"bert", "roberta", "electra", "distilbert", "albert"})


def hindrance(
    methods: Sequence[Method], kind: Kind, optimizer: torch.optim.Optimizer | None
) -> str:
    """Return why steps cannot be repeated, empty where they can; no optimizer: of evaluation."""
    of_methods = [f"{m.name}: {m.hindrance}" for m in methods if m.hindrance]
    if optimizer is None:
        watching = [m.name for m in methods if m.watches_evaluation]
        of_methods += [f"{name} keeps in Python what it sees in evaluation" for name in watching]
    of_optimizer = "" if optimizer is None else capture_hindrance(optimizer)
    return next((why for why in (*of_methods, kind.hinders_capture, of_optimizer) if why), "")


def is_known(used: Sequence[Method], model: Any) -> bool:
    """Say whether all of a run was looked at beforehand: its methods are of this project."""
    own = f"{methods.__name__}."
    model_type = getattr(getattr(model, "config", None), "model_type", None)
    return model_type in KNOWN and all(type(m).__module__.startswith(own) for m in used)
