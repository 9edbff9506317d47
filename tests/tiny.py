"""Tiny random models of every architecture, with tokenizers, saved as users save theirs."""

from __future__ import annotations

from pathlib import Path
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
_SIZES: dict[str, Any] = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 64,
    "max_position_embeddings": 64,
}
ARCHITECTURES: dict[str, tuple[str, dict[str, Any]]] = {
    "bert": ("BertConfig", _SIZES),
    "roberta": ("RobertaConfig", {**_SIZES, "type_vocab_size": 1, "max_position_embeddings": 66}),
    "electra": ("ElectraConfig", {**_SIZES, "embedding_size": 16}),
    "deberta-v2": (
        "DebertaV2Config",
        # As deberta-v3-small: relative positions, shared keys, log buckets, no token types.
        {
            **_SIZES,
            "relative_attention": True,
            "position_buckets": 8,
            "norm_rel_ebd": "layer_norm",
            "share_att_key": True,
            "pos_att_type": ["p2c", "c2p"],
            "position_biased_input": False,
            "type_vocab_size": 0,
            "max_relative_positions": -1,
        },
    ),
    "albert": ("AlbertConfig", {**_SIZES, "embedding_size": 16}),
    "distilbert": (
        "DistilBertConfig",
        {"dim": 32, "n_layers": 2, "n_heads": 2, "hidden_dim": 64, "max_position_embeddings": 64},
    ),
    "modernbert": (
        "ModernBertConfig",
        {**_SIZES, "local_attention": 8, "global_attn_every_n_layers": 2},
    ),
}
_NO_TOKEN_TYPES = ("roberta", "distilbert", "modernbert")


def vocabulary() -> list[str]:
    """Special tokens, letters and their continuations, and the words of TEXTS."""
    letters = [chr(c) for c in range(33, 127)]
    words = sorted({word for text in TEXTS for word in text.split()} - set(letters))
    return [*SPECIAL, *letters, *(f"##{c}" for c in letters), *words]


def _wordpiece(architecture: str) -> transformers.PreTrainedTokenizerFast:
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
    if architecture not in _NO_TOKEN_TYPES:
        names.insert(1, "token_type_ids")
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        model_input_names=names,
        pad_token="[PAD]",
        unk_token="[UNK]",
        cls_token="[CLS]",
        sep_token="[SEP]",
        mask_token="[MASK]",
    )


def _sentencepiece(folder: Path) -> int:
    """Write an spm.model without tokenizer.json, as DeBERTa-v3 has it; return its size."""
    import sentencepiece

    corpus = folder / "corpus"
    corpus.write_text("\n".join(TEXTS * 20))
    sentencepiece.SentencePieceTrainer.train(
        input=str(corpus),
        model_prefix=str(folder / "spm"),
        vocab_size=80,
        pad_id=0,
        bos_id=1,
        bos_piece="[CLS]",
        eos_id=2,
        eos_piece="[SEP]",
        unk_id=3,
        pad_piece="[PAD]",
        unk_piece="[UNK]",
        hard_vocab_limit=False,
        minloglevel=2,
    )
    corpus.unlink()
    (folder / "spm.vocab").unlink()
    (folder / "tokenizer_config.json").write_text('{"do_lower_case": false, "vocab_type": "spm"}')
    return int(sentencepiece.SentencePieceProcessor(str(folder / "spm.model")).vocab_size())


def save_tiny(architecture: str, folder: Path, pretrained_head: bool = False) -> Path:
    """Save a random encoder of an architecture and its tokenizer; return the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    config_name, sizes = ARCHITECTURES[architecture]
    if architecture == "deberta-v2":
        vocab_size = _sentencepiece(folder) + 1  # and [MASK], which the tokenizer adds
    else:
        vocab_size = len(vocabulary())
        _wordpiece(architecture).save_pretrained(folder)
    ids = {
        "pad_token_id": 0,
        "cls_token_id": 2,
        "sep_token_id": 3,
        "bos_token_id": 2,
        "eos_token_id": 3,
    }
    config = getattr(transformers, config_name)(vocab_size=vocab_size, **ids, **sizes)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        auto = (
            transformers.AutoModelForSequenceClassification
            if pretrained_head
            else transformers.AutoModel
        )
        model = auto.from_config(config)
        with torch.no_grad():  # zero biases would hide a method that forgets them
            for parameter in model.parameters():
                parameter.add_(0.02 * torch.randn_like(parameter))
    model.save_pretrained(folder)
    return folder


def tiny_batch(folder: Path) -> dict[str, torch.Tensor]:
    """Return the texts as one padded batch with labels, for a two-class model."""
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    batch = tokenizer(TEXTS, padding=True, return_tensors="pt")
    return {**batch, "labels": torch.tensor([0, 1, 0, 1, 1])}


def tiny_model(folder: Path, **changes: Any) -> Any:
    """Return the two-class model of a tiny folder in evaluation mode, its head from one seed."""
    torch.manual_seed(0)
    auto = transformers.AutoModelForSequenceClassification
    return auto.from_pretrained(folder, **changes).eval()
