"""Writes one self-contained HTML page: tables to sort and filter, pictures, links to records."""

from __future__ import annotations

import base64
import html
from collections.abc import Mapping, Sequence
from urllib.parse import quote

from results.pages.sheet import Entry, Sheet
from results.printable import printable

_STYLE = """
:root{color-scheme:light dark;--bg:#fff;--ink:#1b1f24;--soft:#57606a;--line:#d0d7de;--hold:#f6f8fa}
@media(prefers-color-scheme:dark){:root{--bg:#0d1117;--ink:#e6edf3;--soft:#9aa4af;--line:#30363d;
--hold:#161b22}}
*{box-sizing:border-box}
body{margin:0 auto;padding:1rem;max-width:90rem;background:var(--bg);color:var(--ink);
font:16px/1.5 system-ui,sans-serif}
h1{font-size:1.5rem}h2{font-size:1.1rem;margin:2.5rem 0 .5rem}
.wide{overflow-x:auto;border:1px solid var(--line);border-radius:6px}
table{border-collapse:collapse;font-size:.875rem;font-variant-numeric:tabular-nums;width:100%}
th,td{padding:.35rem .6rem;text-align:right;white-space:nowrap;border-bottom:1px solid var(--line)}
th:first-child,td:first-child{text-align:left;position:sticky;left:0;background:var(--bg);
max-width:16rem;white-space:normal;min-width:8rem;overflow-wrap:break-word}
thead th{background:var(--hold)}thead th:first-child{background:var(--hold)}
th button{all:unset;cursor:pointer;font-weight:600}th button:focus-visible{outline:2px solid}
th[aria-sort=ascending] button::after{content:" ▲"}
th[aria-sort=descending] button::after{content:" ▼"}
.prose td,.prose th{text-align:left;white-space:normal;vertical-align:top;min-width:8rem}
.prose td:nth-child(n+3){min-width:18rem}
.prose td:first-child,.prose th:first-child{position:static}
details{display:inline-block;text-align:right}summary{cursor:pointer;list-style:none}
summary::-webkit-details-marker{display:none}summary:hover{text-decoration:underline dotted}
details ul{margin:.3rem 0;padding:0;list-style:none;font-size:.8rem;font-weight:400}
a{color:inherit}.notes{color:var(--soft);font-size:.875rem;max-width:60rem;padding-left:1.1rem}
input{font:inherit;width:100%;max-width:20rem;margin:.5rem 0;padding:.3rem .5rem;color:inherit;
background:var(--hold);border:1px solid var(--line);border-radius:6px}
figure{margin:1rem 0;background:#fff;color:#1b1f24;border-radius:6px;padding:.5rem;overflow-x:auto}
figure img{display:block;max-width:100%;height:auto;margin:auto}
figcaption{font-size:.875rem;color:#57606a}
@media(max-width:40rem){body{padding:.6rem}th:first-child,td:first-child{max-width:8.5rem;
min-width:6rem}th,td{padding:.3rem .4rem}figure img{max-width:none;width:44rem}}
"""


_SCRIPT = """
function sortBy(table, heads, i) {
  const body = table.tBodies[0], was = heads[i].getAttribute('aria-sort');
  const first = i ? 'descending' : 'ascending', other = i ? 'ascending' : 'descending';
  const now = was === first ? other : first, sign = now === 'ascending' ? 1 : -1;
  const value = row => {
    const v = row.cells[i].dataset.v;
    return v === undefined ? null : i ? +v : v;
  };
  const order = (p, q) => {
    const x = value(p), y = value(q);
    return x === null ? (y === null ? 0 : 1) : y === null ? -1 : x < y ? -sign : x > y ? sign : 0;
  };
  heads.forEach(head => head.removeAttribute('aria-sort'));
  heads[i].setAttribute('aria-sort', now);
  body.append(...[...body.rows].sort(order));
}
for (const table of document.querySelectorAll('table')) {
  const heads = [...table.tHead.rows[0].cells];
  heads.forEach((head, i) => head.firstChild.onclick = () => sortBy(table, heads, i));
}
for (const field of document.querySelectorAll('input')) field.oninput = () => {
  const wanted = field.value.toLowerCase();
  for (const row of document.getElementById(field.dataset.of).tBodies[0].rows)
    row.hidden = !row.cells[0].textContent.toLowerCase().includes(wanted);
};
"""


def escape(text: str) -> str:
    """Return text as a browser shows it, in an element or in an attribute."""
    return html.escape(printable(text, kept="\n"))


def page(
    title: str,
    sheets: Sequence[Sheet],
    pictures: Mapping[str, tuple[str, str]],
    records: str,
    beside: Sequence[tuple[str, str]] = (),
    about: str = "",
) -> str:
    """Return the page.

    `pictures` maps a heading to a caption and SVG text; `records` is the address of the folder of
    records, percent-encoded; `beside` lists names and relative addresses of the same tables' other
    files; `about` is a sentence below the title.
    """
    parts = [
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(title)}</title>\n<style>{_STYLE}</style>\n</head>\n<body>\n"
        f"<h1>{escape(title)}</h1>\n"
    ]
    if about:
        parts.append(f"<p>{escape(about)}</p>\n")
    if beside:
        links = ", ".join(f'<a href="{quote(to)}">{escape(name)}</a>' for name, to in beside)
        parts.append(f"<p>The same as {links}.</p>\n")
    parts += [_section(sheet, number, records) for number, sheet in enumerate(sheets)]
    for heading, (caption, svg) in pictures.items():
        data = base64.b64encode(svg.encode()).decode()
        parts.append(
            f"<h2>{escape(heading)}</h2>\n<figure>"
            f'<img alt="{escape(heading)}" src="data:image/svg+xml;base64,{data}">'
            f"<figcaption>{escape(caption)}</figcaption></figure>\n"
        )
    parts.append(f"<script>{_SCRIPT}</script>\n</body>\n</html>\n")
    return "".join(parts)


def _section(sheet: Sheet, number: int, records: str) -> str:
    heads = "".join(f'<th scope="col"><button>{escape(head)}</button></th>' for head in sheet.heads)
    body = "".join(
        "<tr>"
        + "".join(_cell(e, i, sheet.records or records) for i, e in enumerate(line))
        + "</tr>\n"
        for line in sheet.body
    )
    prose = " prose" if sheet.prose else ""
    notes = "".join(f"<li>{escape(note)}</li>\n" for note in sheet.notes)
    return (
        f"<h2>{escape(sheet.title)}</h2>\n"
        f'<input type="search" data-of="t{number}" placeholder="filter rows"'
        f' aria-label="filter rows">\n<div class="wide{prose}"><table id="t{number}">\n'
        f"<thead><tr>{heads}</tr></thead>\n<tbody>\n{body}</tbody></table></div>\n"
        f'<ul class="notes">\n{notes}</ul>\n'
    )


def _cell(entry: Entry, place: int, records: str) -> str:
    text = f"<b>{escape(entry.text)}</b>" if entry.bold else escape(entry.text)
    if entry.runs:
        links = "".join(
            f'<li><a href="{escape(records)}/{quote(run)}.json">{escape(said)}</a></li>'
            for said, run in entry.runs
        )
        text = f"<details><summary>{text}</summary><ul>{links}</ul></details>"
    value = escape(entry.text) if place == 0 else entry.value
    sort = "" if value is None else f' data-v="{value if place == 0 else f"{value:.9g}"}"'
    title = f' title="{escape(entry.title)}"' if entry.title else ""
    return f"<td{sort}{title}>{text}</td>"
