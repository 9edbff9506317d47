"""Published encoder shapes without weights, and what a method trains of them."""

from __future__ import annotations

from typing import Any

import torch

from methods.method import Method, Setting
from runners.catalogue import counted, on_meta, shape
from runners.catalogue import setting_of as setting_at

__all__ = ["counted", "on_meta"]

_LARGE = {
    "hidden_size": 1024,
    "num_hidden_layers": 24,
    "num_attention_heads": 16,
    "intermediate_size": 4096,
}
BERT_BASE = shape("BERT")
BERT_LARGE = shape("BERT", **_LARGE)
ROBERTA_BASE = shape("RoBERTa")
ROBERTA_LARGE = shape("RoBERTa", **_LARGE)
ELECTRA_BASE = shape("ELECTRA")


def setting_of(model: Any) -> Setting:
    """Return a setting that fits the tiny models."""
    return setting_at(model, max_length=48)


def added(config: Any, method: Method) -> int:
    """Return how many trained parameters a method has besides the head."""
    return counted(config, method)["trainable_without_head"]


def perturb_trained(model: Any, seed: int = 0) -> None:
    """Move every trained parameter away from its start, as training would."""
    stream = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                noise = torch.randn(parameter.shape, generator=stream, dtype=torch.float64)
                parameter.add_((0.05 * noise).to(parameter.dtype))
