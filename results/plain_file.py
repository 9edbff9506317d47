"""Reads plain files that may be anything: in bounded time and memory, or not at all."""

from __future__ import annotations

import json
import math
import os
import re
import stat
from collections.abc import Sequence
from pathlib import Path
from typing import Any

DEEPEST = 64  # brackets within brackets


def read_plain(path: Path, most: int) -> bytes:
    """Return a file's bytes; an OSError says that it is no file, or larger than `most` bytes.

    A pipe, a device or a socket is not even opened: that alone may wait for ever.
    """
    if not stat.S_ISREG(path.stat().st_mode):
        raise OSError(None, "it is no file")
    # One that takes its place in between is not waited for either.
    descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0))
    with os.fdopen(descriptor, "rb") as stream:
        facts = os.fstat(descriptor)
        if not stat.S_ISREG(facts.st_mode):
            raise OSError(None, "it is no file")
        small = facts.st_size <= most
        content = (stream.read(most + 1) or b"") if small else b""  # None where it would wait
    if not small or len(content) > most:
        raise OSError(None, f"it is larger than {most:,} bytes")
    return content


def is_file(path: Path) -> bool:
    """Say whether a file lies there; a path that none can have, such as a long one, has none."""
    try:
        return path.is_file()
    except OSError:
        return False


def is_there(path: Path) -> bool:
    """Say whether anything lies there, as `is_file` does of a file."""
    try:
        return path.exists()
    except OSError:
        return False


def is_folder(path: Path) -> bool:
    """Say whether a folder lies there, as `is_file` does of a file."""
    try:
        return path.is_dir()
    except OSError:
        return False


def read_json(path: Path, most: int) -> tuple[Any, str]:
    """Return parsed JSON and its text; an OSError or a ValueError says what is wrong.

    Its numbers are finite and its whole ones fit in 64 bits, its text can be printed, and it is not
    nested so deeply that a reader might fail.
    """
    raw = read_plain(path, most)
    text = raw.decode("utf-8")
    return parse_json(raw, text), text


def parse_json(raw: bytes, text: str) -> Any:
    """Return parsed JSON as `read_json` does, from a file's bytes and the text in them."""
    long = b"0" * 19 in raw.translate(_ALL_DIGITS_0)
    large = long or re.search(rb"[\s:,\[][-.0-9]+[eE]\+?[0-9]{3}", raw)
    try:  # functions of ours are slow
        content = json.loads(
            text,
            parse_constant=_no_number,
            parse_int=_whole_number if long else None,
            parse_float=_finite_number if large else None,
            object_pairs_hook=once,
        )
    except RecursionError:
        raise ValueError(_TOO_DEEP) from None
    if raw.count(b"[") + raw.count(b"{") > DEEPEST:
        _check_depth(content, DEEPEST)
    if re.search(r"\\u[dD]", text):
        json.dumps(content, ensure_ascii=False).encode("utf-8")
    return content


def once(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    """Return a JSON object's pairs as a mapping; a key that stands twice is a ValueError.

    For json.loads, which takes the last one: what stands behind the hash would be believed.
    """
    content = dict(pairs)
    if len(content) < len(pairs):
        twice = next(key for i, (key, _) in enumerate(pairs) if key in dict(pairs[:i]))
        raise ValueError(f"the key {twice!r} stands twice")
    return content


_ALL_DIGITS_0 = bytes.maketrans(b"123456789", b"000000000")


_TOO_DEEP = f"it is nested more than {DEEPEST} deep"


def _no_number(text: str) -> None:
    raise ValueError(f"{text} is no number")


def _whole_number(text: str) -> int:
    if len(text) > 20 or not -(2**63) <= int(text) < 2**63:
        raise ValueError(f"{text[:20]}… is too large a number")
    return int(text)


def _finite_number(text: str) -> float:
    if not math.isfinite(float(text)):
        raise ValueError(f"{text[:20]}… is too large a number")
    return float(text)


def _check_depth(content: Any, left: int) -> None:
    if not left:
        raise ValueError(_TOO_DEEP)
    for inner in content.values() if type(content) is dict else content:
        if type(inner) is dict or type(inner) is list:
            _check_depth(inner, left - 1)
