"""Writes down what a step asks of torch, and what of it a CUDA graph cannot hold.

A replay does the operations of the captured step again, on the same memory, with the same numbers:
nothing of Python runs. So a step may be captured when it asks for nothing that a capture forbids,
and when the next step, on a batch of the same shape, asks for the very same operations.

https://docs.pytorch.org/docs/stable/notes/cuda.html, "Constraints" of CUDA graphs.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map

# The host waits for the device, to learn a number.
_READS = frozenset(
    f"aten::{name}"
    for name in (
        *("_local_scalar_dense", "equal", "is_nonzero"),
        *("_linalg_check_errors", "_linalg_eigh", "_linalg_svd"),  # whether they could be done
    )
)
# The shape of the result depends on numbers, which the host waits for.
_SHAPES = frozenset(
    f"aten::{name}"
    for name in (
        *("nonzero", "masked_select", "_unique", "_unique2", "unique_dim", "unique_consecutive"),
        *("bincount", "histc", "repeat_interleave.Tensor"),
    )
)
_INDEXING = ("aten::index", "aten::index_put", "aten::index_put_", "aten::_index_put_impl_")
_FROM_HOST = "aten::lift_fresh"  # what torch.tensor asks for
_TO_HOST = (torch.Tensor.tolist, torch.Tensor.numpy, torch.Tensor.cpu, torch.Tensor.__array__)
# The states of the global streams, which a captured generator does not give.
_OF_STREAMS = [(p, f"{w}_rng_state") for p in (torch, torch.cuda) for w in ("get", "set")]


class Operations(TorchDispatchMode):
    """Writes down the operations of one step, and those that a capture forbids."""

    def __init__(self, generators: Iterable[torch.Generator]) -> None:
        """Take the generators that a graph draws from: those of the device."""
        super().__init__()  # type: ignore[no-untyped-call]
        self.seeds = {generator.initial_seed() for generator in generators}
        self.operations: list[tuple[Any, ...]] = []
        self.forbidden: set[str] = set()
        self.listens = True
        self._born: dict[int, int] = {}  # storages by the operation that made them
        self._kept: list[Any] = []  # so that no storage takes another's place

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if not self.listens:
            return func(*args, **kwargs)
        name = func._schema.name
        shown = tree_map(self._shown, (args, kwargs))
        result = func(*args, **kwargs)
        if not name.startswith("aten::"):  # such as a profiler's marks
            return result
        is_empty = name == _FROM_HOST and not args[0].numel()
        if not is_empty:
            self._look(name, func._overloadname, args, kwargs)
        self.operations.append((name, func._overloadname, "" if is_empty else repr(shown)))
        for tensor in tree_leaves(result):
            if isinstance(tensor, torch.Tensor):
                self._kept.append(tensor)
                if tensor.layout is not torch.strided:
                    self.forbidden.add(f"makes a sparse tensor ({name.removeprefix('aten::')})")
                self._born.setdefault(_storage(tensor), len(self.operations))
        return result

    def _shown(self, value: Any) -> Any:
        """Stand for an argument: a tensor by where it comes from, a number by itself."""
        if isinstance(value, torch.Generator):
            return value.initial_seed()
        if not isinstance(value, torch.Tensor):
            return value
        self._kept.append(value)
        born = self._born.get(_storage(value))
        return ("from outside", _storage(value)) if born is None else ("of operation", born)

    def _look(self, name: str, overload: str, args: Any, kwargs: Any) -> None:
        short = name.removeprefix("aten::")
        if name in _READS:
            self.forbidden.add(f"reads a number from the device ({short})")
        if {name, f"{name}.{overload}"} & _SHAPES:
            self.forbidden.add(f"makes a tensor whose shape depends on numbers ({short})")
        if name in _INDEXING and any(_is_mask(tensor) for tensor in tree_leaves(args[1])):
            self.forbidden.add(f"makes a tensor whose shape depends on numbers ({short} by a mask)")
        if name == _FROM_HOST:
            self.forbidden.add("makes a tensor of numbers of the host")
        drawn_from = [v for v in tree_leaves((args, kwargs)) if isinstance(v, torch.Generator)]
        if any(generator.initial_seed() not in self.seeds for generator in drawn_from):
            self.forbidden.add(f"draws from a generator of the host ({short})")


class _Calls(TorchFunctionMode):
    """Notices what reaches no dispatcher: reading a tensor's memory from Python."""

    def __init__(self, step: Operations) -> None:
        super().__init__()
        self.step = step

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func in _TO_HOST and self.step.listens:
            self.step.forbidden.add(f"reads a number from the device ({func.__name__})")
        return func(*args, **(kwargs or {}))


@contextmanager
def _streams_noticed(step: Operations) -> Iterator[None]:
    """Notice in a block who reads or sets back the stream that dropout draws from."""
    own = [(place, name, getattr(place, name)) for place, name in _OF_STREAMS]

    def noticing(act: Any, name: str) -> Any:
        def acting(*args: Any, **kwargs: Any) -> Any:
            if step.listens:
                step.forbidden.add(f"reads or sets the state of a random stream ({name})")
            return act(*args, **kwargs)

        return acting

    for place, name, act in own:
        setattr(place, name, noticing(act, name))
    try:
        yield
    finally:
        for place, name, act in own:
            setattr(place, name, act)


def _storage(tensor: torch.Tensor) -> int:
    """Return what tells a tensor's memory from others; a sparse one, which is kept, is its own."""
    if tensor.layout is not torch.strided:
        return id(tensor)
    return int(tensor.untyped_storage()._cdata)


def _is_mask(value: Any) -> bool:
    return isinstance(value, torch.Tensor) and value.dtype in (torch.bool, torch.uint8)


@contextmanager
def written_down(generators: Iterable[torch.Generator]) -> Iterator[Operations]:
    """Write down what is asked of torch in a block that draws from generators of a device."""
    step = Operations(generators)
    with _streams_noticed(step), _Calls(step), step:
        yield step


def faults(first: Operations, second: Operations) -> list[str]:
    """Return why a step cannot be replayed that was taken twice on batches in the same memory."""
    forbidden = first.forbidden | second.forbidden
    if not forbidden and first.operations != second.operations:
        forbidden.add(_difference(first, second))
    return sorted(forbidden)


def _difference(first: Operations, second: Operations) -> str:
    pairs = zip(first.operations, second.operations, strict=False)
    other = next((pair for pair in pairs if pair[0] != pair[1]), None)
    if other is None:
        return "does more operations in one step than in another"
    (name, _, one), (name_then, _, two) = other
    if name != name_then:
        return f"does {name_then} in one step where it does {name} in another"
    return f"gives {name} another argument in each step ({one} and {two})"
