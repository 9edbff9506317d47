"""The pieces of HTML that a run's page is put together from; everything in them is escaped."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from results.pages.html import escape

LONGEST = 20_000  # signs of a block of text
WIDEST = 60  # signs of a name


@dataclass(frozen=True)
class Markup:
    """HTML that is escaped already, where text is due."""

    html: str


Cell = str | Markup


def cut(text: object, most: int = WIDEST) -> str:
    """Return text, or its beginning where it is long."""
    whole = str(text)
    return whole if len(whole) <= most else whole[: most - 1] + "…"


def shown(cell: Cell) -> str:
    """Return a cell as HTML."""
    return cell.html if isinstance(cell, Markup) else escape(cell)


def heading(text: str, level: int = 2) -> str:
    return f"<h{level}>{escape(text)}</h{level}>\n"


def say(text: str) -> str:
    return f"<p>{escape(text)}</p>\n"


def soft(text: str) -> str:
    """Return a small paragraph; an option in it stays on its line."""
    kept = re.sub(r"--[a-z]+", r'<span class="option">\g<0></span>', escape(text))
    return f'<p class="soft">{kept}</p>\n'


def table(heads: Sequence[Cell], body: Sequence[Sequence[Cell]], kind: str = "") -> str:
    """Return a table whose first column names its rows; empty where it has none."""
    if not body:
        return ""
    top = "".join(f'<th scope="col">{shown(head)}</th>' for head in heads)
    rows = "".join(
        f'<tr><th scope="row">{shown(first)}</th>'
        + "".join(f"<td>{shown(cell)}</td>" for cell in rest)
        + "</tr>\n"
        for first, *rest in body
    )
    return (
        f'<div class="wide {kind}"><table>\n<thead><tr>{top}</tr></thead>\n'
        f"<tbody>\n{rows}</tbody></table></div>\n"
    )


def words(text: str) -> Markup:
    """Return a cell of text that folds."""
    return Markup(f'<div class="words">{escape(text)}</div>')


def facts(pairs: Sequence[tuple[str, Cell]]) -> str:
    """Return names and what is so, a line each."""
    lines = "".join(
        f"<div><dt>{escape(n)}</dt><dd>{shown(value)}</dd></div>\n" for n, value in pairs
    )
    return f'<dl class="facts">\n{lines}</dl>\n' if lines else ""


def block(text: str) -> str:
    """Return text as it is, line by line; of a long one the beginning."""
    return f"<pre>{escape(cut(text, LONGEST))}</pre>\n"


def values(content: Any) -> str:
    """Return parsed JSON as it would be written by hand, the beginning where it is long."""
    return block(json.dumps(content, indent=1, ensure_ascii=False, default=str))


def flat(content: Mapping[str, Any], before: str = "") -> list[str]:
    """Return nested mappings as lines of KEY.KEY: value."""
    lines = []
    for name, value in content.items():
        if isinstance(value, Mapping) and value:
            lines += flat(value, f"{before}{name}.")
        else:
            lines.append(f"{before}{name}: {json.dumps(value, ensure_ascii=False, default=str)}")
    return lines


def grid(figures: Sequence[str]) -> str:
    """Return figures side by side where there is room."""
    return f'<div class="grid">\n{"".join(figures)}</div>\n' if any(figures) else ""
