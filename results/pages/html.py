"""Writes one self-contained HTML page: tables to sort and filter, pictures, links to records."""

from __future__ import annotations

import base64
import html
from collections.abc import Mapping, Sequence
from pathlib import Path
from urllib.parse import quote

from results.pages.sheet import Entry, Sheet
from results.printable import printable

FOLDER = Path(__file__).parent


STYLE = (FOLDER / "page.css").read_text(encoding="utf-8")


SCRIPT = (FOLDER / "page.js").read_text(encoding="utf-8")


def escape(text: str) -> str:
    """Return text as a browser shows it, in an element or in an attribute."""
    return html.escape(printable(text, kept="\n"))


def page(title: str, sheets: Sequence[Sheet], files: Mapping[str, str]) -> str:
    """Return a page of tables; `files` are the percent-encoded addresses of runs' records.

    They are by the names that entries give.
    """
    return document(title, [section(s, f"t{i}", files) for i, s in enumerate(sheets)])


def document(title: str, parts: Sequence[str], style: str = "", script: str = "") -> str:
    """Return a page of its own: a title, parts in HTML, and further style and script."""
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(title)}</title>\n<style>\n{STYLE}{style}</style>\n</head>\n<body>\n"
        f"<h1>{escape(title)}</h1>\n{''.join(parts)}"
        f"<script>\n{SCRIPT}{script}</script>\n</body>\n</html>\n"
    )


def links(beside: Sequence[tuple[str, str]]) -> str:
    """Return links, each a name and a relative address, with commas between."""
    return ", ".join(f'<a href="{quote(to)}">{escape(name)}</a>' for name, to in beside)


def figure(heading: str, caption: str, svg: str) -> str:
    """Return a picture under a heading, on paper of its own."""
    data = base64.b64encode(svg.encode()).decode()
    return (
        f"<h2>{escape(heading)}</h2>\n<figure>"
        f'<img alt="{escape(heading)}" src="data:image/svg+xml;base64,{data}">'
        f"<figcaption>{escape(caption)}</figcaption></figure>\n"
    )


def section(sheet: Sheet, name: str, files: Mapping[str, str]) -> str:
    """Return a sheet as a table with a heading, a field to filter it, and notes.

    `name` is the table's in the page; `files` are the addresses of runs' records.
    """
    prose = " prose" if sheet.prose else ""
    return (
        f"<h2>{escape(sheet.title)}</h2>\n"
        f'<input type="search" data-of="{name}" placeholder="filter rows"'
        f' aria-label="filter rows">\n<div class="wide{prose}"><table id="{name}">\n'
        f"{rows(sheet, files)}</table></div>\n{notes(sheet.notes)}"
    )


def rows(sheet: Sheet, files: Mapping[str, str]) -> str:
    """Return what a sheet's table holds."""
    files = sheet.files or files
    heads = "".join(f'<th scope="col"><button>{escape(head)}</button></th>' for head in sheet.heads)
    body = "".join(
        "<tr>" + "".join(_cell(e, i, files) for i, e in enumerate(line)) + "</tr>\n"
        for line in sheet.body
    )
    return f"<thead><tr>{heads}</tr></thead>\n<tbody>\n{body}</tbody>"


def notes(sentences: Sequence[str]) -> str:
    """Return what stands below a table."""
    items = "".join(f"<li>{escape(sentence)}</li>\n" for sentence in sentences)
    return f'<ul class="notes">\n{items}</ul>\n'


def _cell(entry: Entry, place: int, files: Mapping[str, str]) -> str:
    text = f"<b>{escape(entry.text)}</b>" if entry.bold else escape(entry.text)
    if entry.runs:
        links = "".join(
            f'<li><a href="{escape(files[run])}">{escape(said)}</a></li>'
            if run in files
            else f"<li>{escape(said)}</li>"
            for said, run in entry.runs
        )
        text = f"<details><summary>{text}</summary><ul>{links}</ul></details>"
    value = escape(entry.text) if place == 0 else entry.value
    sort = "" if value is None else f' data-v="{value if place == 0 else f"{value:.9g}"}"'
    title = f' title="{escape(entry.title)}"' if entry.title else ""
    return f"<td{sort}{title}>{text}</td>"
