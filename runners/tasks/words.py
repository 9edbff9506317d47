"""Which tokens of a line are pieces of one word, and which word is most like another."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import safe_open

from results.errors import UserError
from runners.config.settings import Truncate
from runners.models.heads import tensor_names
from runners.models.weights import Weights
from runners.tasks.cut import kept_places
from runners.tasks.masking import Ids, nearest_words

_STARTS = ("Ġ", "▁")  # how byte-level and sentencepiece vocabularies mark the start of a word
_EMBEDDINGS = ("word_embeddings.weight", "tok_embeddings.weight")


def word_units(
    texts: Sequence[str], tokenizer: Any, max_length: int, truncate: Truncate, mask: str
) -> list[Ids]:
    """Return for each token of each text the number of its word, -1 for special ones.

    A word is what the tokenizer splits into pieces: between blanks, and apart from punctuation.
    """
    if not getattr(tokenizer, "is_fast", False):
        raise UserError(
            f"mlm.mask={mask}: this model's tokenizer does not say which pieces are one word; use"
            " mlm.mask=token"
        )
    encoded = tokenizer(
        list(texts), return_attention_mask=False, return_special_tokens_mask=True, verbose=False
    )
    units = []
    for i, special in enumerate(encoded["special_tokens_mask"]):
        words = encoded.word_ids(i)
        kept = kept_places(special, max_length, truncate)
        units.append(np.asarray([-1 if words[p] is None else words[p] for p in kept], np.int64))
    return units


def similar_words(ids: Ids, tokenizer: Any, weights: Weights) -> dict[int, int]:
    """Return for each of the tokens that is a whole word the word most like it, by its embedding.

    The embedding is the pretrained one, whatever a run starts from; words are compared by cosine.
    """
    return nearest_words(ids, whole_words(tokenizer), _embedding(weights))


def whole_words(tokenizer: Any) -> Ids:
    """Return the tokens that are words by themselves: letters, not the inside of a word."""
    special = set(tokenizer.all_special_ids)
    vocabulary = {i: token for token, i in tokenizer.get_vocab().items() if i not in special}
    of_pieces = any(token.startswith("##") for token in vocabulary.values())
    marked = not of_pieces and any(token.startswith(_STARTS) for token in vocabulary.values())
    words = []
    for i, token in sorted(vocabulary.items()):
        bare = token[1:] if marked and token.startswith(_STARTS) else token
        if bare.isalpha() and marked == token.startswith(_STARTS):
            words.append(i)
    return np.asarray(words, dtype=np.int64)


def _embedding(weights: Weights) -> NDArray[np.float32]:
    shown = f"model {weights.name_or_path}"
    for path in weights.files:
        for name in tensor_names(path, shown):
            if name.endswith(_EMBEDDINGS):
                with safe_open(path, framework="pt") as stored:
                    rows: NDArray[np.float32] = stored.get_tensor(name).float().numpy()
                return rows
    raise UserError(
        f"mlm.mask=macbert: {shown} holds no word embedding by a name that is known; use"
        " mlm.mask=whole_word"
    )
