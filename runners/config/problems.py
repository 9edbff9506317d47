"""Puts what the schema found wrong into a user's words, a sentence each."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, get_args

from pydantic import BaseModel, ValidationError

from results.errors import nearest

_YAML = "yes, no, on and off as true or false, and digits as a number"


def sentences(
    error: ValidationError, prefix: str, given: Any, schema: type[BaseModel] | None = None
) -> list[str]:
    """Return a sentence for each fault of `given`; `prefix` stands before each key.

    With its `schema`, a key that it does not have is followed by one that it has.
    """
    faults: list[tuple[str, Mapping[str, Any], Sequence[str]]] = []
    for item in error.errors():
        keys = _keys(item["loc"], given, item["type"].startswith("missing"))
        faults.append((prefix + ".".join(keys), item, _known(schema, keys[:-1])))
    lines: dict[str, list[str]] = {}
    for key, fault, known in faults:
        # A value that may be of several kinds has a fault of each: the nearest to it is told.
        closer = any(other.startswith(f"{key}.") for other, _, _ in faults)
        if fault["type"].endswith("_type") and (closer or key in lines):
            continue
        lines[key] = [*lines.get(key, []), sentence(key, fault, known)]
    return list(dict.fromkeys(line for of_key in lines.values() for line in of_key))


def _known(schema: type[BaseModel] | None, keys: Sequence[str]) -> list[str]:
    """Return the fields of the part of a schema to which keys lead."""
    if schema is None:
        return []
    for key in keys:
        inner = [schema.model_fields[key].annotation] if key in schema.model_fields else []
        while inner:
            kind = inner.pop()
            if isinstance(kind, type) and issubclass(kind, BaseModel):
                schema = kind
            inner += get_args(kind)
    return list(schema.model_fields)


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


def sentence(key: str, item: Mapping[str, Any], known: Sequence[str] = ()) -> str:
    """Return a fault in words; `known` are the keys that may stand where it is."""
    context = item.get("ctx", {})
    value = item["input"]
    kind = item["type"]
    if kind in ("extra_forbidden", "unexpected_keyword_argument"):
        return f"no key called '{key}'{nearest(key.rpartition('.')[2], known)}"
    if not item["loc"]:
        return f"{key.rstrip('.') or 'a key'}: {item['msg'][:1].lower()}{item['msg'][1:]}"
    if kind == "invalid_key":
        section = key.rpartition(".")[0]
        return f"{section}: the key {value!r} must be text: quote it, as YAML reads {_YAML}"
    if item["loc"][-1] == "[key]":
        return f"{key.rpartition('.')[0]}: the key {value!r} must be text: write it in quotes"
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
        "list_type": "must be a list, as [a, b]",
        "dict_type": "must be keys and values, as {{a: b}}",
        "model_type": "must be keys and values, as {{a: b}}",
        "too_short": "must hold at least {min_length}",
        "too_long": "must hold at most {max_length}",
        "literal_error": "known: {expected}",
        "string_pattern_mismatch": "must match {pattern}",
    }
    if kind == "string_type" and isinstance(value, bool | int | float):
        return f"{key}={value!r} (must be text: write it in quotes, as YAML reads {_YAML})"
    reason = reasons[kind].format(**context) if kind in reasons else str(item["msg"])
    if kind == "literal_error":
        words = re.findall(r"'([^']*)'", context["expected"])
        if not words:
            return f"{key}={value!r} (known: {context['expected']})"
        reason = nearest(str(value), words).lstrip("; ") if value is not None else reason
        reason = f"{reason} known: {', '.join(words)}" if reason.startswith("did you") else reason
    return f"{key}={value!r} ({reason})"
