"""Turns example indices into padded tensors."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Protocol, Self

import numpy as np
import torch
from numpy.typing import NDArray

from methods.method import Batch
from runners.speed.levers import Levers
from runners.tasks.on_device import Column, Gather, Labels, OnDevice
from runners.tasks.tokens import Tokens


class Collate(Protocol):
    """Turns example indices into a batch of tensors, padded to the longest text among them."""

    @property
    def lengths(self) -> NDArray[np.int64]:
        """The tokens of each example, all its texts together, [rows]."""
        ...

    @property
    def token_ids(self) -> Sequence[NDArray[np.int32]]:
        """Every array of token ids that batches are made from."""
        ...

    @property
    def token_columns(self) -> Sequence[Tokens]:
        """The tokens of every column of texts that batches are made from."""
        ...

    @property
    def pad_id(self) -> int:
        """The token that fills texts up."""
        ...

    @property
    def groups(self) -> NDArray[np.int64] | None:
        """The group of each example, [rows], where a batch is of one group; else None."""
        ...

    def shape(self, indices: NDArray[np.int64]) -> tuple[int, ...]:
        """Return the shape of input_ids in the batch of these examples."""
        ...

    def padded_to(self, multiple: int) -> Self:
        """Return the same, but for batches as long as a multiple of so many tokens.

        None is longer than the longest text of all.
        """
        ...

    def on(self, device: torch.device) -> Gather | None:
        """Return what makes the same batches on a device, None where each has draws of its own."""
        ...

    def __call__(self, indices: NDArray[np.int64], step: int = 0) -> Batch:
        """Return input_ids and attention_mask, and whatever else the kind's forward needs.

        `step` counts the batches trained on before. What is drawn for a batch depends on it and on
        the run's seed, so that the same step has the same batch, whenever it is made.
        """
        ...


def on_device(collate: Collate, device: torch.device, levers: Levers) -> OnDevice | None:
    """Return a split on a device where its levers let it lie there, else None."""
    size = sum(
        array.nbytes
        for tokens in collate.token_columns
        for array in (tokens.input_ids, tokens.token_type_ids, tokens.offsets)
        if array is not None
    )
    gather = collate.on(device) if levers.lies_on_device(size) else None
    return None if gather is None else OnDevice(gather, device)


def by_length(lengths: NDArray[np.int64], batch_size: int) -> Sequence[NDArray[np.int64]]:
    """Return batches for evaluation, longest examples first: little padding, early peak."""
    order = np.argsort(-lengths, kind="stable")
    return [order[i : i + batch_size] for i in range(0, len(order), batch_size)]


@dataclass(frozen=True)
class Collator:
    """Turns example indices into tensors padded to the longest example of the batch.

    `pad_id` and `pad_left` come from the tokenizer; `labels` holds class indices or scores, or
    None. Batches are as long as a multiple of `multiple` tokens, up to the longest text of all.
    `attributes` holds the numbers of each example's values, [rows, attributes, values], where a
    method reads them.
    """

    tokens: Tokens
    labels: NDArray[Any] | None
    pad_id: int
    pad_left: bool = False
    multiple: int = 1
    groups: None = None
    attributes: NDArray[np.int64] | None = None

    @property
    def lengths(self) -> NDArray[np.int64]:
        return self.tokens.lengths

    @property
    def token_ids(self) -> Sequence[NDArray[np.int32]]:
        return [self.tokens.input_ids]

    @property
    def token_columns(self) -> Sequence[Tokens]:
        return [self.tokens]

    @cached_property
    def _longest(self) -> int:
        return int(self.lengths.max())

    def width(self, indices: NDArray[np.int64]) -> int:
        """Return how long the batch of these examples is, in tokens."""
        longest = int(self.tokens.lengths_of(indices).max(initial=0))
        return min(-(-longest // self.multiple) * self.multiple, self._longest)

    def shape(self, indices: NDArray[np.int64]) -> tuple[int, ...]:
        return (len(indices), self.width(indices))

    def padded_to(self, multiple: int) -> Self:
        return replace(self, multiple=multiple)

    def column(self, device: torch.device) -> Column:
        """Return the tokens on a device."""
        return Column(self.tokens, self.pad_id, self.pad_left, device)

    def on(self, device: torch.device) -> Gather:
        column, labels = self.column(device), Labels(self.labels, device)
        attributes = Labels(self.attributes, device, "attributes")

        def gather(indices: NDArray[np.int64], rows: torch.Tensor) -> Batch:
            batch = labels.beside(column.batch(rows, self.width(indices)), rows)
            return attributes.beside(batch, rows)

        return gather

    def __call__(self, indices: NDArray[np.int64], step: int = 0) -> Batch:
        """Return input_ids, attention_mask and perhaps token_type_ids, [batch, length]; labels.

        Where there are some, attributes too, [batch, attributes, values].
        """
        offsets, lengths = self.tokens.offsets, self.tokens.lengths_of(indices)
        shape = (len(indices), self.width(indices))
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
        if self.attributes is not None:
            batch["attributes"] = torch.from_numpy(self.attributes[indices])
        return batch


class ColumnCollator:
    """Turns example indices into the texts of several columns, all padded to one length."""

    groups = None

    def __init__(self, columns: Sequence[Collator]) -> None:
        self.columns, self.pad_id = list(columns), columns[0].pad_id
        self.lengths: NDArray[np.int64] = np.sum([c.lengths for c in columns], axis=0)
        self.token_ids = [ids for column in columns for ids in column.token_ids]
        self.token_columns = [column.tokens for column in columns]

    def width(self, indices: NDArray[np.int64]) -> int:
        """Return how long every text of these examples becomes, in tokens."""
        return max(column.width(indices) for column in self.columns)

    def padded_to(self, multiple: int) -> Self:
        padded = copy.copy(self)
        padded.columns = [column.padded_to(multiple) for column in self.columns]
        return padded

    def columns_on(self, device: torch.device) -> Callable[[torch.Tensor, int], list[Batch]]:
        """Return what makes a batch for each column on a device, of rows and of a width."""
        columns = [column.column(device) for column in self.columns]
        return lambda rows, width: [column.batch(rows, width) for column in columns]

    def padded(self, indices: NDArray[np.int64]) -> list[Batch]:
        """Return a batch for each column, [batch, length] of one length."""
        batches = [collate(indices) for collate in self.columns]
        width = max(batch["input_ids"].shape[1] for batch in batches)
        for batch, column in zip(batches, self.columns, strict=True):
            lacking = width - batch["input_ids"].shape[1]
            sides = (lacking, 0) if column.pad_left else (0, lacking)
            for name, tensor in batch.items():
                if tensor.dim() == 2:
                    filler = self.pad_id if name == "input_ids" else 0
                    batch[name] = torch.nn.functional.pad(tensor, sides, value=filler)
        return batches


class SentenceCollator(ColumnCollator):
    """Turns example indices into raw sentences, [columns · batch, length], column after column."""

    def shape(self, indices: NDArray[np.int64]) -> tuple[int, ...]:
        return (len(self.columns) * len(indices), self.width(indices))

    def __call__(self, indices: NDArray[np.int64], step: int = 0) -> Batch:
        """Return input_ids and attention_mask, padded on the right."""
        return self._one(self.padded(indices))

    def on(self, device: torch.device) -> Gather:
        each = self.columns_on(device)
        return lambda indices, rows: self._one(each(rows, self.width(indices)))

    def _one(self, batches: list[Batch]) -> Batch:
        return {name: torch.cat([batch[name] for batch in batches]) for name in batches[0]}
