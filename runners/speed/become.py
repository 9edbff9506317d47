"""Lets a module that is in place compute its forward pass in another way."""

from __future__ import annotations

from torch import nn


def become(module: nn.Module, cls: type) -> None:
    """Make a module an instance of `cls`: a class derived from its own, or its own again.

    A new module in its place would need a parent to hang it on, would lose the hooks that methods
    put on this one, and would not be what others (peft, an optimizer, a method) hold. So the object
    stays, with its parameters, buffers, hooks and name, and only its class changes.
    """
    module.__class__ = cls
