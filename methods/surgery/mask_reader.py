"""Lets a model that predicts masked tokens answer with a few words at the one mask of each text."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import torch
from torch import nn
from torch.nn.functional import cross_entropy, linear, log_softmax


class MaskReader:
    """Gives a model logits of some words at the mask, [B, words], or a score, [B, 1], and the loss.

    With a `span`, from lowest to highest, there are two words, for these ends. Everything is done
    by hooks: parameters keep their names. Of an output layer that is a plain matrix, only the
    words' rows are computed; of another one, all are, and the words' are taken.
    """

    def __init__(
        self,
        words: Sequence[int],
        mask_id: int,
        span: tuple[float, float] | None = None,
        official: bool = False,
    ) -> None:
        self.words, self.mask_id = torch.tensor(list(words)), mask_id
        self.span, self.official = span, official
        self.ids: torch.Tensor | None = None
        self.labels: torch.Tensor | None = None

    def read_from(self, model: Any) -> None:
        """Hook the reader to a model, whose batches hold input_ids."""
        output = model.get_output_embeddings()
        model.register_buffer("label_words", self.words, persistent=False)
        if type(output) is nn.Linear:
            output.forward = partial(_rows, output, model)  # type: ignore[method-assign]
        # First of all: a method may put vectors in the place of ids.
        model.register_forward_pre_hook(self._begin, with_kwargs=True, prepend=True)
        model.base_model.register_forward_hook(self._at_mask)
        model.register_forward_hook(self._answer)

    def _begin(self, model: Any, inputs: Any, named: dict[str, Any]) -> Any:
        self.labels, self.ids = named.get("labels"), named["input_ids"]
        return inputs, {key: value for key, value in named.items() if key != "labels"}

    def _at_mask(self, module: Any, inputs: Any, output: Any) -> Any:
        """Leave of the encoder's states, [B, L, width], those at the masks, [B, 1, width]."""
        states, ids = output.last_hidden_state, self.ids
        assert ids is not None
        place = (ids == self.mask_id).int().argmax(dim=1)
        place = place + states.shape[1] - ids.shape[1]  # behind vectors that were put before
        rows = torch.arange(len(states), device=states.device)
        output.last_hidden_state = states[rows, place].unsqueeze(1)
        return output

    def _answer(self, model: Any, inputs: Any, output: Any) -> Any:
        from transformers.modeling_outputs import SequenceClassifierOutput

        logits, labels = output.logits.squeeze(1), self.labels
        self.labels = self.ids = None
        if logits.shape[-1] != len(self.words):
            logits = logits[:, model.label_words]
        loss = None if labels is None else self.loss(logits, labels)
        if self.span is not None:
            low, high = self.span
            logits = low + (high - low) * log_softmax(logits.float(), dim=-1)[:, 1:].exp()
        return SequenceClassifierOutput(loss=loss, logits=logits)

    def loss(self, logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """Return the loss of the words' logits, [B, words]: of classes, or of scores, (B,)."""
        if self.span is None:
            return cross_entropy(logits.float(), labels)
        low, high = self.span
        up = (labels.float() - low) / (high - low)
        wanted = torch.stack([1 - up, up], dim=-1)
        given = log_softmax(logits.float(), dim=-1)
        if self.official:
            return (wanted.exp() * (wanted - given)).mean()
        return (torch.xlogy(wanted, wanted) - wanted * given).sum(dim=-1).mean()


def _rows(output: nn.Linear, model: Any, states: torch.Tensor) -> torch.Tensor:
    words = model.label_words
    return linear(states, output.weight[words], None if output.bias is None else output.bias[words])
