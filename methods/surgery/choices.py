"""Texts behind the options of a multiple choice, one mask before each option, as token ids."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from methods.method import Arranged
from methods.surgery.prompts import Part, fitting, ids_of, texts_at
from results.errors import UserError

Columns = Sequence[Sequence[str]]  # a text a row in each
SHOWN = 60  # characters of a text that are shown
LONGEST = 512  # tokens of a text that are read


def arrange(
    question: str,
    options: Columns,
    columns: Columns,
    tokenizer: Any,
    max_length: int,
    cut: Callable[[int, int], Sequence[int]],
) -> Arranged:
    """Return [CLS] [MASK] option … [SEP] question [SEP] text [SEP] of `max_length` tokens at most.

    `options` hold each row's first option, each row's second one, and so on. All from the first
    mask to the separator behind the options is of type 1. Texts are cut, the longest one first;
    options and question are not. No room for texts is a UserError.
    """
    spans, separator = _spans(options, tokenizer), tokenizer.sep_token_id
    behind = [*_plain(question, tokenizer), separator] if question else []
    longest = max(range(len(spans)), key=lambda row: len(spans[row]))
    room = max_length - 2 - len(behind) - len(columns)
    if room - len(spans[longest]) < len(columns):
        taken = max_length - room + len(spans[longest])
        option = max((column[longest] for column in options), key=len)
        instead = f"use budget.max_length={min(2 * taken, LONGEST)}"
        if taken + len(columns) > LONGEST:
            instead = f"shorten it, as {LONGEST} tokens are read at most"
        raise UserError(
            f"budget.max_length={max_length}: options and question take {taken} tokens, the"
            f" special ones included, and leave no room for the text"
            f" {columns[0][longest][:SHOWN]!r}; the longest option is {option[:SHOWN]!r}; {instead}"
        )
    places = (Part("text", column=number) for number in range(len(columns)))
    texts = [texts_at(place, columns, tokenizer, False) for place in places]
    rows, truncated, types = [], [], []
    for span, *of_row in zip(spans, *texts, strict=True):
        kept = fitting(of_row, room - len(span), cut)
        front = [tokenizer.cls_token_id, *span, separator]
        row = [*front, *behind, *(token for text in kept for token in (*text, separator))]
        rows.append(row)
        types.append([0] + [1] * (len(span) + 1) + [0] * (len(row) - len(front)))
        truncated.append(any(len(k) < len(w) for k, w in zip(kept, of_row, strict=True)))
    return Arranged(rows, truncated, types)


def repeated(options: Sequence[str], rows: int, tokenizer: Any) -> Columns:
    """Return the same options for each row; one that holds a special token is a UserError."""
    for option in options:
        _plain(option, tokenizer)
    return [[option] * rows for option in options]


def _spans(options: Columns, tokenizer: Any) -> list[list[int]]:
    """Return the options of each row as tokens, a mask before each one.

    A special token that stands in an option is read as unknown.
    """
    words = list(dict.fromkeys(option for column in options for option in column))
    special, unknown = {*tokenizer.all_special_ids}, tokenizer.unk_token_id
    mask = tokenizer.mask_token_id
    span_of = {
        option: [mask, *(unknown if one in special else one for one in ids)]
        for option, ids in zip(words, ids_of(words, tokenizer), strict=True)
    }
    return [
        [token for option in of_row for token in span_of[option]]
        for of_row in zip(*options, strict=True)
    ]


def _plain(words: str, tokenizer: Any) -> list[int]:
    """Return the tokens of an option or a question, which hold no special token."""
    [ids] = ids_of([words], tokenizer)
    special = {*tokenizer.all_special_ids} - {tokenizer.unk_token_id}
    if special.intersection(ids):
        raise UserError(
            f"method=unimc: {words!r} holds a special token of this model; write it in other words"
        )
    return ids
