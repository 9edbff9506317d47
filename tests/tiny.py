"""Tiny random models of every architecture, with tokenizers, saved as users save theirs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
import transformers
from tokenizers import Tokenizer, decoders, models, pre_tokenizers

from runners.contract.tiny import IDS, SIZES, SPECIAL, TEXTS, save_random, vocabulary, wordpiece

ARCHITECTURES: dict[str, tuple[str, dict[str, Any]]] = {
    "bert": ("BertConfig", {**SIZES}),
    "roberta": ("RobertaConfig", {**SIZES, "type_vocab_size": 1, "max_position_embeddings": 66}),
    "electra": ("ElectraConfig", {**SIZES, "embedding_size": 16}),
    "deberta-v2": (
        "DebertaV2Config",
        # As deberta-v3-small: relative positions, shared keys, log buckets, no token types.
        {
            **SIZES,
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
    "albert": ("AlbertConfig", {**SIZES, "embedding_size": 16}),
    "distilbert": (
        "DistilBertConfig",
        {"dim": 32, "n_layers": 2, "n_heads": 2, "hidden_dim": 64, "max_position_embeddings": 64},
    ),
    "modernbert": (
        "ModernBertConfig",
        {**SIZES, "local_attention": 8, "global_attn_every_n_layers": 2},
    ),
    # Weights that are not so small that all texts look alike.
    "mpnet": ("MPNetConfig", {**SIZES, "max_position_embeddings": 66, "initializer_range": 0.2}),
    "xlnet": (
        "XLNetConfig",
        {"d_model": 32, "n_layer": 2, "n_head": 2, "d_inner": 64, "initializer_range": 0.2},
    ),
    "t5": (
        "T5Config",
        {
            **{"d_model": 32, "d_kv": 16, "d_ff": 64, "num_layers": 2, "num_heads": 2},
            **{"relative_attention_num_buckets": 8, "relative_attention_max_distance": 16},
            "decoder_start_token_id": 0,
        },
    ),
}
# Of these only a part of the largest tables is tried in every run of the tests, all in make soak.
SAMPLED = ("mpnet", "xlnet", "t5")
_NO_TOKEN_TYPES = ("roberta", "distilbert", "modernbert")


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


def _of_its_own(architecture: str) -> tuple[Any, dict[str, int]]:
    """Return an architecture's own tokenizer, of the words of TEXTS, and its special tokens' ids.

    MPNet's padding has index 1 and XLNet's stands on the left; T5 ends a text and begins none.
    """
    words = sorted({word for text in TEXTS for word in text.split()})
    if architecture == "mpnet":
        plain = [token for token in vocabulary() if token not in SPECIAL]
        tokens = ["<s>", "<pad>", "</s>", "[UNK]", *plain, "<mask>"]
        names = {"pad_token_id": 1, "bos_token_id": 0, "eos_token_id": 2}
        return transformers.MPNetTokenizer(vocab={t: i for i, t in enumerate(tokens)}), names
    xlnet = ["<unk>", "<s>", "</s>", "<cls>", "<sep>", "<pad>", "<mask>", "<eod>", "<eop>"]
    special = xlnet if architecture == "xlnet" else ["<pad>", "</s>", "<unk>"]
    pieces = [(token, 0.0) for token in special] + [("\N{LOWER ONE EIGHTH BLOCK}", -8.0)]
    pieces += [(chr(letter), -9.0) for letter in range(33, 127)]
    pieces += [(f"\N{LOWER ONE EIGHTH BLOCK}{word}", -4.0) for word in words]
    if architecture == "xlnet":
        names = {"pad_token_id": 5, "bos_token_id": 1, "eos_token_id": 2}
        return transformers.XLNetTokenizer(vocab=pieces), names
    return transformers.T5Tokenizer(vocab=pieces, extra_ids=0), {
        "pad_token_id": 0,
        "eos_token_id": 1,
    }


def save_tiny(architecture: str, folder: Path, pretrained_head: bool = False) -> Path:
    """Save a random encoder of an architecture and its tokenizer; return the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    config_name, sizes = ARCHITECTURES[architecture]
    ids = dict(IDS)
    if architecture in SAMPLED:
        tokenizer, ids = _of_its_own(architecture)
        vocab_size = len(tokenizer)
        tokenizer.save_pretrained(folder)
    elif architecture == "deberta-v2":
        vocab_size = _sentencepiece(folder) + 1  # and [MASK], which the tokenizer adds
    else:
        vocab_size = len(vocabulary())
        wordpiece(token_types=architecture not in _NO_TOKEN_TYPES).save_pretrained(folder)
    config = getattr(transformers, config_name)(vocab_size=vocab_size, **ids, **sizes)
    return save_random(config, folder, pretrained_head)


def save_masked(source: Path, folder: Path) -> Path:
    """Save a random model of a tiny folder's kind with a head that predicts masked tokens."""
    config = transformers.AutoConfig.from_pretrained(source)
    auto: Any = transformers.AutoModelForMaskedLM
    with torch.random.fork_rng():
        torch.manual_seed(5)
        model = auto.from_config(config)
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.add_(0.02 * torch.randn_like(parameter))
    model.save_pretrained(folder)
    transformers.AutoTokenizer.from_pretrained(source).save_pretrained(folder)
    return folder


def save_gpt(folder: Path) -> Path:
    """Save a random GPT-2 of one layer that reads bytes, with a token that ends a text."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {token: i for i, token in enumerate(["<end>", *alphabet])}
    tokenizer = Tokenizer(models.BPE(vocabulary, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    fast: Any = transformers.PreTrainedTokenizerFast
    fast(tokenizer_object=tokenizer, eos_token="<end>").save_pretrained(folder)
    config = transformers.GPT2Config(
        vocab_size=len(vocabulary), n_positions=32, n_embd=32, n_layer=1, n_head=2,
        bos_token_id=0, eos_token_id=0,
    )  # fmt: skip
    with torch.random.fork_rng():
        torch.manual_seed(0)
        transformers.GPT2LMHeadModel(config).save_pretrained(folder)
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
