"""Writes a folder that sentence-transformers loads."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch

from results.errors import UserError
from results.whole import EVERYONE, whole
from runners.config.check import RunConfig, representation_of
from runners.models.about import SOURCE
from runners.models.pretrained import Loaded


def check_exportable(config: RunConfig, model: Any) -> None:
    """Refuse save=sentence-transformers where that library would not make the same vectors."""
    representation = representation_of(config)
    key = f"save=sentence-transformers: method={representation.name}"
    if representation.exported_pooling() is None:
        raise UserError(
            f"{key} makes vectors in a way that library has no module for (a template, a head, or"
            " word embeddings alone); it exports the first token's state and the mean; use"
            " save=delta"
        )
    encoder = model.base_model
    with torch.device("meta"):
        plain = type(encoder)(encoder.config)
    known = {name for name in plain.state_dict() if not name.startswith("pooler")}
    outside = {n.split(".")[0] for n, _ in model.named_parameters()} - {model.base_model_prefix}
    if set(encoder.state_dict()) != known or outside - {"projection"}:
        others = [m.name for m in config.methods if m is not representation]
        raise UserError(
            f"{key} with {', '.join(others)}: it adds modules of its own to the encoder, which"
            " that library does not load; use save=delta"
        )


def export(folder: Path, model: Any, loaded: Loaded, config: RunConfig, source: str) -> None:
    """Write a folder that sentence_transformers.SentenceTransformer loads, whole or not at all.

    `source` says of which run the weights are.
    """
    representation = representation_of(config)
    pooling = representation.exported_pooling()
    parts = {
        "modules.json": [
            {"idx": 0, "name": "0", "path": "", "type": f"{_MODELS}.Transformer"},
            {"idx": 1, "name": "1", "path": "1_Pooling", "type": f"{_MODELS}.Pooling"},
        ],
        "sentence_bert_config.json": {
            "max_seq_length": config.settings.budget.max_length,
            "do_lower_case": False,
        },
        "1_Pooling/config.json": {
            "word_embedding_dimension": int(model.config.hidden_size),
            "pooling_mode_cls_token": pooling == "cls",
            "pooling_mode_mean_tokens": pooling == "mean",
        },
    }
    with whole(folder, EVERYONE) as temporary:
        model.base_model.save_pretrained(temporary)
        loaded.tokenizer.save_pretrained(temporary)
        (temporary / "1_Pooling").mkdir()
        for name, content in parts.items():
            (temporary / name).write_text(json.dumps(content, indent=1) + "\n")
        (temporary / SOURCE).write_text(source, encoding="utf-8")


_MODELS = "sentence_transformers.models"
