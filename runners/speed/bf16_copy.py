"""Keeps a bf16 copy of the weights of linear layers, refreshed once after each step.

Under autocast a layer casts its float32 weight each time that a forward pass begins: for every
pass of a method that makes several, for every batch of an evaluation, and also where the weight is
frozen. Here the cast is made once and written over in place after the optimizer's step, all layers
at once. Gradients go through the copies, as through autocast's casts, to the weights in float32,
which the optimizer moves and checkpoints hold. So numbers are the same to the bit. Where a weight
is not what was copied, the layer leaves it to autocast to cast.
"""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Iterator
from contextlib import AbstractContextManager
from typing import Any

import torch
from torch import nn

from methods.method import Method
from runners.speed.become import become
from runners.speed.lever import Lever, Start

NARROW = torch.bfloat16


class Copy:
    """A parameter and its cast, which stays where it is in memory."""

    def __init__(self, master: nn.Parameter) -> None:
        self.master = master
        self.narrow = master.detach().to(NARROW)
        self.seen()

    def seen(self) -> None:
        """Note that the copy is of the master as it is now."""
        self.version, self.place = self.master._version, self.master.data_ptr()

    @property
    def holds(self) -> bool:
        """Say whether the master is still where and what it was, as far as torch counts it."""
        return self.master._version == self.version and self.master.data_ptr() == self.place


class _Casts(torch.autograd.Function):
    """Casts that were made before: gradients go through them to the masters, all at once."""

    @staticmethod
    def forward(ctx: Any, narrow: list[torch.Tensor], *masters: torch.Tensor) -> Any:
        ctx.set_materialize_grads(False)
        return tuple(one.detach() for one in narrow)

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor | None) -> Any:
        if torch.is_grad_enabled():  # of gradients of gradients
            return None, *(g if g is None else g.float() for g in gradients)
        there = [g for g in gradients if g is not None]
        wide = [torch.empty_like(g, dtype=torch.float32) for g in there]
        if there:
            torch._foreach_copy_(wide, there)
        coming = iter(wide)
        return None, *(g if g is None else next(coming) for g in gradients)


class Copies:
    """The copies of a model's linear layers; `left` counts, by why, layers that have none.

    Layers with a copy use it under autocast to bf16 until `release`. The optimizer's step makes
    all copies old until `refresh`, because a fused step does not count as a change of a tensor.
    """

    def __init__(self, model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
        self.by_master: dict[int, Copy] = {}
        self.layers: list[Any] = []
        self.left: Counter[str] = Counter()
        self.fresh = True
        self._given: dict[int, torch.Tensor] | None = None  # to the pass under way, by master
        for layer in model.modules():
            if isinstance(layer, nn.Linear):
                self._take(layer)
        self._hook = optimizer.register_step_post_hook(self._stepped)

    def _take(self, layer: Any) -> None:
        why = hindrance(layer)
        if why is not None:
            self.left[why] += 1
            return
        become(layer, CopiedLinear)
        layer.copies = self
        layer.copied = tuple(None if p is None else self._of(p) for p in (layer.weight, layer.bias))
        self.layers.append(layer)

    def _of(self, master: nn.Parameter) -> Copy:
        if id(master) not in self.by_master:
            self.by_master[id(master)] = Copy(master)
        return self.by_master[id(master)]

    def _stepped(self, *_: Any) -> None:
        self.fresh, self._given = False, None

    def begin_pass(self) -> None:
        """Begin a pass, whose gradients meet in bf16 as under autocast; of two, in float32.

        Each has nodes of its own in autograd's graph, on the stream that it runs on: those of a
        pass before would not let a CUDA graph be captured.
        """
        self._given = None

    def current(self, given: torch.Tensor, copy: Copy | None) -> torch.Tensor:
        """Return the copy of a layer's tensor where it is one, else the tensor."""
        if copy is None or given is not copy.master or not copy.holds:
            return given
        if not given.requires_grad:
            return copy.narrow
        if not self.fresh or torch._C._functorch.peek_interpreter_stack() is not None:
            return given
        if not torch.is_grad_enabled():
            return copy.narrow
        if self._given is None:
            trained = [c for c in self.by_master.values() if c.master.requires_grad]
            self._given = dict(zip([id(c.master) for c in trained], _cast(trained), strict=True))
        return self._given.get(id(given), given)

    def refresh(self) -> None:
        """Write the weights as they are now over their copies, in place."""
        old = [c for c in self.by_master.values() if c.master.requires_grad or not c.holds]
        if old:
            with torch.no_grad():
                torch._foreach_copy_([c.narrow for c in old], [c.master for c in old])
        for copy in old:
            copy.seen()
        self.fresh, self._given = True, None

    @contextlib.contextmanager
    def refreshed(self) -> Iterator[None]:
        """Let the weights be written in a block."""
        self.fresh = False
        try:
            yield
        finally:
            self.refresh()

    def release(self) -> None:
        """Leave the layers as they were."""
        self._hook.remove()
        for layer in self.layers:
            become(layer, nn.Linear)
            del layer.copies, layer.copied
        self.layers, self.by_master, self._given = [], {}, None


def _cast(copies: list[Copy]) -> tuple[torch.Tensor, ...]:
    narrow, masters = [c.narrow for c in copies], [c.master for c in copies]
    cast: tuple[torch.Tensor, ...] = _Casts.apply(narrow, *masters)  # type: ignore[no-untyped-call]
    return cast


class CopiedLinear(nn.Linear):
    """A linear layer that takes what is copied of its weight and bias."""

    copies: Copies
    copied: tuple[Copy | None, Copy | None]

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        weight: torch.Tensor = self.weight
        bias: torch.Tensor | None = self.bias
        kind = input.device.type
        if torch.is_autocast_enabled(kind) and torch.get_autocast_dtype(kind) is NARROW:
            weight = self.copies.current(weight, self.copied[0])
            bias = None if bias is None else self.copies.current(bias, self.copied[1])
        return nn.functional.linear(input, weight, bias)


def hindrance(layer: Any) -> str | None:
    """Return why autocast goes on to cast a linear layer's weight, or None."""
    own = vars(layer).get("forward")
    if own is not None:
        owner = getattr(getattr(own, "func", own), "__self__", None)
        whose = owner.name if isinstance(owner, Method) else "something"
        return f"{whose} computes the layer in its own way"
    if type(layer) is not nn.Linear:
        return f"a {type(layer).__name__} may compute in its own way"
    tensors = [layer.weight] if layer.bias is None else [layer.weight, layer.bias]
    if any(not isinstance(t, nn.Parameter) or t.dtype is not torch.float32 for t in tensors):
        return "the weight is not a parameter in float32"
    return None


class Bf16Copy(Lever):
    """speed.bf16_copy, for runs in bf16 on a CPU or CUDA."""

    copies: Copies | None = None

    def before_first_step(self, start: Start) -> None:
        if start.precision == "bf16" and self.device.startswith(("cpu", "cuda")):
            self.copies = Copies(start.model, start.optimizer)

    def before_pass(self) -> None:
        if self.copies is not None:
            self.copies.begin_pass()

    def after_step(self, places: int) -> None:
        if self.copies is not None:
            self.copies.refresh()

    def whole(self) -> AbstractContextManager[None]:
        return contextlib.nullcontext() if self.copies is None else self.copies.refreshed()

    def after_last_step(self) -> None:
        if self.copies is not None:
            self.copies.release()
            self.copies = None

    def facts(self, model: Any) -> dict[str, Any]:
        if model is None or self.copies is None:
            return {}
        left = {"bf16_cast_each_pass": dict(self.copies.left)} if self.copies.left else {}
        return {"bf16_copies": len(self.copies.by_master), **left}
