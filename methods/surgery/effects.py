"""What peft's layers compute, by which two runs are compared: their options may differ."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from methods.method import Method
from methods.surgery.wrapped import SEEDS

_EXAMPLES = 3  # rows of a layer's input


def effects(model: nn.Module) -> dict[str, torch.Tensor]:
    """Return, by the names of peft's layers, what each answers to one input, and what it adds."""
    layers = {n: m for n, m in model.named_modules() if hasattr(m, "base_layer")}
    with torch.no_grad(), torch.random.fork_rng(devices=[]):
        return {name: _effect(layer) for name, layer in layers.items()}


def _effect(layer: Any) -> torch.Tensor:
    weight = layer.base_layer.weight
    stream = torch.Generator().manual_seed(0)
    inputs = torch.randn(1, _EXAMPLES, layer.base_layer.in_features, generator=stream)
    with _evaluated(layer):
        answer = layer(inputs.to(weight))
        return torch.stack([answer, answer - layer.base_layer(inputs.to(weight))])


@contextmanager
def _evaluated(layer: nn.Module) -> Iterator[None]:
    modes = [(module, module.training) for module in layer.modules()]
    layer.eval()
    try:
        yield
    finally:
        for module, mode in modes:
            module.training = mode


def differs(
    theirs: Mapping[str, torch.Tensor], ours: Mapping[str, torch.Tensor], perturbed: bool
) -> str:
    """Return the name of a layer that computes something else in two models, else nothing.

    Of a model whose matrices were `perturbed`, what layers add is compared.
    """
    for name in sorted({*theirs} & {*ours}):
        theirs_here, ours_here = theirs[name], ours[name]
        bound = 1e-5 * theirs_here[0].abs().max()
        apart = (theirs_here - ours_here).abs()[int(perturbed)].max()
        if not apart <= bound:
            return name
    return ""


def drawn_from(methods: tuple[Method, ...]) -> dict[str, dict[str, int]]:
    """Return, by the names of methods, the options from which their frozen parts were drawn."""
    configs = {method.name: method.peft_config() for method in methods}
    options = {
        name: {key: getattr(config, key) for key in SEEDS if hasattr(config, key)}
        for name, config in configs.items()
        if config is not None
    }
    return {name: seeds for name, seeds in options.items() if seeds}
