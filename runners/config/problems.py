"""Puts what the schema found wrong into a user's words, a sentence each."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError

from results.errors import nearest


def sentences(error: ValidationError, prefix: str, given: Any) -> list[str]:
    """Return a sentence for each fault of `given`; `prefix` stands before each key."""
    lines = []
    for item in error.errors():
        # Union members appear in the location as type names; they say nothing to a user.
        parts = [
            str(p)
            for i, p in enumerate(item["loc"])
            if not (i == 1 and item["loc"][0] == "optimizer")  # the name, already said
            and not re.search(r"[\[\]()]|^(int|float|str|literal|function)", str(p))
        ]
        key = prefix + ".".join(parts)
        lines.append(sentence(key, item, given))
    return list(dict.fromkeys(lines))


def sentence(key: str, item: Mapping[str, Any], given: Any) -> str:
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
    reason = reasons.get(kind, str(item["msg"])).format(**context)
    if kind == "literal_error":
        known = re.findall(r"'([^']*)'", context["expected"])
        if not known:
            return f"{key}={value!r} (known: {context['expected']})"
        reason = nearest(str(value), known).lstrip("; ") if value is not None else reason
        reason = f"{reason} known: {', '.join(known)}" if reason.startswith("did you") else reason
    return f"{key}={value!r} ({reason})"
