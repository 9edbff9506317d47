"""Puts what the schema found wrong into a user's words, a sentence each."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import ValidationError

from results.errors import nearest

_YAML = "yes, no, on and off as true or false, and digits as a number"


def sentences(error: ValidationError, prefix: str, given: Any) -> list[str]:
    """Return a sentence for each fault of `given`; `prefix` stands before each key."""
    lines = []
    for item in error.errors():
        key = prefix + ".".join(_keys(item["loc"], given, item["type"].startswith("missing")))
        lines.append(sentence(key, item))
    return list(dict.fromkeys(lines))


def _keys(location: Sequence[int | str], given: Any, missing: bool) -> list[str]:
    """Return the keys of a fault's location that lead through what was given.

    pydantic's locations also name members of unions, which say nothing to a user. Where a key is
    `missing`, it is the last part.
    """
    keys: list[str] = []
    for place, part in enumerate(location):
        if isinstance(given, Mapping) and (
            part in given or (missing and place == len(location) - 1)
        ):
            keys.append(str(part))
            given = given.get(part)
        elif isinstance(given, list | tuple) and isinstance(part, int):
            keys.append(str(part))
            given = given[part] if part < len(given) else None
    return keys


def sentence(key: str, item: Mapping[str, Any]) -> str:
    context = item.get("ctx", {})
    value = item["input"]
    kind = item["type"]
    if kind in ("extra_forbidden", "unexpected_keyword_argument"):
        return f"no key called '{key}'"
    if kind in ("missing", "missing_argument"):
        return f"{key} is missing"
    if kind == "value_error":
        return f"{key}: {context['error']}"
    reasons = {
        "greater_than": "must be > {gt:g}",
        "greater_than_equal": "must be ≥ {ge:g}",
        "less_than": "must be < {lt:g}",
        "less_than_equal": "must be ≤ {le:g}",
        "finite_number": "must be a finite number",
        "float_type": "must be a number",
        "int_type": "must be a whole number",
        "int_from_float": "must be a whole number",
        "bool_type": "must be true or false",
        "string_type": "must be text",
        "literal_error": "known: {expected}",
        "string_pattern_mismatch": "must match {pattern}",
    }
    if kind == "string_type" and isinstance(value, bool | int | float):
        return f"{key}={value!r} (must be text: write it in quotes, as YAML reads {_YAML})"
    reason = reasons[kind].format(**context) if kind in reasons else str(item["msg"])
    if kind == "literal_error":
        known = re.findall(r"'([^']*)'", context["expected"])
        if not known:
            return f"{key}={value!r} (known: {context['expected']})"
        reason = nearest(str(value), known).lstrip("; ") if value is not None else reason
        reason = f"{reason} known: {', '.join(known)}" if reason.startswith("did you") else reason
    return f"{key}={value!r} ({reason})"
