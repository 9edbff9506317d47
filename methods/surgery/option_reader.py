"""Lets a model that predicts masked tokens answer by one word at the mask of each option.

Tokens of type 1 are the options and the separator behind them; each mask among them begins one.
Where they stand follows from the ids and types of a batch, so that nothing else is carried along.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import nn
from torch.nn.functional import cross_entropy, linear

RATES = (0.0, 0.1, 0.2, 0.3)
CHANCES = (0.3, 0.3, 0.25, 0.15)


@dataclass(frozen=True)
class Marks:
    """What begins and ends an option, the ids of a mask and of a separator.

    `special` are all special ids, and `others` the ids that may stand in place of a masked token.
    """

    mask: int
    separator: int
    special: torch.Tensor
    others: torch.Tensor


@dataclass(frozen=True)
class Layout:
    """Where the options of a batch are.

    `masks` are the places of their masks (B, options), `numbers` (B, L) say of each token to which
    option it belongs, from 1, else 0, and `positions` (B, L) are those that the encoder is given.
    """

    masks: torch.Tensor
    numbers: torch.Tensor
    positions: torch.Tensor


def layout(ids: torch.Tensor, types: torch.Tensor, marks: Marks) -> Layout:
    """Find the options of token ids (B, L) of these types, of each row as many.

    Positions begin anew, at 1, with every option, and go on behind the longest one.
    """
    begins = (ids == marks.mask) & (types == 1)
    numbers = begins.long().cumsum(1) * ((types == 1) & (ids != marks.separator))
    place = torch.arange(ids.shape[1], device=ids.device).expand_as(ids)
    inside = numbers > 0
    within = place - torch.where(begins, place, 0).cummax(1).values
    longest = torch.where(inside, within + 1, 0).amax(1, keepdim=True)
    end = torch.where(inside, place, 0).amax(1, keepdim=True) + 1
    behind = torch.where(place < end, 0, 1 + longest + place - end)
    options = int(begins.sum(1).amax())
    masks = begins.int().argsort(dim=1, descending=True, stable=True)[:, :options]
    return Layout(masks, numbers, torch.where(inside, 1 + within, behind))


def seen_by(numbers: torch.Tensor, present: torch.Tensor) -> torch.Tensor:
    """Say which tokens each sees, (B, 1, L, P + L): all present ones but those of other options.

    `present` (B, P + L) may begin with a prefix, which all see.
    """
    before = present.shape[1] - numbers.shape[1]
    keys = nn.functional.pad(numbers, (before, 0))[:, None]
    own = numbers[:, :, None]
    allowed = (own == 0) | (keys == 0) | (own == keys)
    return (allowed & present.bool()[:, None])[:, None]


@dataclass(frozen=True)
class Masked:
    """A batch with some tokens of its texts masked.

    `ids` (B, L) are read, and what is `chosen` (B, L) is to be predicted. `targets` are the right
    words, first those at the options' masks, row by row, then those of the chosen tokens.
    """

    ids: torch.Tensor
    chosen: torch.Tensor
    targets: torch.Tensor


def mask_texts(
    ids: torch.Tensor, text: torch.Tensor, marks: Marks, generator: torch.Generator
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return ids (B, L), on a CPU, some of `text` (B, L) masked, and which are to be predicted.

    A rate of `RATES` is drawn for each row. Of what is to be predicted 80 % are masked, 10 % stay,
    and 10 % are replaced by any token.
    """
    chances = torch.tensor(CHANCES)
    drawn = torch.multinomial(chances, len(ids), replacement=True, generator=generator)
    rate = torch.tensor(RATES)[drawn][:, None]
    share = torch.rand(ids.shape, generator=generator)
    others = marks.others[torch.randint(len(marks.others), ids.shape, generator=generator)]
    chosen = text & (share < rate)
    read = torch.where(chosen & (share >= 0.9 * rate), others, ids)
    return torch.where(chosen & (share < 0.8 * rate), marks.mask, read), chosen


class OptionReader:
    """Gives a model a logit for each option, [B, options]: that of the word `right` at its mask.

    Everything is done by hooks: parameters keep their names. While `masked` is set, its ids are
    read instead of the batch's, and `word_loss` is left: the cross-entropy of all words that are
    to be predicted, their mean over the batch.
    """

    def __init__(self, right: int, wrong: int, marks: Marks) -> None:
        self.right, self.wrong, self.marks = right, wrong, marks
        self.masked: Masked | None = None
        self.word_loss: torch.Tensor | None = None
        self.labels: torch.Tensor | None = None
        self.layout: Layout | None = None

    def read_from(self, model: Any) -> None:
        """Hook the reader to a model, whose batches hold input_ids and token_type_ids."""
        output = model.get_output_embeddings()
        if type(output) is nn.Linear:
            output.forward = partial(self._rows, output)  # type: ignore[method-assign]
        model.register_forward_pre_hook(self._begin, with_kwargs=True, prepend=True)
        model.base_model.register_forward_pre_hook(self._place, with_kwargs=True)
        model.base_model.register_forward_hook(self._at_masks)
        model.register_forward_hook(self._answer)

    def mask(self, batch: dict[str, torch.Tensor], generator: torch.Generator) -> Masked:
        """Return a batch with labels and some tokens masked; drawn on the CPU."""
        ids, types = batch["input_ids"], batch["token_type_ids"]
        text = (types == 0) & batch["attention_mask"].bool()
        text &= ~torch.isin(ids, self.marks.special.to(ids.device))
        read, chosen = mask_texts(ids.cpu(), text.cpu(), self.marks, generator)
        masks = layout(ids, types, self.marks).masks
        words = torch.full_like(masks, self.wrong)
        words.scatter_(1, batch["labels"][:, None], self.right)
        chosen = chosen.to(ids.device)
        return Masked(read.to(ids.device), chosen, torch.cat([words.flatten(), ids[chosen]]))

    def _begin(self, model: Any, inputs: Any, named: dict[str, Any]) -> Any:
        self.labels = named.get("labels")
        named = {key: value for key, value in named.items() if key != "labels"}
        self.layout = layout(named["input_ids"], named["token_type_ids"], self.marks)
        if self.masked is not None:
            named["input_ids"] = self.masked.ids
        return inputs, named

    def _place(self, encoder: Any, inputs: Any, named: dict[str, Any]) -> Any:
        """Give the encoder positions, and a mask of four dimensions as its attention takes it."""
        assert self.layout is not None
        seen: torch.Tensor = seen_by(self.layout.numbers, named["attention_mask"])
        if encoder.config._attn_implementation == "eager":  # which adds it to the scores
            least = torch.finfo(encoder.dtype).min
            seen = torch.zeros(seen.shape, dtype=encoder.dtype, device=seen.device).masked_fill(
                ~seen, least
            )
        return inputs, {
            **named,
            "attention_mask": seen,
            "position_ids": self.layout.positions,
        }

    def _at_masks(self, encoder: Any, inputs: Any, output: Any) -> Any:
        """Leave of the states, [B, L, width], the options', and behind them those to predict."""
        assert self.layout is not None
        states = output.last_hidden_state
        rows = torch.arange(len(states), device=states.device)[:, None]
        of_options = states[rows, self.layout.masks]
        if self.masked is not None:
            of_options = torch.cat([of_options.flatten(0, 1), states[self.masked.chosen]])[None]
        output.last_hidden_state = of_options
        return output

    def _rows(self, output: nn.Linear, states: torch.Tensor) -> torch.Tensor:
        if self.masked is not None:
            return linear(states, output.weight, output.bias)
        row = slice(self.right, self.right + 1)
        return linear(states, output.weight[row], None if output.bias is None else output.bias[row])

    def _answer(self, model: Any, inputs: Any, output: Any) -> Any:
        from transformers.modeling_outputs import SequenceClassifierOutput

        assert self.layout is not None
        logits, labels, shape = output.logits, self.labels, self.layout.masks.shape
        self.labels = self.layout = None
        if self.masked is not None:
            self.word_loss = cross_entropy(logits[0].float(), self.masked.targets)
            logits = logits[0, : shape.numel()].unflatten(0, shape)
        logits = logits[..., 0 if logits.shape[-1] == 1 else self.right]
        loss = None if labels is None else cross_entropy(logits.float(), labels)
        return SequenceClassifierOutput(loss=loss, logits=logits)


def marks_of(tokenizer: Any) -> Marks:
    """Return what a tokenizer's options are told by."""
    special = torch.tensor(sorted(tokenizer.all_special_ids))
    every = torch.arange(len(tokenizer))
    others = every[~torch.isin(every, special)]
    return Marks(tokenizer.mask_token_id, tokenizer.sep_token_id, special, others)
