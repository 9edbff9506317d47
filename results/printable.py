"""Shows text that may hold anything: what would act on a terminal or a page becomes an escape."""

from __future__ import annotations

import io
import re
import sys

# Control characters, line separators, marks that reverse the direction, halves of surrogate pairs.
_ACTING = re.compile("[\x00-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ufeff\ud800-\udfff]")


def printable(text: object, kept: str = "") -> str:
    """Return text with a visible escape, such as \\x1b or \\n, for what acts instead of showing.

    The signs in `kept` stay as they are. What was made printable stays so.
    """

    def escape(match: re.Match[str]) -> str:
        sign = match[0]
        return sign if sign in kept else sign.encode("unicode_escape").decode("ascii")

    return _ACTING.sub(escape, str(text))


def print_anything() -> None:
    """Have output streams write what their encoding lacks as an escape, where Python would fail."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def cut(text: str, most: int) -> str:
    """Return a text in at most so many signs, without its middle: its end tells rows apart."""
    if len(text) <= most:
        return text
    start = 2 * most // 5
    return f"{text[:start]}…{text[start + 1 - most :]}"
