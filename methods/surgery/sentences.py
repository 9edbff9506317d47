"""Sentences as tokens: templates around them, the state that is read, and the template's own share.

Raw sentences come as ids without special tokens, padded on the right; everything else is put
around them here, so that one tokenised text serves every template.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import torch

from results.errors import UserError

SLOT, MASK = "[X]", "[MASK]"
OFFSETS = ("roberta", "xlm-roberta", "camembert")  # positions start after the padding index
# Where a token's place is the position embedding it is given, and nothing else.
TAKE_POSITIONS = ("bert", "electra", "albert", "distilbert", *OFFSETS)


@dataclass(frozen=True)
class Template:
    """Token ids before and after a sentence, special tokens included.

    `mask` is the index of the mask token, counted from the front where it stands before the
    sentence, and from the end (negative) where it stands after it; None without a mask.
    `lead` is what belongs to the sentence's text in front: a blank where the template has one.
    `types` are those of the tokens after it, empty where all tokens are of the first type, 0.
    """

    before: tuple[int, ...]
    after: tuple[int, ...]
    mask: int | None
    lead: str
    types: tuple[int, ...] = ()

    @property
    def length(self) -> int:
        """Tokens of the template without a sentence."""
        return len(self.before) + len(self.after)


def bare(tokenizer: Any) -> Template:
    """Return the special tokens alone, as the tokenizer puts them around one text."""
    coded = tokenizer("a", return_special_tokens_mask=True)
    special = coded["special_tokens_mask"]
    inside = [i for i, flag in enumerate(special) if not flag]
    ids = coded["input_ids"]
    after = inside[-1] + 1
    types = tuple(coded.get("token_type_ids", ())[after:])
    return Template(
        tuple(ids[: inside[0]]), tuple(ids[after:]), None, "", types if any(types) else ()
    )


def check_class_token(around: Template, model: Any, method: str) -> None:
    """Refuse to read the first token of a text before which the tokenizer puts none."""
    if not around.before:
        raise UserError(
            f"method={method}: {model.config.model_type} has no class token before a text, where"
            f" pooling=cls reads it; use method.{method}.pooling=mean"
        )


def read_template(text: str, tokenizer: Any, method: str, key: str) -> Template:
    """Return the template of a text that holds [X] for the sentence and [MASK], once each.

    The parts are tokenised apart, with the blank in front of each kept: the ids are those of the
    whole string wherever no token crosses an edge of the slot. Raises UserError.
    """
    option = f"method.{method}.{key}={text!r}"
    for mark, what in ((SLOT, "slot for the sentence"), (MASK, "mask")):
        if text.count(mark) != 1:
            count = "no" if mark not in text else f"{text.count(mark)} times a"
            raise UserError(f"{option} has {count} {what}: write {mark} once")
    if tokenizer.mask_token_id is None:
        raise UserError(f"method={method}: this model's tokenizer has no mask token")
    first, last = text.replace(MASK, tokenizer.mask_token).split(SLOT)
    lead = " " if first.endswith(" ") else ""
    around = bare(tokenizer)
    before = (*around.before, *_ids(first.rstrip(" ") if lead else first, tokenizer))
    after = (*_ids(last, tokenizer), *around.after)
    masked = tokenizer.mask_token_id
    mask = before.index(masked) if masked in before else after.index(masked) - len(after)
    types = around.types and (0,) * (len(after) - len(around.types)) + around.types
    return Template(before, after, mask, lead, types)


def _ids(text: str, tokenizer: Any) -> list[int]:
    return list(tokenizer(text, add_special_tokens=False)["input_ids"]) if text else []


@dataclass(frozen=True)
class Wrapped:
    """Sentences in a template: ids and attention mask [B, W], and where the mask stands [B].

    `types` are token types [B, W], None where all are 0.
    """

    ids: torch.Tensor
    attention: torch.Tensor
    mask: torch.Tensor | None
    types: torch.Tensor | None = None


def wrap(ids: torch.Tensor, lengths: torch.Tensor, template: Template, pad: int) -> Wrapped:
    """Put a template around raw sentences [B, L] of `lengths` [B]; padding goes to the right."""
    front, behind = (torch.tensor(t, device=ids.device) for t in (template.before, template.after))
    width = template.length + int(lengths.max())
    place = torch.arange(width, device=ids.device).expand(len(ids), width)
    start, end = len(front), len(front) + lengths[:, None]
    out = torch.full_like(place, pad)
    out[:, :start] = front
    if ids.shape[1]:
        inner = ids.gather(1, (place - start).clamp(0, ids.shape[1] - 1))
        out = torch.where((place >= start) & (place < end), inner, out)
    if len(behind):
        last = behind[(place - end).clamp(0, len(behind) - 1)]
        out = torch.where((place >= end) & (place < end + len(behind)), last, out)
    attention = (place < end + len(behind)).long()
    types = None
    if template.types:
        own = torch.tensor(template.types, device=ids.device)
        types = own[(place - end).clamp(0, len(own) - 1)]
        types = torch.where((place >= end) & (place < end + len(own)), types, 0)
    return Wrapped(out, attention, _mask_place(template, lengths), types)


def _mask_place(template: Template, lengths: torch.Tensor) -> torch.Tensor | None:
    if template.mask is None:
        return None
    if template.mask >= 0:
        return torch.full_like(lengths, template.mask)
    return template.length + lengths + template.mask


def states(model: Any, ids: torch.Tensor, attention: torch.Tensor, **more: Any) -> Any:
    """Return the encoder's output for ids and attention mask [B, W]."""
    return model(input_ids=ids, attention_mask=attention, **more)


def states_of(model: Any, wrapped: Wrapped, **more: Any) -> Any:
    """Return the encoder's output for sentences in a template."""
    types = {} if wrapped.types is None else {"token_type_ids": wrapped.types}
    return states(model, wrapped.ids, wrapped.attention, **types, **more)


def at(hidden: torch.Tensor, place: torch.Tensor) -> torch.Tensor:
    """Return one state a row, [B, width], of hidden states [B, W, width]."""
    return hidden[torch.arange(len(hidden), device=hidden.device), place]


def template_states(
    model: Any,
    template: Template,
    lengths: torch.Tensor,
    *,
    shift: bool = True,
    offset: int | None = None,
    hidden_sentence: bool = False,
) -> torch.Tensor:
    """Return what the template alone puts at the mask, [B, width], beside sentences of `lengths`.

    The sentence is left out and what follows keeps its position (`shift`), from the encoder's first
    position or `offset`. Where positions cannot be given, or with `hidden_sentence`, a stand-in of
    the sentence's length is hidden from attention instead, which is the same.
    """
    distinct, which = torch.unique(lengths, return_inverse=True)
    rows = len(distinct)
    if hidden_sentence or model.config.model_type not in TAKE_POSITIONS:
        token = [*template.after[:1], *template.before][-1]  # which one, nothing sees
        filler = torch.full((rows, int(distinct.max())), token, device=lengths.device)
        shown = distinct if shift else torch.zeros_like(distinct)
        wrapped = wrap(
            filler[:, : int(shown.max())], shown, template, model.config.pad_token_id or 0
        )
        column = torch.arange(wrapped.ids.shape[1], device=lengths.device)
        start = len(template.before)
        inside = (column >= start) & (column < start + shown[:, None])
        hidden = replace(wrapped, attention=wrapped.attention * ~inside)
        last = states_of(model, hidden).last_hidden_state
        assert wrapped.mask is not None
        return at(last, wrapped.mask)[which]
    ids = torch.tensor([*template.before, *template.after], device=lengths.device).expand(rows, -1)
    positions = torch.arange(template.length, device=lengths.device).repeat(rows, 1)
    if shift:
        positions[:, len(template.before) :] += distinct[:, None]
    positions += first_position(model) if offset is None else offset
    place = torch.full_like(distinct, template.mask or 0) % template.length
    last = states(model, ids, torch.ones_like(ids), position_ids=positions).last_hidden_state
    return at(last, place)[which]


def first_position(model: Any) -> int:
    """Return the position id of an encoder's first token."""
    config = model.config
    return int(config.pad_token_id) + 1 if config.model_type in OFFSETS else 0


def contrastive(
    anchors: torch.Tensor,
    positives: torch.Tensor,
    temperature: float,
    negatives: torch.Tensor | None = None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the mean loss, a scalar, and the cosines over the temperature, [N, N] or [N, 2N].

    Row i is a choice among all positives, and all hard negatives where there are some, of which
    positive i is right (InfoNCE with cosines, in float32).
    """
    with torch.autocast(anchors.device.type, enabled=False):
        others = positives if negatives is None else torch.cat([positives, negatives])
        unit = torch.nn.functional.normalize
        wide = torch.promote_types(anchors.dtype, torch.float32)
        cosines = unit(anchors.to(wide), dim=-1) @ unit(others.to(wide), dim=-1).T / temperature
        right = torch.arange(len(anchors), device=anchors.device)
        return torch.nn.functional.cross_entropy(cosines, right), cosines


class Projection(torch.nn.Module):
    """Linear and tanh, [B, width] to the same; weights N(0, 0.02²), biases 0, from one stream."""

    def __init__(self, width: int, generator: torch.Generator) -> None:
        super().__init__()
        self.dense = torch.nn.Linear(width, width)
        with torch.no_grad():
            self.dense.weight.normal_(0.0, 0.02, generator=generator)
            self.dense.bias.zero_()

    def forward(self, vectors: torch.Tensor) -> torch.Tensor:
        return torch.tanh(self.dense(vectors))
