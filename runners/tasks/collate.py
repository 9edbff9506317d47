"""Turns example indices into padded tensors."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray

from runners.tasks.tokens import Tokens

if TYPE_CHECKING:
    pass
if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class Lengths:
    """The tokens of each example, its columns together, [rows]."""

    lengths: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.lengths)


class SentenceCollator:
    """Turns example indices into raw sentences, [columns · batch, length], column after column."""

    def __init__(self, columns: Sequence[Tokens], pad_id: int) -> None:
        self.columns = [Collator(tokens, None, pad_id) for tokens in columns]
        self.pad_id = pad_id
        self.tokens = Lengths(np.sum([tokens.lengths for tokens in columns], axis=0))

    def __call__(self, indices: NDArray[np.int64]) -> dict[str, torch.Tensor]:
        """Return input_ids and attention_mask, padded on the right."""
        made = [collate(indices) for collate in self.columns]
        width = max(part["input_ids"].shape[1] for part in made)

        def joined(name: str, filler: int) -> torch.Tensor:
            pad = torch.nn.functional.pad
            parts = [
                pad(p[name], (0, width - p[name].shape[1]), value=filler).clone() for p in made
            ]
            return torch.cat(parts)

        return {
            "input_ids": joined("input_ids", self.pad_id),
            "attention_mask": joined("attention_mask", 0),
        }


Labels = NDArray[np.int64] | NDArray[np.float32]


def by_length(tokens: Tokens, batch_size: int) -> Sequence[NDArray[np.int64]]:
    """Return batches for evaluation, longest examples first: little padding, early peak."""
    order = np.argsort(-tokens.lengths, kind="stable")
    return [order[i : i + batch_size] for i in range(0, len(order), batch_size)]


@dataclass(frozen=True)
class Collator:
    """Turns example indices into tensors padded to the longest example of the batch.

    `pad_id` and `pad_left` come from the tokenizer; `labels` holds class indices or scores, or
    None.
    """

    tokens: Tokens
    labels: Labels | None
    pad_id: int
    pad_left: bool = False

    def __call__(self, indices: NDArray[np.int64]) -> dict[str, torch.Tensor]:
        """Return input_ids, attention_mask and perhaps token_type_ids, [batch, length]; labels."""
        import torch

        offsets, lengths = self.tokens.offsets, self.tokens.lengths[indices]
        shape = (len(indices), int(lengths.max()))
        ids = np.full(shape, self.pad_id, dtype=np.int64)
        mask = np.zeros(shape, dtype=np.int64)
        types = None if self.tokens.token_type_ids is None else np.zeros(shape, dtype=np.int64)
        for row, (i, length) in enumerate(zip(indices, lengths, strict=True)):
            place = slice(shape[1] - length, None) if self.pad_left else slice(0, length)
            source = slice(offsets[i], offsets[i + 1])
            ids[row, place] = self.tokens.input_ids[source]
            mask[row, place] = 1
            if types is not None and self.tokens.token_type_ids is not None:
                types[row, place] = self.tokens.token_type_ids[source]
        batch = {"input_ids": torch.from_numpy(ids), "attention_mask": torch.from_numpy(mask)}
        if types is not None:
            batch["token_type_ids"] = torch.from_numpy(types)
        if self.labels is not None:
            batch["labels"] = torch.from_numpy(self.labels[indices])
        return batch
