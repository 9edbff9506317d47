"""Stands in for CUDA graphs on a CPU: writes operations down, and does them again without Python.

While something is written down, it is done. Every operation that then reaches torch's kernels is
kept with its tensors, those of the backward pass and of the optimizer too. To repeat it is to call
the same kernels on the same tensors, and to put what they return where it was put the first time.
So whatever a method does in Python alone is missed, as in a graph. What a capture forbids is an
error here, too.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import Any

import numpy as np
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from runners.speed.operations import written_down
from runners.speed.repeat import Recorded, Results


class _Tape(TorchDispatchMode):
    """Keeps operations with their arguments and results."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.calls: list[tuple[Any, Any, Any, Any]] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        if not _is_view(func):
            self.calls.append((func, args, kwargs or {}, result))
        return result

    def again(self) -> None:
        with torch.no_grad():
            for func, args, kwargs, result in self.calls:
                pairs = zip(tree_leaves(result), tree_leaves(func(*args, **kwargs)), strict=True)
                for place, value in pairs:
                    if isinstance(place, torch.Tensor):
                        place.copy_(value)


def _is_view(func: Any) -> bool:
    """Say whether an operation only looks at a tensor's memory: it needs no second look."""
    returned = [value.alias_info for value in func._schema.returns]
    return bool(returned) and all(info is not None and not info.is_write for info in returned)


class Replay:
    """A capture that works on a CPU; takes a device as others do."""

    def __init__(self, device: str) -> None:
        self.forgotten = 0

    def at_work(self) -> AbstractContextManager[None]:
        return contextlib.nullcontext()

    def record(self, act: Callable[[], Results], generators: Sequence[torch.Generator]) -> Recorded:
        with written_down(generators) as operations, _Tape() as tape:
            results = act()
        if operations.forbidden:
            raise RuntimeError(f"not permitted in a capture: {sorted(operations.forbidden)[0]}")
        return Recorded(results, tape.again)

    def forget(self) -> None:
        self.forgotten += 1


def flattened(state: Any, name: str = "") -> dict[str, Any]:
    """Return the leaves of nested dicts and lists by their paths."""
    if isinstance(state, dict):
        parts = [(str(k), v) for k, v in state.items()]
    elif isinstance(state, list | tuple):
        parts = [(str(i), v) for i, v in enumerate(state)]
    else:
        return {name: state}
    return {k: v for key, part in parts for k, v in flattened(part, f"{name}.{key}").items()}


def equal(one: Any, other: Any) -> bool:
    """Say whether two leaves are equal to the bit."""
    if isinstance(one, torch.Tensor):
        return torch.equal(one, other)
    return bool(np.array_equal(one, other))
