"""Claims as a run takes them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from runners.runs.lease import STALE_AFTER, Claim


def take(folder: Path, run: str, stale_after: float = STALE_AFTER) -> Claim | dict[str, Any]:
    """Claim a run; return the claim, or the facts of the process that has it."""
    claim = Claim(folder, run, stale_after)
    owner = claim.take()
    return claim if owner is None else owner
