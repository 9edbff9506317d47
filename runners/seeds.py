"""Independent random streams derived from a run's one seed."""

from __future__ import annotations

import hashlib


def derive(seed: int, stream: str) -> int:
    """Return a 63-bit seed for a named stream ("head", "dropout", "order 0", "method bitfit").

    A stream's numbers do not depend on which other streams are used, so switching a method on
    leaves the head's initialisation, the data order and dropout as they are.
    """
    digest = hashlib.sha256(f"{seed}\0{stream}".encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1
