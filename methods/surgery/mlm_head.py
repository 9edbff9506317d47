"""The transform of BERT's masked-language-model head, from a checkpoint that holds one."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open

from results.errors import UserError

PREFIX = "cls.predictions.transform."


def _names(files: Sequence[Path]) -> dict[str, Path]:
    """Return the transform's tensors by name, and the file of each."""
    names: dict[str, Path] = {}
    for path in files:
        with safe_open(path, framework="pt") as stored:
            names |= {name: path for name in stored.keys() if name.startswith(PREFIX)}  # noqa: SIM118
    return names


def has_one(files: Sequence[Path]) -> bool:
    """Say whether the pretrained files hold the transform."""
    return bool(_names(files))


def load(config: Any, files: Sequence[Path]) -> torch.nn.Module:
    """Return dense layer, activation and LayerNorm, [B, width] to the same, as pretrained."""
    from transformers.models.bert.modeling_bert import BertPredictionHeadTransform

    names = _names(files)
    if not names:
        raise UserError(
            "method=promptbert head=mlm: the checkpoint holds no masked-language-model head; use"
            " head=mlp, or a checkpoint such as model=bert-base-uncased"
        )
    head: torch.nn.Module = BertPredictionHeadTransform(config)
    tensors = {}
    for name, path in names.items():
        with safe_open(path, framework="pt") as stored:
            own = name.removeprefix(PREFIX).replace("gamma", "weight").replace("beta", "bias")
            tensors[own] = stored.get_tensor(name).float()
    head.load_state_dict(tensors)
    return head
