"""A tiny random BERT with its tokenizer, saved as users save theirs."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import torch
import transformers
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

TEXTS = [
    "the plot is dull but the cast is charming",
    "the film is not bad at all and the music is warm",
    "anna praised bruno in paris on monday",
    "who bought the house and when was it sold",
    "all dogs in the garden are asleep , some cats are not",
]
SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
SIZES: Mapping[str, int] = MappingProxyType(
    {
        "hidden_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "intermediate_size": 64,
        "max_position_embeddings": 64,
    }
)
IDS: Mapping[str, int] = MappingProxyType(
    {
        "pad_token_id": 0,
        "cls_token_id": 2,
        "sep_token_id": 3,
        "bos_token_id": 2,
        "eos_token_id": 3,
    }
)


def vocabulary() -> list[str]:
    """Special tokens, letters and their continuations, and the words of TEXTS."""
    letters = [chr(c) for c in range(33, 127)]
    words = sorted({word for text in TEXTS for word in text.split()} - set(letters))
    return [*SPECIAL, *letters, *(f"##{c}" for c in letters), *words]


def wordpiece(token_types: bool = True) -> Any:
    """Return a tokenizer of the vocabulary, with or without token types."""
    tokens = {token: i for i, token in enumerate(vocabulary())}
    tokenizer = Tokenizer(models.WordPiece(tokens, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[("[CLS]", tokens["[CLS]"]), ("[SEP]", tokens["[SEP]"])],
    )
    names = ["input_ids", "attention_mask"]
    if token_types:
        names.insert(1, "token_type_ids")
    fast: Any = transformers.PreTrainedTokenizerFast
    return fast(
        tokenizer_object=tokenizer,
        model_input_names=names,
        pad_token="[PAD]",
        unk_token="[UNK]",
        cls_token="[CLS]",
        sep_token="[SEP]",
        mask_token="[MASK]",
    )


def save_random(config: Any, folder: Path, pretrained_head: bool = False) -> Path:
    """Save an encoder with random weights, always the same; return the folder."""
    auto: Any = (
        transformers.AutoModelForSequenceClassification
        if pretrained_head
        else transformers.AutoModel
    )
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = auto.from_config(config)
        with torch.no_grad():  # zero biases would hide a method that forgets them
            for parameter in model.parameters():
                parameter.add_(0.02 * torch.randn_like(parameter))
    model.save_pretrained(folder)
    return folder


def save_bert(folder: Path) -> Path:
    """Save the tiny BERT and its tokenizer; return the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    wordpiece().save_pretrained(folder)
    sizes: Any = {**SIZES, **IDS}
    return save_random(transformers.BertConfig(vocab_size=len(vocabulary()), **sizes), folder)
