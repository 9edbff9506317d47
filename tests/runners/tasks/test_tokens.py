"""Tokenised data is re-used by content, and never when anything it depends on has changed."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from transformers import AutoTokenizer, PreTrainedTokenizerBase

from runners.config.settings import Truncate
from runners.data.split import Split
from runners.models.weights import Weights, find_weights
from runners.tasks.tokens import Tokens, tokenize
from tests.conftest import configure, tiny
from tests.tiny import TEXTS

SPLIT = Split("train", tuple((t,) for t in TEXTS), None)


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("TUNEBENCH_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def bert(tiny_folder: Callable[[str], Path]) -> tuple[PreTrainedTokenizerBase, Weights]:
    folder = tiny_folder("bert")
    return AutoTokenizer.from_pretrained(folder), find_weights(
        configure(*tiny(folder)).settings.model
    )


class _Unused:
    """Stands for the tokenizer when the cache must answer."""

    def __call__(self, *texts: object, **options: object) -> None:
        raise AssertionError("tokenised again")


def _same(first: Tokens, second: Tokens) -> bool:
    assert first.token_type_ids is not None
    assert second.token_type_ids is not None
    return (
        np.array_equal(first.input_ids, second.input_ids)
        and np.array_equal(first.token_type_ids, second.token_type_ids)
        and np.array_equal(first.offsets, second.offsets)
    )


def test_second_time_comes_from_the_cache(
    cache: Path, bert: tuple[PreTrainedTokenizerBase, Weights]
) -> None:
    tokenizer, weights = bert
    first = tokenize(SPLIT, tokenizer, weights, 32)
    [stored] = cache.iterdir()
    unused = type(type(tokenizer).__name__, (_Unused,), {})()
    assert _same(first, tokenize(SPLIT, unused, weights, 32))
    assert [p.name for p in cache.iterdir()] == [stored.name]


def test_other_length_text_or_tokenizer_files_are_other_entries(
    cache: Path, bert: tuple[PreTrainedTokenizerBase, Weights]
) -> None:
    import dataclasses

    tokenizer, weights = bert
    other = dataclasses.replace(weights, files_sha256="0" * 64)
    tokenize(SPLIT, tokenizer, weights, 32)
    tokenize(SPLIT, tokenizer, weights, 8)
    tokenize(SPLIT, tokenizer, other, 32)
    tokenize(SPLIT.take([0, 1]), tokenizer, weights, 32)
    assert len(list(cache.iterdir())) == 4


@pytest.mark.parametrize("keep", [0, 100, -40])
def test_damaged_entry_is_made_again(
    keep: int, cache: Path, bert: tuple[PreTrainedTokenizerBase, Weights]
) -> None:
    first = tokenize(SPLIT, *bert, 32)
    [stored] = cache.iterdir()
    whole = stored.read_bytes()
    stored.write_bytes(whole[:keep])
    assert _same(first, tokenize(SPLIT, *bert, 32))
    assert len(stored.read_bytes()) == len(whole)


def test_entry_with_other_content_is_named_and_made_again(
    cache: Path,
    bert: tuple[PreTrainedTokenizerBase, Weights],
    capsys: pytest.CaptureFixture[str],
) -> None:
    """A whole file of the right shape, with one token of another word."""
    first = tokenize(SPLIT, *bert, 32)
    [stored] = cache.iterdir()
    with np.load(stored) as arrays:
        content = dict(arrays)
    content["input_ids"][1] += 1
    with stored.open("wb") as stream:
        np.savez(stream, **content)
    assert not capsys.readouterr().err
    assert _same(first, tokenize(SPLIT, *bert, 32))
    assert str(stored) in capsys.readouterr().err
    assert _same(first, tokenize(SPLIT, *bert, 32))
    assert not capsys.readouterr().err


def test_cache_that_cannot_be_written_costs_only_time(
    bert: tuple[PreTrainedTokenizerBase, Weights], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TUNEBENCH_CACHE", "/dev/null/cache")
    assert len(tokenize(SPLIT, *bert, 32)) == len(TEXTS)


def test_pairs_are_cut_longest_first(bert: tuple[PreTrainedTokenizerBase, Weights]) -> None:
    tokenizer, weights = bert
    long, short = " ".join(TEXTS), "dogs"
    tokens = tokenize(Split("train", ((long, short), (short, long)), None), tokenizer, weights, 16)
    assert tokens.lengths.tolist() == [16, 16]
    assert tokens.token_type_ids is not None
    # The short text is kept whole on either side: one word and its [SEP], or [CLS], word, [SEP].
    assert tokens.token_type_ids.reshape(2, 16).sum(axis=1).tolist() == [2, 13]


@pytest.mark.parametrize("columns", [1, 2])
@pytest.mark.parametrize("truncate", ["head", "tail", "head_tail"])
@pytest.mark.parametrize("architecture", ["bert", "roberta", "distilbert"])
def test_rows_in_portions_are_the_rows_at_once(
    architecture: str,
    truncate: Truncate,
    columns: int,
    tiny_folder: Callable[[str], Path],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    folder = tiny_folder(architecture)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    weights = find_weights(configure(*tiny(folder)).settings.model)
    texts = [*TEXTS, " ".join(TEXTS), *TEXTS]
    rows = tuple(tuple(texts[(i + 3 * j) % len(texts)] for j in range(columns))
                 for i in range(len(texts)))  # fmt: skip
    split = Split("train", rows, None)
    longest = 12 * columns
    whole = tokenize(split, tokenizer, weights, longest, truncate, keep=False)
    assert whole.truncated.any()
    assert not whole.truncated.all()
    for size in (1, 4, len(rows) - 1, len(rows)):
        monkeypatch.setattr("runners.tasks.tokens.AT_ONCE", size)
        parts = tokenize(split, tokenizer, weights, longest, truncate, keep=False)
        for name in ("input_ids", "token_type_ids", "offsets", "truncated"):
            one, other = getattr(whole, name), getattr(parts, name)
            assert (one is None) == (other is None)
            if one is not None:
                np.testing.assert_array_equal(one, other)
                assert one.dtype == other.dtype
