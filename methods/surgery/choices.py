"""A task's texts behind the options of a multiple choice, one mask before each, as token ids."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from methods.method import Arranged
from methods.surgery.prompts import Part, fitting, ids_of, texts_at
from results.errors import UserError


def arrange(
    question: str,
    options: Sequence[str],
    columns: Sequence[Sequence[str]],
    tokenizer: Any,
    max_length: int,
    cut: Callable[[int, int], Sequence[int]],
) -> Arranged:
    """Return [CLS] [MASK] option … [SEP] question [SEP] text [SEP] of `max_length` tokens at most.

    All from the first mask to the separator behind the options is of type 1. Texts are cut, the
    longest one first; options and question are not. No room for texts is a UserError.
    """
    mask, separator = tokenizer.mask_token_id, tokenizer.sep_token_id
    span = [token for option in options for token in (mask, *_plain(option, tokenizer))]
    behind = [*_plain(question, tokenizer), separator] if question else []
    front = [tokenizer.cls_token_id, *span, separator, *behind]
    front_types = [0] + [1] * (len(span) + 1) + [0] * len(behind)
    room = max_length - len(front) - len(columns)
    if room < len(columns):
        taken = max_length - room
        raise UserError(
            f"budget.max_length={max_length}: options and question take {taken} tokens, the"
            f" special ones included, and leave no room for texts; use"
            f" budget.max_length={2 * taken} or more"
        )
    places = (Part("text", column=number) for number in range(len(columns)))
    texts = [texts_at(place, columns, tokenizer, False) for place in places]
    rows, truncated, types = [], [], []
    for of_row in zip(*texts, strict=True):
        kept = fitting(of_row, room, cut)
        row = [*front, *(token for text in kept for token in (*text, separator))]
        rows.append(row)
        types.append(front_types + [0] * (len(row) - len(front)))
        truncated.append(any(len(k) < len(w) for k, w in zip(kept, of_row, strict=True)))
    return Arranged(rows, truncated, types)


def _plain(words: str, tokenizer: Any) -> list[int]:
    """Return the tokens of an option or a question, which hold no special token."""
    [ids] = ids_of([words], tokenizer)
    special = {*tokenizer.all_special_ids} - {tokenizer.unk_token_id}
    if special.intersection(ids):
        raise UserError(
            f"method=unimc: {words!r} holds a special token of this model; write it in other words"
        )
    return ids
