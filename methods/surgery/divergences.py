"""How far two sets of outputs are apart, one number for each example of a batch."""

from __future__ import annotations

import torch


def symmetric_kl(first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
    """Return (KL(P‖Q) + KL(Q‖P)) / 2 of the softmax of logits (B, classes), as (B,)."""
    p, q = first.log_softmax(-1), second.log_softmax(-1)
    return 0.5 * ((p.exp() - q.exp()) * (p - q)).sum(-1)


def squared_difference(first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
    """Return the squared difference of scores (B, 1), as (B,)."""
    return (first - second).pow(2).sum(-1)


def cross_entropies(first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
    """Return CE(P, Q) + CE(Q, P) of logits (B, classes), each with its target detached, as (B,)."""
    p, q = first.log_softmax(-1), second.log_softmax(-1)
    return -(p.exp().detach() * q).sum(-1) - (q.exp().detach() * p).sum(-1)
