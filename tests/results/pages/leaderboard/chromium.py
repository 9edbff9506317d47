"""Opens a page in headless Chromium and reads what its scripts made of it."""

from __future__ import annotations

import re
import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path

from results.pages.html import document
from results.pages.leaderboard.table import SCRIPT, STYLE, leaderboard
from results.stats.compare import judge
from results.tables.collect import Table

NAMES = ("chromium", "chromium-browser", "google-chrome")
PATH = next((path for name in NAMES if (path := shutil.which(name))), None)
WHY = "no Chromium to run the page's scripts in"


def dom(page: Path, address: str = "") -> str:
    """Return the page as it stands after its scripts ran."""
    command = [str(PATH), "--headless", "--no-sandbox", "--disable-gpu", "--dump-dom"]
    done = subprocess.run(
        [*command, page.as_uri() + address], capture_output=True, text=True, check=True
    )
    return done.stdout


class Tables(HTMLParser):
    """Reads tables: for each row the cells' text and attributes."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.rows: list[tuple[dict[str, str], list[tuple[dict[str, str], str]]]] = []
        self.inside = False
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        if tag == "tr":
            self.rows.append((given, []))
        if tag in ("th", "td"):
            self.rows[-1][1].append((given, ""))
            self.inside = True

    def handle_endtag(self, tag: str) -> None:
        self.inside &= tag not in ("th", "td")

    def handle_data(self, data: str) -> None:
        if self.inside:
            attrs, text = self.rows[-1][1][-1]
            self.rows[-1][1][-1] = (attrs, text + data)


def between(text: str, begin: str, end: str) -> str:
    """Return what stands between the first `begin` and the next `end`."""
    return text.split(begin, 1)[1].split(end, 1)[0]


def plain(svg: str) -> str:
    """Return SVG as Chromium writes it out: no tag closes itself."""
    return re.sub(r"<(\w+)([^<>]*)/>", r"<\1\2></\1>", svg)


def opened(table: Table, folder: Path, address: str) -> str:
    """Return a table's leaderboard as a browser shows it at an address."""
    page = folder / "page.html"
    page.write_text(document("A", [leaderboard(table, judge(table), 1)], STYLE, SCRIPT))
    return dom(page, address)
