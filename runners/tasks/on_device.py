"""Makes batches on a device where the tokens of a whole split lie.

A batch is then some gathers on the device, with nothing copied to it but the numbers of examples,
and those many batches at a time: the host neither lays tokens out nor waits.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable
from itertools import islice
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from methods.method import Batch
from runners.tasks.tokens import Tokens

# Examples' numbers on the host and, the same, on the device, to their batch there.
Gather = Callable[[NDArray[np.int64], torch.Tensor], Batch]
AT_ONCE = 512  # batches whose numbers are sent together


class OnDevice:
    """A split that lies on a device; its batches are those of its collate, and are there."""

    def __init__(self, gather: Gather, device: torch.device) -> None:
        self.gather, self.device = gather, device

    def batches(self, plan: Iterable[NDArray[np.int64]]) -> Generator[Batch]:
        """Yield the batches of a plan, which says the examples of each."""
        coming = iter(plan)
        while portion := list(islice(coming, AT_ONCE)):
            sizes = [len(indices) for indices in portion]
            sent = torch.from_numpy(np.concatenate(portion)).to(self.device)
            for indices, rows in zip(portion, sent.split(sizes), strict=True):
                yield self.gather(indices, rows)


class Column:
    """The tokens of one column of texts on a device, and what fills them up."""

    def __init__(self, tokens: Tokens, pad_id: int, pad_left: bool, device: torch.device) -> None:
        self.pad_id, self.pad_left = pad_id, pad_left
        self.ids = torch.from_numpy(tokens.input_ids).to(device)
        types = tokens.token_type_ids
        self.types = None if types is None else torch.from_numpy(types).to(device)
        self.starts = torch.from_numpy(tokens.offsets[:-1].copy()).to(device)
        self.lengths = torch.from_numpy(tokens.lengths).to(device)

    def batch(self, rows: torch.Tensor, width: int) -> Batch:
        """Return input_ids, attention_mask and perhaps token_type_ids, [rows, width]."""
        lengths = self.lengths[rows].unsqueeze(1)
        places = torch.arange(width, device=rows.device).unsqueeze(0)
        if self.pad_left:
            places = places - (width - lengths)
        present = (places >= 0) & (places < lengths)
        source = (self.starts[rows].unsqueeze(1) + places).clamp_(0, len(self.ids) - 1)
        ids = self.ids[source].long().masked_fill_(~present, self.pad_id)
        batch = {"input_ids": ids, "attention_mask": present.long()}
        if self.types is not None:
            batch["token_type_ids"] = self.types[source].long().masked_fill_(~present, 0)
        return batch


class Labels:
    """The answers of a split on a device, where it has some, or what else has a row an example."""

    def __init__(
        self, labels: NDArray[Any] | None, device: torch.device, name: str = "labels"
    ) -> None:
        self.labels = None if labels is None else torch.from_numpy(labels).to(device)
        self.name = name

    def beside(self, batch: Batch, rows: torch.Tensor) -> Batch:
        """Return a batch with its answers under their name, where there are some."""
        return batch if self.labels is None else {**batch, self.name: self.labels[rows]}
