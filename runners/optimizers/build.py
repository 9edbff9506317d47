"""Builds what optimizer=NAME asks for."""

from __future__ import annotations

from typing import Any

import torch

from runners.config.settings import AdamWOptions, SuperAdamOptions
from runners.optimizers.adamw_nobc import AdamWNoBC, Optimizer
from runners.optimizers.super_adam import SuperAdam


def plain_groups(model: torch.nn.Module, lr: float, weight_decay: float) -> list[dict[str, Any]]:
    """Return AdamW's groups: decay on matrices, none on biases and normalisation gains."""
    trainable = [p for p in model.parameters() if p.requires_grad]
    matrices = [p for p in trainable if p.ndim > 1]
    vectors = [p for p in trainable if p.ndim <= 1]
    groups = [
        {"params": matrices, "lr": lr, "weight_decay": weight_decay},
        {"params": vectors, "lr": lr, "weight_decay": 0.0},
    ]
    return [group for group in groups if group["params"]]


def build_optimizer(groups: Any, lr: float, options: AdamWOptions | SuperAdamOptions) -> Optimizer:
    """Return the optimizer of a configuration for groups of params, lr and weight_decay."""
    if isinstance(options, SuperAdamOptions):
        return SuperAdam(groups, lr, options)
    betas = (options.betas[0], options.betas[1])
    if options.name == "adamw":
        return torch.optim.AdamW(groups, lr=lr, betas=betas, eps=options.eps, fused=True)
    return AdamWNoBC(groups, lr, betas, options.eps)
