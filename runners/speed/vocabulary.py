"""Trains only the rows of the word embedding that a run's texts ask for.

The rows of tokens that occur in no text of a run have no gradient, so that Adam's moments of them
stay zero and the rows as they were. Yet each step makes their gradients, measures, squares and
forgets them: half of minilm's weights for a few words of each text. While a run trains, its
embedding holds the rows of its own tokens; all rows are back for checkpoints and at the end.
Weights are the same but for rounding, which comes from the norm that clips the gradients.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from methods.method import Method
from runners.speed.become import become
from runners.speed.lever import Lever, Start

# What a method may do to all weights, or their gradients, at each step.
_OF_ALL_WEIGHTS = (
    *(
        "gradients",
        "backward_passes",
        "after_backward",
        "after_clipping",
        "after_step",
        "hold_weights",
        "see_weights",
        "average_weights",
    ),
)


class Vocabulary:
    """The rows of a model's word embedding that are in use, and the others, kept aside.

    `rows` are the token ids whose rows are trained, ascending. While trimmed, the embedding takes
    ids as ever, and a token that is not in use is an IndexError on a CPU. Trim and restore between
    steps only, when there are no gradients.
    """

    def __init__(self, embedding: nn.Embedding, rows: NDArray[np.int64]) -> None:
        self.embedding: Any = embedding
        self.weight = embedding.weight
        self.rows = torch.from_numpy(rows).to(self.weight.device)
        self.places = torch.full((len(self.weight),), -1, device=self.weight.device)
        self.places[self.rows] = torch.arange(len(rows), device=self.weight.device)
        self.padding = None
        if embedding.padding_idx is not None:
            self.padding = int(self.places[embedding.padding_idx])
        self._whole: torch.Tensor | None = None
        self._trimmed: dict[str, torch.Tensor] = {}  # while all rows are there

    def trim(self, optimizer: torch.optim.Optimizer) -> None:
        """Leave the rows in use, in the embedding and in the optimizer's moments of it."""
        state = optimizer.state.get(self.weight, {})
        for name, value in state.items():
            if value.shape == self.weight.shape:
                state[name] = self._in_place(name, value)
        self._whole = self.weight.data
        self.weight.data = self._in_place("", self._whole)
        self._trimmed = {}
        self.embedding.trimmed = self
        become(self.embedding, _TrimmedEmbedding)

    def _in_place(self, name: str, whole: torch.Tensor) -> torch.Tensor:
        """Return the rows in use where they were before: a graph finds them nowhere else."""
        before = self._trimmed.get(name)
        return whole[self.rows] if before is None else before.copy_(whole[self.rows])

    def restore(self, optimizer: torch.optim.Optimizer) -> None:
        """Put all rows back; the moments of those that were not in use are zero."""
        assert self._whole is not None, "trimmed before"
        state = optimizer.state.get(self.weight, {})
        for name, value in state.items():
            if value.shape == self.weight.shape:
                self._trimmed[name] = value
                state[name] = torch.zeros_like(self._whole).index_copy_(0, self.rows, value)
        self._trimmed[""] = self.weight.data
        self.weight.data = self._whole.index_copy_(0, self.rows, self.weight.data)
        self._whole = None
        become(self.embedding, nn.Embedding)
        del self.embedding.trimmed

    @contextlib.contextmanager
    def restored(self, optimizer: torch.optim.Optimizer) -> Iterator[None]:
        """Have all rows for a while."""
        self.restore(optimizer)
        try:
            yield
        finally:
            self.trim(optimizer)


class _TrimmedEmbedding(nn.Embedding):
    """Looks a token up among the rows in use."""

    trimmed: Vocabulary

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        own = self.trimmed
        return nn.functional.embedding(own.places[input], self.weight, own.padding)


def rows_in_use(texts: Sequence[NDArray[Any]], embedding: nn.Embedding, pad: int) -> Any:
    """Return the token ids that occur in any text, and those that pad, ascending: int64, [rows]."""
    padding = [pad] if embedding.padding_idx is None else [pad, embedding.padding_idx]
    seen = np.zeros(len(embedding.weight), dtype=bool)
    for ids in (*texts, np.asarray(padding)):
        seen[ids] = True
    return np.flatnonzero(seen)


def hindrance(
    model: Any, methods: Sequence[Method], optimizer: torch.optim.Optimizer
) -> str | None:
    """Return why all rows have to be trained, or None."""
    for method in methods:
        if method.represents:
            return f"{method.name} reads texts of its own"
        for hook in _OF_ALL_WEIGHTS:
            if getattr(type(method), hook) is not getattr(Method, hook):
                return f"{method.name} sees all weights {hook.replace('_', ' ')}"
    embedding = model.get_input_embeddings()
    if type(embedding) is not nn.Embedding or "forward" in vars(embedding):
        return f"its word embedding is a {type(embedding).__name__}"
    if embedding.max_norm is not None or embedding.sparse or embedding.scale_grad_by_freq:
        return "its word embedding does more than to look up"
    weight = embedding.weight
    if not weight.requires_grad:
        return "its word embedding is not trained"
    if sum(p is weight for _, p in model.named_parameters(remove_duplicate=False)) > 1:
        return "its word embedding is used for something else too"
    if not (
        isinstance(optimizer, torch.optim.AdamW) or getattr(optimizer, "leaves_idle_rows", False)
    ):
        return f"{type(optimizer).__name__} may move rows without a gradient"
    for group in optimizer.param_groups:
        if group["weight_decay"] and any(p is weight for p in group["params"]):
            return "weight decay moves all rows"
    return None


class TrimVocabulary(Lever):
    """speed.trim_vocabulary, where it changes nothing (`hindrance`)."""

    vocabulary: Vocabulary | None = None  # while only its own tokens' rows are trained
    optimizer: torch.optim.Optimizer

    def before_first_step(self, start: Start) -> None:
        if hindrance(start.model, start.methods, start.optimizer) is not None:
            return
        embedding, self.optimizer = start.model.get_input_embeddings(), start.optimizer
        self.vocabulary = Vocabulary(
            embedding, rows_in_use(start.token_ids, embedding, start.pad_id)
        )
        self.vocabulary.trim(self.optimizer)

    def whole(self) -> AbstractContextManager[None]:
        trimmed = self.vocabulary
        return contextlib.nullcontext() if trimmed is None else trimmed.restored(self.optimizer)

    def after_last_step(self) -> None:
        if self.vocabulary is not None:
            self.vocabulary.restore(self.optimizer)
            self.vocabulary = None

    def facts(self, model: Any) -> dict[str, Any]:
        if model is None or not self.on:
            return {}
        return {"vocabulary_rows": self.vocabulary and len(self.vocabulary.rows)}
