"""An encoder without a task head, under the names that it has in a model with one."""

from __future__ import annotations

from typing import Any

from torch import nn


class SentenceModel(nn.Module):
    """Calls a transformers encoder; parameters are named as in a classification model.

    Methods that work on the encoder find in it what they find in transformers' own models:
    `config`, `base_model`, `base_model_prefix` and the input embeddings.
    """

    def __init__(self, encoder: Any) -> None:
        super().__init__()
        self.config = encoder.config
        self.base_model_prefix: str = encoder.base_model_prefix
        self.add_module(self.base_model_prefix, encoder)

    @property
    def base_model(self) -> Any:
        return getattr(self, self.base_model_prefix)

    def get_input_embeddings(self) -> Any:
        return self.base_model.get_input_embeddings()

    def set_attn_implementation(self, name: str) -> None:
        """Choose the attention kernel, as transformers' models do."""
        self.base_model.set_attn_implementation(name)

    def _init_weights(self, module: nn.Module) -> None:
        self.base_model._init_weights(module)

    def forward(self, **inputs: Any) -> Any:
        """Return the encoder's output for input_ids, attention_mask [B, L] and what else it has."""
        return self.base_model(**inputs)
