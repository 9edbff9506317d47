"""JSON that holds a hash of its own content: what was changed since is noticed."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

SEAL = "content_sha256"


def sealed(content: Mapping[str, Any]) -> str:
    """Return a mapping as JSON, one key a line, and its hash as the last; nan is a ValueError."""
    body = _body(content)
    return f'{body},\n  "{SEAL}": "{_sha256(body)}"\n}}\n'


def is_changed(content: Mapping[str, Any], text: str = "") -> bool:
    """Say whether a mapping that holds a hash has another content; one without is as it is.

    `text` is what it was parsed from: where that is as it was written, nothing is written again.
    """
    if content.get(SEAL) is None:
        return False
    as_written, seal, end = text.replace("\r\n", "\n").rpartition(f',\n  "{SEAL}": ')
    if seal and end.rstrip() != f"{json.dumps(content[SEAL])}\n}}":  # what follows has no hash
        as_written = ""
    return content[SEAL] not in (_sha256(as_written), _sha256(_body(content)))


def _body(content: Mapping[str, Any]) -> str:
    lines = [
        f"  {json.dumps(name)}: {json.dumps(value, ensure_ascii=False, allow_nan=False)}"
        for name, value in content.items()
        if name != SEAL
    ]
    return "{\n" + ",\n".join(lines)


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()
