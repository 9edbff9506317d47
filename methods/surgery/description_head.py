"""A head whose rows are vectors of descriptions: it answers with cosines."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn.functional import normalize


class DescriptionHead(nn.Module):
    """Cosines of vectors with the rows, over a temperature: [B, width] to [B, rows]."""

    def __init__(self, rows: torch.Tensor, temperature: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(rows.detach().clone())
        self.temperature = temperature

    def forward(self, vectors: torch.Tensor) -> torch.Tensor:
        with torch.autocast(vectors.device.type, enabled=False):
            own = normalize(self.weight, dim=-1)
            wide = vectors.to(torch.promote_types(vectors.dtype, own.dtype))
            return normalize(wide, dim=-1) @ own.T / self.temperature
