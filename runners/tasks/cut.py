"""Which part of a text that is too long stays: its head, its tail, or some of both.

Sun et al. 2019, arXiv:1905.05583, section 5.2: of 510 tokens, the first 128 and the last 382; other
lengths are shared in that proportion.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from runners.config.settings import Truncate

HEAD_SHARE = 128 / 510


def cut_texts(
    texts: Sequence[str], tokenizer: Any, max_length: int, truncate: Truncate
) -> tuple[dict[str, list[list[int]]], list[bool]]:
    """Tokenise single texts, special tokens around them, each of `max_length` tokens at most.

    The answer holds what the tokenizer gives, such as input_ids, one list a text; and of each text
    whether it was cut.
    """
    whole = tokenizer(
        list(texts), return_attention_mask=False, return_special_tokens_mask=True, verbose=False
    )
    masks = whole.pop("special_tokens_mask")
    kept = [kept_places(mask, max_length, truncate) for mask in masks]
    encoded = {
        name: [[row[i] for i in places] for row, places in zip(rows, kept, strict=True)]
        for name, rows in whole.items()
    }
    return encoded, [len(places) < len(mask) for places, mask in zip(kept, masks, strict=True)]


def kept_places(special: Sequence[int], max_length: int, truncate: Truncate) -> list[int]:
    """Return which tokens of a text stay; `special` is 1 for those around it, 0 for its own."""
    length = len(special)
    before = next((i for i, mark in enumerate(special) if not mark), length)
    after = next((i for i, mark in enumerate(reversed(special)) if not mark), 0)
    own, room = length - before - after, max_length - before - after
    if own <= room:
        return list(range(length))
    first = {"head": room, "tail": 0, "head_tail": round(room * HEAD_SHARE)}[truncate]
    last = length - after - (room - first)
    return [*range(before + first), *range(last, length)]
