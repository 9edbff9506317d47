"""A task's texts in a template around one mask, as token ids."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from methods.method import Arranged, Setting
from results.errors import UserError

MASK = "[MASK]"
_PARTS = re.compile(r"(\{[^{}]*\}|\[MASK\])")
CHANGES = ("bare", "lower")


@dataclass(frozen=True)
class Part:
    """A part of a template: words as they stand, the mask, or a column's text.

    `blank` says whether a text has a blank before it. `changes` are what is done to it: "bare"
    takes the mark at its end away, "lower" makes its first letter a small one.
    """

    kind: Literal["words", "mask", "text"]
    words: str = ""
    column: int = 0
    blank: bool = False
    changes: tuple[str, ...] = ()


def read_template(template: str, columns: Sequence[str]) -> tuple[list[Part], list[str]]:
    """Return a template's parts, and what is wrong with it, each the end of a sentence.

    A blank before the mask is dropped, as the mask takes its place; a blank before a text is the
    text's own.
    """
    parts: list[Part] = []
    problems: list[str] = []
    blank = False
    for piece in filter(None, _PARTS.split(template)):
        if piece == MASK:
            parts.append(Part("mask"))
        elif piece.startswith("{") and piece.endswith("}"):
            name, _, changes = piece[1:-1].partition(":")
            named = tuple(filter(None, changes.split(",")))
            if name not in columns:
                problems.append(f"names no column by {piece}: known are {', '.join(columns)}")
            elif unknown := [change for change in named if change not in CHANGES]:
                problems.append(f"asks for {unknown[0]} in {piece}: known are {', '.join(CHANGES)}")
            else:
                parts.append(Part("text", "", columns.index(name), blank, named))
        else:
            words = piece.rstrip(" ")
            if words:
                parts.append(Part("words", words))
        blank = piece.endswith(" ")
    masks = sum(part.kind == "mask" for part in parts)
    if masks != 1:
        problems.append(f"has {masks or 'no'} masks: write {MASK} once")
    if not problems and not any(part.kind == "text" for part in parts):
        problems.append(f"holds no text: name a column, as {{{columns[0]}}}")
    return parts, problems


def changed(text: str, changes: Sequence[str], any_character: bool) -> str:
    """Return a text with the changes of its place in a template.

    "bare" takes its last character where that is punctuation, or whatever it is.
    """
    if "lower" in changes:
        text = text[:1].lower() + text[1:]
    if "bare" in changes:
        text = text if any_character else text.rstrip()
        if any_character or unicodedata.category(text[-1:] or "a").startswith("P"):
            text = text[:-1]
    return text


def word_id(word: str, tokenizer: Any) -> int | None:
    """Return the token of a word inside a sentence; None where that is not one token it knows."""
    ids = ids_of([f" {word}"], tokenizer)[0]
    return ids[0] if len(ids) == 1 and ids[0] != tokenizer.unk_token_id else None


def single_token(word: str, tokenizer: Any, method: str, instead: str) -> int:
    """Return the token of a word inside a sentence; a UserError, which ends on `instead`."""
    known = word_id(word, tokenizer)
    if known is None:
        pieces = tokenizer.tokenize(f" {word}")
        raise UserError(
            f"method={method}: the word {word!r} is not one token of this model's vocabulary"
            f" ({' '.join(pieces)}); {instead}"
        )
    return known


def check_head(setting: Setting, method: str) -> None:
    """Refuse a checkpoint without a head that predicts masked tokens; a stored run is let be."""
    if setting.head and not setting.stored:
        raise UserError(
            f"method={method}: the checkpoint holds no head that predicts masked tokens (it"
            f" lacks {min(setting.head)}), and a random one has nothing to say; train one by"
            " task=mlm save=delta and start from that run by start=RUN, or use a model of the"
            " hub that has one, such as model=bert-base-uncased"
        )


def arrange(
    parts: Sequence[Part],
    columns: Sequence[Sequence[str]],
    tokenizer: Any,
    max_length: int,
    cut: Callable[[int, int], Sequence[int]],
    any_character: bool = False,
) -> Arranged:
    """Return examples in the template, special tokens around, of `max_length` tokens at most.

    Parts are tokenised apart. Texts are cut, the longest one first, and of two equal ones the later
    first; nothing else is. Of a single text `cut` says which tokens stay. A mask that stands in a
    text is read as unknown. No room for texts is a UserError.
    """
    from methods.surgery.sentences import bare

    around, mask = bare(tokenizer), tokenizer.mask_token_id
    places = [part for part in parts if part.kind == "text"]
    fixed: list[list[int]] = [
        [mask] if part.kind == "mask" else _words(part.words, tokenizer)
        for part in parts
        if part.kind != "text"
    ]
    room = max_length - around.length - sum(map(len, fixed))
    if room < len(places):
        raise UserError(
            f"budget.max_length={max_length}: the template takes {max_length - room} tokens, the"
            f" special ones included, and leaves no room for its texts; use"
            f" budget.max_length={2 * (max_length - room)} or more"
        )
    texts = [texts_at(place, columns, tokenizer, any_character) for place in places]
    rows, truncated = [], []
    for of_row in zip(*texts, strict=True):
        kept = fitting(of_row, room, cut)
        inner, literal = iter(kept), iter(fixed)
        middle = [next(inner if part.kind == "text" else literal) for part in parts]
        rows.append([*around.before, *(i for piece in middle for i in piece), *around.after])
        truncated.append(any(len(k) < len(w) for k, w in zip(kept, of_row, strict=True)))
    return Arranged(rows, truncated)


def _words(words: str, tokenizer: Any) -> list[int]:
    """Return the tokens of words of a template; a single mark has no blank of its own before it."""
    if len(words) == 1:
        mark = tokenizer.convert_tokens_to_ids(words)
        if mark is not None and mark != tokenizer.unk_token_id:
            return [mark]
    return ids_of([words], tokenizer)[0]


def texts_at(
    place: Part, columns: Sequence[Sequence[str]], tokenizer: Any, any_character: bool
) -> list[list[int]]:
    """Return the tokens of a column's texts as they stand at a place of the template."""
    lead = " " if place.blank else ""
    texts = [changed(text, place.changes, any_character) for text in columns[place.column]]
    rows = ids_of([lead + text if text else "" for text in texts], tokenizer)
    mask, unknown = tokenizer.mask_token_id, tokenizer.unk_token_id
    instead = [] if unknown is None else [unknown]
    return [
        [i for one in row for i in (instead if one == mask else [one])] if mask in row else row
        for row in rows
    ]


def fitting(
    texts: Sequence[list[int]], room: int, cut: Callable[[int, int], Sequence[int]]
) -> list[list[int]]:
    """Return the texts of a row, cut where they are longer than the room that they share."""
    lengths = [len(text) for text in texts]
    if sum(lengths) <= room:
        return list(texts)
    if len(texts) == 1:
        return [[texts[0][i] for i in cut(lengths[0], room)]]
    while sum(lengths) > room:
        longest = max(range(len(lengths)), key=lambda i: (lengths[i], i))
        lengths[longest] -= 1
    return [text[:length] for text, length in zip(texts, lengths, strict=True)]


def ids_of(texts: Sequence[str], tokenizer: Any) -> list[list[int]]:
    """Return the tokens of texts, without special ones around."""
    coded = tokenizer(list(texts), add_special_tokens=False, verbose=False)["input_ids"]
    return [list(ids) for ids in coded]
