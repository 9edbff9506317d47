"""Tells which texts are scored, so that none of them is trained on by another way."""

from __future__ import annotations

import hashlib
import unicodedata
from collections.abc import Iterable, Sequence
from functools import cached_property

from runners.config.unlabelled import is_sign


def normal(text: str) -> str:
    """Return the words of a text in small letters, without marks between them.

    Vowel signs and accents that are characters of their own stay. A text without a word is itself,
    its white space made single blanks.
    """
    folded = unicodedata.normalize("NFKC", text).casefold()
    words = "".join(c if c.isalnum() or is_sign(c) else " " for c in folded).split()
    return " ".join(words or folded.split())


class Evaluated:
    """The texts of all examples that a run is scored or selected by, as `normal` has them."""

    def __init__(self, examples: Iterable[Sequence[str]]) -> None:
        self.rows = {tuple(map(normal, texts)) for texts in examples}
        self.texts = {text for row in self.rows for text in row}

    def has_row(self, texts: Sequence[str]) -> bool:
        """Say whether an example has the texts of one that is scored."""
        return tuple(map(normal, texts)) in self.rows

    def has_text(self, texts: Sequence[str], contained: bool = False) -> bool:
        """Say whether any text is scored; with `contained`, or holds one, or is part of one.

        Parts are whole words.
        """
        each = [normal(text) for text in texts]
        return any(
            text in self.texts or (contained and (self._holds(text) or f" {text} " in self._whole))
            for text in each
        )

    def _holds(self, text: str) -> bool:
        words = text.split()
        return any(
            " ".join(words[i : i + length]) in self.texts
            for length in self._lengths
            for i in range(len(words) - length + 1)
        )

    @cached_property
    def sha256(self) -> str:
        """The hash of the texts, whatever their order."""
        return hashlib.sha256("\n".join(sorted(self.texts)).encode()).hexdigest()

    @cached_property
    def _lengths(self) -> list[int]:
        return sorted({len(text.split()) for text in self.texts} - {0})

    @cached_property
    def _whole(self) -> str:
        return "\n".join(f" {text} " for text in sorted(self.texts))
