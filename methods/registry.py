"""Finds methods by name: the modules of this package, then entry points of installed packages."""

from __future__ import annotations

import dataclasses
import functools
import importlib
import pkgutil
from collections.abc import Mapping, Sequence
from importlib.metadata import entry_points
from types import MappingProxyType
from typing import Any

from methods.method import Method
from results.errors import UserError, nearest

ENTRY_POINT_GROUP = "tunebench.methods"


@functools.cache
def registered() -> Mapping[str, type[Method]]:
    """Return every known method class by name; a name defined twice is an error."""
    methods: dict[str, type[Method]] = {}

    def add(cls: type[Method], owner: str) -> None:
        if not (isinstance(cls, type) and issubclass(cls, Method) and cls.name):
            raise UserError(f"{owner}: {cls!r} is not a Method with a name")
        if cls.name in methods:
            other = methods[cls.name].__module__
            raise UserError(f"method '{cls.name}' is defined twice: in {other} and in {owner}")
        methods[cls.name] = cls

    package = importlib.import_module("methods")
    for module_info in pkgutil.iter_modules(package.__path__):
        module = importlib.import_module(f"methods.{module_info.name}")
        for value in list(vars(module).values()):
            is_method = (
                isinstance(value, type) and issubclass(value, Method) and value is not Method
            )
            if is_method and value.__module__ == module.__name__:
                add(value, module.__name__)
    for entry_point in entry_points(group=ENTRY_POINT_GROUP):
        add(entry_point.load(), f"entry point {entry_point.value}")
    return MappingProxyType(dict(sorted(methods.items())))


def method_class(name: str) -> type[Method]:
    """Return the class of a method; an unknown name is a UserError with the nearest one."""
    try:
        return registered()[name]
    except KeyError:
        raise UserError(f"no method called '{name}'{nearest(name, registered())}") from None


def default_options(cls: type[Method]) -> dict[str, Any]:
    """Return a method's options at their defaults, as its YAML would hold them."""
    return {f.name: getattr(cls(), f.name) for f in dataclasses.fields(cls) if f.init}


def unread_problems(method: Method) -> list[str]:
    """Return a sentence for each option that was typed and that nothing reads."""
    defaults = default_options(type(method))
    return [
        f"method.{method.name}.{name}={value}: with {beside} nothing reads it; leave it out"
        for name, beside in method.unread.items()
        if (value := getattr(method, name)) != defaults[name]
    ]


def composition_problems(methods: Sequence[Method], stored: bool = False) -> list[str]:
    """Say which of the methods cannot meet in one run, a sentence for each pair or more.

    Two may decide the same thing, or one may freeze all that the other acts on, or do all that the
    other does: the last is let be in a `stored` run, which was as good as a run of one.
    """
    decides = {
        "parameters": "choose which parameters train",
        "loss": "define the loss",
        "criterion": "say what the loss of labels is",
        "gradient": "compute the gradients",
        "average": "decide which weights are evaluated",
        "head": "decide on the head",
        "places": "decide which tokens stand where",
    }
    problems: list[str] = []
    for i, first in enumerate(methods):
        for second in methods[i + 1 :]:
            idle = [m.name for m in (first, second) if "training" in m.owns]
            if idle:
                problems.append(
                    f"method=[{first.name},{second.name}]: {first.name} and {second.name} both in"
                    f" one run: {idle[0]} trains nothing that another method could change; use it"
                    " alone"
                )
                continue
            for resource in sorted(first.owns & second.owns):
                what = decides.get(resource, f"own {resource}")
                problems.append(
                    f"method=[{first.name},{second.name}]: {first.name} and {second.name} both"
                    f" {what}; keep one of them"
                )
            for acting, other in ((first, second), (second, first)):
                if why := acting.refuses(other):
                    problems.append(
                        f"method=[{first.name},{second.name}]: {first.name} and {second.name} both"
                        f" in one run: {why}; keep one of them"
                    )
                if other.includes(acting) and not stored:
                    problems.append(
                        f"method=[{first.name},{second.name}]: {first.name} and {second.name} both"
                        f" in one run: {acting.name} changes nothing beside {other.name}, which"
                        f" does the same; leave {acting.name} out"
                    )
                if "parameters" in other.owns and not acting.acts_on <= other.moves:
                    what = " and ".join(sorted(acting.acts_on - other.moves))
                    problems.append(
                        f"method=[{first.name},{second.name}]: {first.name} and {second.name} both"
                        f" in one run: {acting.name} acts on the encoder's {what} that train, and"
                        f" {other.name} trains none; leave {acting.name} out"
                    )
    return problems


def acts_at_steps(method: type[Method]) -> bool:
    """Say whether a method acts at each step, or keeps a state for it such as a random stream.

    To average the weights that a step left is not to act at it.
    """
    hooks = {
        "loss",
        "gradients",
        "backward_passes",
        "after_backward",
        "after_clipping",
        "after_step",
        "hold_weights",
        "see_weights",
    }
    if "average" not in method.owns:
        hooks.add("state_dict")
    return any(getattr(method, hook) is not getattr(Method, hook) for hook in hooks)
