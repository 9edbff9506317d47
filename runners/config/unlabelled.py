"""The schema of rows that nobody labelled by hand: pseudo-labelled, generated, and mined."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator, Sequence
from functools import cache
from typing import Literal

from pydantic import Field

from runners.config.places import Place
from runners.config.section import Section

STAGE = "stage"  # as a teacher: the same run without its rows, done first

VERBALIZER, REST = "V", "rest"  # what a pattern may name besides the task's columns
_NAMED = re.compile(r"\{([A-Za-z_]\w*)\}")


class Pseudo(Section):
    """Self-training: rows beyond data.train_size, whose labels are hidden, labelled by a run.

    The teacher answers each row `passes` times under dropout; a row is kept where the share of
    passes that agree is at least `threshold`.
    """

    teacher: Place | None = None
    """The run that labels rows beyond data.train_size: its name in out=, its record or its delta;
    stage: the same run without these rows, done first; null: none are labelled."""
    threshold: float = Field(default=0.9, ge=0, le=1)
    """Share of the passes that must agree on a row's label."""
    passes: int = Field(default=10, ge=1)
    """How often the teacher answers each row, under dropout."""
    balance: bool = True
    """Each class keeps as many as the rarest, those most agreed on."""
    pool: int | None = Field(default=None, ge=1)
    """Offer so many of the rows beyond, drawn by chance; null: all."""
    control: Literal["updates"] | None = None
    """updates: the labelled rows alone, with as many updates as there are with the others."""


class Generated(Section):
    """Augmentation: rows sampled from a causal language model that is tuned on each label's rows.

    Of each label, `times` as many rows are added as there are to train on. With a teacher, a sample
    stays where that answers its label, with at least `threshold` as its probability.
    """

    generator: Place | None = None
    """A causal language model, such as GPT-2: a local folder or a hub id; null: no row is made."""
    times: int = Field(default=1, ge=1)
    """Rows to add for each row that is trained on: 1, 5, 10."""
    teacher: Place | None = None
    """The run that says which samples stay, as data.pseudo.teacher; null: all do."""
    threshold: float = Field(default=0.0, ge=0, le=1)
    """Probability that the teacher must give a sample's label."""
    most: int = Field(default=5, ge=1)
    """At most so many samples are drawn for each row wanted."""
    epochs: int = Field(default=3, ge=1)
    """Passes over a label's rows in which the generator is tuned."""
    lr: float = Field(default=5e-5, gt=0)
    """The generator's learning rate, falling to zero."""
    batch_size: int = Field(default=8, ge=1)
    """Rows a step of the generator."""
    max_tokens: int = Field(default=64, ge=2)
    """Tokens of a row, as the generator is tuned and as it is sampled from."""
    temperature: float = Field(default=1.0, gt=0)
    """Of the samples."""
    top_p: float = Field(default=1.0, gt=0, le=1)
    """Samples are drawn from the most probable tokens that have this share."""
    control: Literal["updates"] | None = None
    """updates: the labelled rows alone, with as many updates as there are with the others."""


class Mine(Section):
    """Mining: rows that a task's patterns find in text without labels, in place of its train."""

    source: Literal["text", "train"] | None = None
    """text: mine the lines of data.text=FILE; train: the training texts, without their labels;
    null: train as it is."""
    per_class: int | None = Field(default=None, ge=1)
    """At most so many rows of each class, drawn by chance; null: all."""
    balance: bool = True
    """Each class keeps as many as the rarest, drawn by chance."""
    contained: bool = False
    """Leave out a text that holds one which is scored, or is part of one, too."""
    filter: Literal["mlm_prompt", "unimc", "description_cosine"] | None = Field(
        default=None, exclude_if=lambda method: method is None
    )
    """Leave out rows that the run's own model answers otherwise before it is trained, by
    mlm_prompt, unimc or description_cosine; null: none."""


class Mining(Section):
    """How rows of a task are mined: what each label sounds like, and where its texts then stand.

    A pattern is a regular expression in which {V} is any of a label's verbalizers, {rest} what
    follows up to the end of the sentence, and {COLUMN} the sentence that a column takes.
    """

    patterns: list[str] = Field(min_length=1)
    verbalizers: dict[str, list[str]]

    def problems(self, columns: Sequence[str], labels: Sequence[str]) -> Iterator[str]:
        """Yield a sentence for each part that can mine nothing of a task."""
        for pattern in self.patterns:
            yield from _pattern_problems(pattern, columns)
        if self.verbalizers.keys() != set(labels):
            differ = ", ".join(sorted(self.verbalizers.keys() ^ set(labels)))
            yield (
                f"mine.verbalizers names other labels than labels does ({differ}); give each of"
                f" {', '.join(labels)} its words"
            )
        for label, words in self.verbalizers.items():
            if not words or not all(word.strip() for word in words):
                yield f"mine.verbalizers.{label} has no word; give it one, as [good]"

    def compiled(self, label: str) -> list[re.Pattern[str]]:
        """Return the patterns of a label; what a column takes is a group of the column's name."""
        return [_compiled(pattern, self.verbalizers[label]) for pattern in self.patterns]

    def words(self, label: str) -> re.Pattern[str]:
        """Return what every text that a label's patterns match holds, whatever its capitals."""
        return re.compile(_any_of(self.verbalizers[label]), flags=re.IGNORECASE)


def _pattern_problems(pattern: str, columns: Sequence[str]) -> Iterator[str]:
    named = _NAMED.findall(pattern)
    if VERBALIZER not in named:
        yield f"mine.patterns: '{pattern}' has no {{{VERBALIZER}}}, where a verbalizer stands"
    for column in columns:
        if named.count(column) != 1:
            yield (
                f"mine.patterns: '{pattern}' has {{{column}}} {named.count(column)} times; each of"
                f" {', '.join(columns)} takes one sentence"
            )
    if unknown := set(named) - {VERBALIZER, REST, *columns}:
        known = ", ".join(f"{{{name}}}" for name in (VERBALIZER, REST, *columns))
        yield f"mine.patterns: '{pattern}' names {{{min(unknown)}}}; known: {known}"
        return
    try:
        _compiled(pattern, ["word"])
    except re.error as error:
        yield f"mine.patterns: '{pattern}' is no regular expression: {error}"


# A sentence ends at a mark, and quotes or brackets after it, before white space or the text's end.
_END = r"[.!?]+[\"'”’)\]]*(?=\s|$)"
_WITHIN = rf"(?:(?!{_END})[^\n])"


def is_sign(character: str) -> bool:
    """Say whether a character belongs to the letter before it, as Devanagari's vowel signs do.

    To Python's \\w and isalnum it is no part of a word. What only chooses a glyph, as behind some
    emoji, is none.
    """
    chooses = "\ufe00" <= character <= "\ufe0f" or "\U000e0100" <= character <= "\U000e01ef"
    return unicodedata.category(character) in ("Mn", "Mc") and not chooses


@cache
def _in_words() -> str:
    """Return a class of all characters that a word may hold."""
    return rf"[\w{''.join(c for c in map(chr, range(0x300, 0x1F000)) if is_sign(c))}]"


def _any_of(words: Sequence[str]) -> str:
    longest_first = sorted(words, key=len, reverse=True)
    within = r"\w" if all(map(str.isascii, words)) else _in_words()  # which takes a while to make
    return rf"(?<!{within})(?:{'|'.join(map(re.escape, longest_first))})(?!{within})"


def _compiled(pattern: str, words: Sequence[str]) -> re.Pattern[str]:
    def part(name: re.Match[str]) -> str:
        if name[1] == VERBALIZER:
            return _any_of(words)
        if name[1] == REST:
            return rf"{_WITHIN}*{_END}"
        return rf"(?<!\S)(?=\S)(?P<{name[1]}>{_WITHIN}+(?:{_END}|$))"

    return re.compile(_NAMED.sub(part, pattern))
