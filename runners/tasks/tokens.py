"""Tokenises a split once, keeps it unpadded, and re-uses it by content.

A cached file is named by a hash of the tokenizer's files, the library's version, the length limit
and the texts, so it can never be stale; it is written whole or not at all, and holds a hash of its
content, so that a damaged one is named and made again.
"""

from __future__ import annotations

import contextlib
import hashlib
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from methods.method import Method
from results.errors import UserError
from results.whole import whole
from runners.config.settings import Truncate
from runners.data.split import Split
from runners.machine.console import say
from runners.models.weights import Weights
from runners.root import cache_folder
from runners.tasks.cut import cut_texts, kept_places

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


_FORMAT = 3
AT_ONCE = 8192  # rows given to a tokenizer: what it returns takes far more memory than arrays


@dataclass(frozen=True)
class Tokens:
    """Token ids of a split, laid end to end: example i is [offsets[i], offsets[i+1]).

    `input_ids` and `token_type_ids` (None where the model has none) have one entry a token;
    `offsets` has one more entry than there are examples. `truncated` says of each example whether
    the limit of length took tokens away.
    """

    input_ids: NDArray[np.int32]
    token_type_ids: NDArray[np.uint8] | None
    offsets: NDArray[np.int64]
    truncated: NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @property
    def lengths(self) -> NDArray[np.int64]:
        """Tokens of each example, special tokens included."""
        return np.diff(self.offsets)

    def lengths_of(self, rows: NDArray[np.int64]) -> NDArray[np.int64]:
        """Tokens of some examples, without a look at the others."""
        return self.offsets[rows + 1] - self.offsets[rows]

    def take(self, rows: NDArray[np.int64]) -> Tokens:
        """Return the tokens of these examples, in this order, without their types."""
        lengths = self.lengths[rows]
        offsets = np.zeros(len(rows) + 1, dtype=np.int64)
        np.cumsum(lengths, out=offsets[1:])
        shifts = np.repeat(self.offsets[:-1][rows] - offsets[:-1], lengths)
        ids = self.input_ids[shifts + np.arange(offsets[-1])]
        return Tokens(ids, None, offsets, self.truncated[rows])


def tokenize(
    split: Split,
    tokenizer: PreTrainedTokenizerBase,
    weights: Weights,
    max_length: int,
    truncate: Truncate = "head",
    keep: bool = True,
    arranged_by: Method | None = None,
) -> Tokens:
    """Return the tokens of a split, examples cut to `max_length` (a pair's longer text first).

    Of a single text that is too long, `truncate` says which part stays: see runners.tasks.cut. The
    cache is neither read nor written where they are not to `keep`. A method with an `arrangement`
    of its own lays the texts out.
    """
    if not keep:
        return _tokenised(split, tokenizer, weights, max_length, truncate, arranged_by)
    key = _key(split, tokenizer, weights, max_length, truncate, arranged_by)
    path = cache_folder() / f"tokens-{key}.npz"
    cached = _read(path)
    if cached is None:
        cached = _tokenised(split, tokenizer, weights, max_length, truncate, arranged_by)
        _write(path, cached)
    return cached


def check_ends(tokens: Tokens, split: Split, tokenizer: Any) -> None:
    """Refuse a text that holds what its tokenizer puts at a text's end, where the head reads that.

    So it is with tokenizers that put nothing else around a text, as T5's.
    """
    ends = tokenizer.num_special_tokens_to_add(pair=len(split.texts[0]) == 2) if len(tokens) else 0
    if not ends or tokenizer.cls_token is not None or tokenizer.sep_token is not None:
        return
    counts = np.add.reduceat(tokens.input_ids == tokenizer.eos_token_id, tokens.offsets[:-1])
    wrong = np.flatnonzero(counts != ends)
    if len(wrong):
        raise UserError(
            f"{split.name}: row {wrong[0] + 1} holds {tokenizer.eos_token}, which this model reads"
            " as the end of a text; take it out of the data, or use another model"
        )


def _tokenised(
    split: Split,
    tokenizer: PreTrainedTokenizerBase,
    weights: Weights,
    max_length: int,
    truncate: Truncate,
    arranged_by: Method | None,
) -> Tokens:
    parts = []
    for first in range(0, len(split.texts), AT_ONCE):
        columns = list(zip(*split.texts[first : first + AT_ONCE], strict=True))
        try:
            if arranged_by is None:
                parts.append(_part(columns, tokenizer, max_length, truncate))
            else:
                parts.append(_arranged(columns, tokenizer, max_length, truncate, arranged_by))
        except UserError:
            raise
        except Exception as error:
            raise UserError(
                f"the tokenizer of {weights.name_or_path} failed on {split.name}: {error}"
            ) from error
    return _joined(parts)


def _part(
    columns: Sequence[Sequence[str]], tokenizer: Any, max_length: int, truncate: Truncate
) -> Tokens:
    """Return the tokens of some rows, given by their columns."""
    if truncate != "head" and len(columns) == 1:
        encoded, truncated = cut_texts(list(columns[0]), tokenizer, max_length, truncate)
    else:
        encoded = tokenizer(
            *[list(column) for column in columns],
            truncation="longest_first" if len(columns) == 2 else True,
            max_length=max_length,
            padding=False,
            return_attention_mask=False,
        )
        truncated = _truncated(encoded, columns, tokenizer, max_length)
    return _lay_out(encoded, truncated)


def _arranged(
    columns: Sequence[Sequence[str]],
    tokenizer: Any,
    max_length: int,
    truncate: Truncate,
    method: Method,
) -> Tokens:
    """Return the tokens of some rows as a method lays them out, of one segment if it says none."""

    def cut(length: int, room: int) -> list[int]:
        return kept_places([0] * length, room, truncate)

    arranged = method.arrange(columns, tokenizer, max_length, cut)
    encoded = {"input_ids": arranged.input_ids}
    if "token_type_ids" in tokenizer.model_input_names:
        types = arranged.token_type_ids
        first = [[0] * len(row) for row in arranged.input_ids] if types is None else types
        encoded["token_type_ids"] = first
    return _lay_out(encoded, arranged.truncated)


def _joined(parts: Sequence[Tokens]) -> Tokens:
    """Lay tokens of rows that follow each other end to end."""
    lengths = np.concatenate([part.lengths for part in parts])
    offsets = np.zeros(len(lengths) + 1, dtype=np.int64)
    np.cumsum(lengths, out=offsets[1:])
    types = [part.token_type_ids for part in parts if part.token_type_ids is not None]
    return Tokens(
        np.concatenate([part.input_ids for part in parts]),
        np.concatenate(types) if types else None,
        offsets,
        np.concatenate([part.truncated for part in parts]),
    )


def _key(
    split: Split,
    tokenizer: PreTrainedTokenizerBase,
    weights: Weights,
    max_length: int,
    truncate: Truncate,
    arranged_by: Method | None,
) -> str:
    import tokenizers
    import transformers

    parts = [_FORMAT, type(tokenizer).__name__, transformers.__version__, tokenizers.__version__]
    parts += [weights.files_sha256, max_length, split.sha256]
    parts += [] if truncate == "head" else [truncate]
    # Under "types" there may lie tokens without segments, which an estimate once left there.
    parts += ["segments"] if type(tokenizer).__name__.startswith("XLNet") else []
    if "truncation" in weights.turned and tokenizer.truncation_side == "right":
        parts += ["right"]  # once these texts lost their begin
    parts += [] if arranged_by is None else [arranged_by.arrangement]
    return hashlib.sha256(repr(parts).encode()).hexdigest()[:32]


def _truncated(
    encoded: Any, columns: Sequence[Sequence[str]], tokenizer: Any, max_length: int
) -> list[bool]:
    """Say of each example whether it was cut.

    A tokenizer that does not tell is asked again for the examples that fill the limit.
    """
    lengths = [len(row) for row in encoded["input_ids"]]
    full = [i for i, length in enumerate(lengths) if length >= max_length]
    truncated = [False] * len(lengths)
    encodings: Any = getattr(encoded, "encodings", None)
    if full and encodings is None:
        texts = ([column[i] for i in full] for column in columns)
        whole = tokenizer(*texts, return_attention_mask=False, verbose=False)["input_ids"]
        for i, row in zip(full, whole, strict=True):
            truncated[i] = len(row) > lengths[i]
        return truncated
    for i in full:
        truncated[i] = bool(encodings[i].overflowing)
    return truncated


def _lay_out(encoded: Any, truncated: Sequence[bool]) -> Tokens:
    ids: list[list[int]] = encoded["input_ids"]
    offsets = np.zeros(len(ids) + 1, dtype=np.int64)
    np.cumsum([len(row) for row in ids], out=offsets[1:])

    def flat(rows: list[list[int]], dtype: Any) -> NDArray[Any]:
        return np.fromiter(chain.from_iterable(rows), dtype=dtype, count=int(offsets[-1]))

    types = flat(encoded["token_type_ids"], np.uint8) if "token_type_ids" in encoded else None
    return Tokens(flat(ids, np.int32), types, offsets, np.asarray(truncated, dtype=np.bool_))


def _read(path: Path) -> Tokens | None:
    try:
        if not path.exists():
            return None
        with np.load(path, allow_pickle=False) as stored:
            types = stored.get("token_type_ids")
            parts = (stored["input_ids"], types, stored["offsets"], stored["truncated"])
            tokens = Tokens(*parts)
            if np.array_equal(stored["sha256"], _digest(tokens)):
                return tokens
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
        pass
    say(f"cached tokens {path} are damaged; they are made again")
    return None


def _digest(tokens: Tokens) -> NDArray[np.uint8]:
    """Hash the arrays' types and bytes, [32]."""
    digest = hashlib.sha256()
    for array in (tokens.input_ids, tokens.offsets, tokens.truncated, tokens.token_type_ids):
        if array is not None:
            digest.update(f"{array.dtype} {array.shape}".encode())
            digest.update(np.ascontiguousarray(array).data)
    return np.frombuffer(digest.digest(), dtype=np.uint8)


def _write(path: Path, tokens: Tokens) -> None:
    """Keep the tokens for the next run; a cache that cannot be written costs only time."""
    arrays: dict[str, NDArray[Any]] = {"input_ids": tokens.input_ids, "offsets": tokens.offsets}
    arrays["truncated"] = tokens.truncated
    arrays["sha256"] = _digest(tokens)
    if tokens.token_type_ids is not None:
        arrays["token_type_ids"] = tokens.token_type_ids
    with contextlib.suppress(OSError), whole(path) as temporary, temporary.open("wb") as stream:
        np.savez(stream, **arrays)  # type: ignore[arg-type]
