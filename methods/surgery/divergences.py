"""How far two sets of outputs are apart, one number for each example of a batch."""

from __future__ import annotations

import torch


def is_score(logits: torch.Tensor) -> bool:
    """Say whether an output (B, outputs) is a score: a class has others beside it."""
    return logits.shape[-1] == 1


def difference(first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
    """Return how far two outputs are apart, (B,): squared for scores, else a mean of two KLs.

    The output decides: in a mixture of tasks, batches of scores and of classes alternate.
    """
    return (squared_difference if is_score(first) else symmetric_kl)(first, second)


def symmetric_kl(first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
    """Return (KL(P‖Q) + KL(Q‖P)) / 2 of the softmax of logits (B, classes), as (B,)."""
    return 0.5 * both_kl(first, second)


def both_kl(first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
    """Return KL(P‖Q) + KL(Q‖P) of the softmax of logits (B, classes), as (B,)."""
    p, q = first.log_softmax(-1), second.log_softmax(-1)
    return ((p.exp() - q.exp()) * (p - q)).sum(-1)


def both_kl_detached(first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
    """Return the same sum, each of its targets detached.

    Where P and Q are close, its gradient is half of that of `both_kl`.
    """
    p, q = first.log_softmax(-1), second.log_softmax(-1)
    fixed_p, fixed_q = p.detach(), q.detach()
    return (fixed_p.exp() * (fixed_p - q) + fixed_q.exp() * (fixed_q - p)).sum(-1)


def squared_difference(first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
    """Return the squared difference of scores (B, 1), as (B,)."""
    return (first - second).pow(2).sum(-1)


def cross_entropies(first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
    """Return CE(P, Q) + CE(Q, P) of logits (B, classes), each with its target detached, as (B,)."""
    p, q = first.log_softmax(-1), second.log_softmax(-1)
    return -(p.exp().detach() * q).sum(-1) - (q.exp().detach() * p).sum(-1)
