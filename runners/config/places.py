"""Where things lie: `~` is the home folder in what is read, and the home folder is `~` in records.

So a record names no user, and what it names is found again.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, PlainSerializer

from results.places import expanded


def portable(text: str) -> str:
    """Return a text that has `~` for the home folder wherever that is named."""
    for home in _homes():
        text = naming(home).sub("~", text)
    return text


def portable_all(value: Any) -> Any:
    """Return the same containers with every text made portable."""
    if isinstance(value, dict):
        return {portable_all(key): portable_all(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [portable_all(inner) for inner in value]
    return portable(value) if isinstance(value, str) else value


def _homes() -> list[str]:
    """Return the home folder's names, the longest first: links may give it another one."""
    try:
        home = Path.home()
    except RuntimeError:
        return []
    names = {str(home), str(home.resolve())} if home.is_absolute() else set()
    return sorted(names, key=len, reverse=True)


def naming(path: str) -> re.Pattern[str]:
    """Return what finds a path: whole names, also with doubled slashes and escaped characters."""
    if not path.strip("/"):
        return re.compile(r"(?!)")  # the root is in every path
    parts = [r"\\*".join(map(re.escape, part)) for part in path.strip("/").split("/")]
    return re.compile(r"(?<![\w.~/-])/+" + r"/+(?:\./+)*".join(parts) + r"(?![\w-]|\.\w)")


Place = Annotated[str, AfterValidator(expanded), PlainSerializer(portable)]
