"""The pages that people read, and the commands and examples on them."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PAGES = (ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md")))
_FENCED = re.compile(r"^```(\w+)\n(.*?)^```", flags=re.DOTALL | re.MULTILINE)
_INLINE = re.compile(r"`((?:python|make|pip) [^`]*)`")


def page_name(page: Path) -> str:
    """Return a page's path from the repository's root."""
    return page.relative_to(ROOT).as_posix()


def examples(page: Path, language: str) -> list[str]:
    """Return a page's fenced blocks of a language."""
    return [body for name, body in _FENCED.findall(page.read_text()) if name == language]


def prose(page: Path) -> str:
    """Return a page without its fenced blocks."""
    return _FENCED.sub("", page.read_text())


def commands(page: Path) -> list[str]:
    """Return what a page says can be typed: lines of console blocks, and what is in backticks."""
    lines = "\n".join(examples(page, "console")).splitlines()
    typed = [line.partition("  #")[0].strip() for line in lines]
    return list(dict.fromkeys([*filter(None, typed), *_INLINE.findall(prose(page))]))
