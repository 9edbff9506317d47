"""A hash of a JSON mapping's content, kept in it: what was changed since is noticed."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

SEAL = "content_sha256"


def seal_of(content: Mapping[str, Any]) -> str:
    """Return the hash of everything in a mapping but the hash itself, in whatever order it is."""
    rest = {name: value for name, value in content.items() if name != SEAL}
    return hashlib.sha256(json.dumps(rest, sort_keys=True).encode()).hexdigest()


def is_changed(content: Mapping[str, Any]) -> bool:
    """Say whether a mapping that holds such a hash has another content; one without is as it is."""
    return content.get(SEAL) is not None and content[SEAL] != seal_of(content)
