"""Clipped sums of examples' gradients, in parts of what fits into memory."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import nn

from methods.method import Batch
from methods.surgery.per_example import ONE_BY_ONE, PerExample
from results.errors import UserError

LossesOf = Callable[[Batch], torch.Tensor]
BESIDE = 1e-6  # added to a norm before it divides, as Opacus does
_ROWS, _TOKENS = 3, 6  # of the texts that a model is looked at with


class Clipping:
    """Leaves Σ_i min(1, C / ‖g_i‖) g_i in `.grad` of a prepared model's trained parameters.

    Batches go through the model in parts of at most `part` examples; with 1, one by one, without
    any rule of a layer. `reached` are the trained parameters that answers depend on, to texts with
    `segments` where the tokenizer gives some. A model whose examples' gradients are not known is a
    UserError.
    """

    def __init__(self, model: nn.Module, part: int, segments: bool) -> None:
        self.model, self.part, self.segments = model, part, segments
        self.rules = None if part == 1 else PerExample(model)
        self.reached = self._look()

    def __call__(self, batch: Batch, losses_of: LossesOf, clip: float) -> torch.Tensor:
        """Return the sum of the examples' losses, a scalar; none of them is zero."""
        while True:
            try:
                return self._sum(batch, losses_of, clip)
            except RuntimeError as error:
                if self.part == 1 or not _is_out_of_memory(error):
                    raise
                self.part = -(-self.part // 2)
            for parameter in self.reached:
                parameter.grad = None
            if torch.cuda.is_available():
                torch.cuda.empty_cache()

    def _sum(self, batch: Batch, losses_of: LossesOf, clip: float) -> torch.Tensor:
        total = torch.zeros((), device=next(self.model.parameters()).device)
        for part in parts(batch, self.part):
            total += (
                self._one_by_one(part, losses_of, clip)
                if self.rules is None
                else (self._together(self.rules, part, losses_of, clip))
            )
        return total

    def _together(
        self, rules: PerExample, batch: Batch, losses_of: LossesOf, clip: float
    ) -> torch.Tensor:
        losses, squares = rules.squared_norms(lambda: losses_of(batch))
        norms = torch.stack(list(squares.values())).sum(0).sqrt()
        (losses * weights(norms, clip)).sum().backward()
        return losses.detach().sum()

    def _one_by_one(self, batch: Batch, losses_of: LossesOf, clip: float) -> torch.Tensor:
        loss = losses_of(batch)[0]
        gradients = torch.autograd.grad(loss, self.reached, allow_unused=True)
        there = [g for g in gradients if g is not None]
        norm = torch.stack([g.float().square().sum() for g in there]).sum().sqrt()
        weight = weights(norm, clip)
        for parameter, gradient in zip(self.reached, gradients, strict=True):
            if gradient is not None:
                added = gradient * weight
                parameter.grad = added if parameter.grad is None else parameter.grad.add_(added)
        return loss.detach()

    def _look(self) -> list[nn.Parameter]:
        """Return what the answers to texts depend on; compare the rules with single examples.

        No random number is drawn.
        """
        was_training = self.model.training
        self.model.eval()
        try:
            return self._compared()
        finally:
            self.model.train(was_training)

    def _compared(self) -> list[nn.Parameter]:
        named = {n: p for n, p in self.model.named_parameters() if p.requires_grad}
        batch = _texts(self.model, self.segments)
        alone: list[Any] = []
        for row in range(1 if self.rules is None else _ROWS):
            loss = _sums(self.model, {k: v[row : row + 1] for k, v in batch.items()}).sum()
            alone.append(torch.autograd.grad(loss, list(named.values()), allow_unused=True))
        there = {n: [a[i] for a in alone] for i, n in enumerate(named) if alone[0][i] is not None}
        if self.rules is not None:
            _, ours = self.rules.squared_norms(lambda: _sums(self.model, batch))
            squares = {n: torch.stack([g.square().sum() for g in gs]) for n, gs in there.items()}
            whole = torch.stack(list(squares.values())).sum(0)
            for name, theirs in squares.items():
                if name not in ours or not _close(ours[name], theirs, whole):
                    raise UserError(
                        f"method=dp: {name} is used in a way from which no example's own gradient"
                        " follows; leave it frozen, use another method or model, or"
                        f" {ONE_BY_ONE}"
                    )
        return [named[name] for name in there]


def weights(norms: torch.Tensor, clip: float) -> torch.Tensor:
    """Return what each example's gradient is multiplied by, so that its norm is at most `clip`."""
    return (clip / (norms + BESIDE)).clamp(max=1)


def parts(batch: Batch, size: int) -> Iterator[Batch]:
    """Yield parts of at most so many examples, long texts first, without columns of padding."""
    mask = batch["attention_mask"]
    if not len(mask):
        return
    lengths = mask.flatten(1).sum(1)
    order = lengths.argsort(descending=True, stable=True)
    for rows in order.split(size):
        part = {name: tensor[rows] for name, tensor in batch.items()}
        used = part["attention_mask"].flatten(0, -2).any(0).nonzero()[:, 0]
        first, last = int(used[0]), int(used[-1]) + 1
        width = mask.shape[-1]
        yield {
            name: tensor[..., first:last]
            if tensor.shape[-1:] == (width,) and tensor.dim() > 1
            else tensor
            for name, tensor in part.items()
        }


def _texts(model: Any, segments: bool) -> Batch:
    """Return a few texts without meaning, all unlike; a decoder's head reads their one end.

    XLNet has parameters that it reads only where it is given `segments`.
    """
    device = next(model.parameters()).device
    ids = (
        torch.arange(_ROWS * _TOKENS, device=device).view(_ROWS, _TOKENS) % model.config.vocab_size
    )
    if model.config.is_encoder_decoder:
        end = int(model.config.eos_token_id)
        ids = ids.masked_fill(ids == end, _ROWS * _TOKENS)
        ids = torch.cat([ids, torch.full_like(ids[:, :1], end)], dim=1)
    batch = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
    if segments:
        batch["token_type_ids"] = torch.zeros_like(ids)
        if getattr(model.config, "type_vocab_size", 2) > 1:
            batch["token_type_ids"][:, _TOKENS // 2 :] = 1
    return batch


def _sums(model: Any, batch: Batch) -> torch.Tensor:
    """Return a number for each row, (B,), that depends on all its answers."""
    logits: torch.Tensor = model(**batch).logits.float().flatten(1)
    slope = torch.linspace(1, 2, logits.shape[1], device=logits.device)
    return (logits * slope).sum(1) + logits.square().sum(1)


def _close(ours: torch.Tensor, theirs: torch.Tensor, whole: torch.Tensor) -> bool:
    """Compare squared norms; what rounding leaves of a zero, as of a key's bias, is no difference.

    1e-10 of the whole gradient's squared norm is 1e-5 of its norm.
    """
    return bool(((ours - theirs).abs() <= 1e-3 * theirs + 1e-10 * whole).all())


def _is_out_of_memory(error: RuntimeError) -> bool:
    words = ("out of memory", "can't allocate memory", "not enough memory")
    return isinstance(error, torch.OutOfMemoryError) or any(w in str(error) for w in words)
