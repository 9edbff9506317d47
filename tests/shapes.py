"""Published encoder shapes without weights, and what a method trains of them."""

from __future__ import annotations

from typing import Any

import torch
import transformers

from methods.method import Method, Setting
from runners.build import count_parameters
from runners.models import head_names

_LARGE = {
    "hidden_size": 1024,
    "num_hidden_layers": 24,
    "num_attention_heads": 16,
    "intermediate_size": 4096,
}
BERT_BASE = transformers.BertConfig()
BERT_LARGE = transformers.BertConfig(**_LARGE)
ROBERTA_BASE = transformers.RobertaConfig(vocab_size=50265, type_vocab_size=1)
ROBERTA_LARGE = transformers.RobertaConfig(vocab_size=50265, type_vocab_size=1, **_LARGE)
ELECTRA_BASE = transformers.ElectraConfig(
    embedding_size=768, hidden_size=768, intermediate_size=3072, num_attention_heads=12
)


def on_meta(config: transformers.PretrainedConfig) -> transformers.PreTrainedModel:
    """Return a two-class model of a shape, on the meta device: names and sizes only."""
    config.num_labels = 2
    with torch.device("meta"):
        return transformers.AutoModelForSequenceClassification.from_config(config)


def setting_of(model: Any, missing: set[str] | None = None) -> Setting:
    """Return a setting in which only what lies outside the encoder, or is missing, is the head."""
    return Setting(
        head=head_names(model, missing or set()),
        generator=torch.Generator().manual_seed(0),
        num_labels=2,
        regression=False,
        total_steps=1,
        max_length=48,
    )


def counted(config: transformers.PretrainedConfig, method: Method) -> dict[str, int]:
    """Return the parameter counts of a method on a shape."""
    model = on_meta(config)
    setting = setting_of(model)
    method.prepare(model, setting)
    return count_parameters(model, setting.head, (method,))


def added(config: transformers.PretrainedConfig, method: Method) -> int:
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
