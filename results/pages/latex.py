"""Writes sheets as LaTeX tables (booktabs)."""

from __future__ import annotations

from collections.abc import Sequence
from unicodedata import normalize

from results.pages.sheet import Entry, Sheet

_SPECIAL = {
    "\\": r"\textbackslash{}",
    "&": r"\&",
    "%": r"\%",
    "$": r"\$",
    "#": r"\#",
    "_": r"\_",
    "{": r"\{",
    "}": r"\}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    '"': r"\textquotedbl{}",
    "`": r"\textasciigrave{}",
    "'": r"\textquotesingle{}",
    "†": r"$\dagger$",
    "±": r"$\pm$",
    "−": r"$-$",
    "–": "--",
    "·": r"$\cdot$",
    "≥": r"$\geq$",
    "≤": r"$\leq$",
    "ε": r"$\varepsilon$",
    "δ": r"$\delta$",
    "σ": r"$\sigma$",
    "λ": r"$\lambda$",
    "∞": r"$\infty$",
    "×": r"$\times$",
    "√": r"$\surd$",
    "→": r"$\rightarrow$",
    "↓": r"$\downarrow$",
    "‡": r"$\ddagger$",
    "…": r"\ldots{}",
    "“": "``",
    "”": "''",
    "’": "'",
    "\n": " ",
}


def escaped(text: str) -> str:
    """Return text as LaTeX shows it; what pdfLaTeX has no letter for becomes a question mark."""
    return "".join(map(_escaped, text)).replace("[", "{[}").replace("]", "{]}")


def _escaped(sign: str) -> str:
    if sign in _SPECIAL:
        return _SPECIAL[sign]
    # Letters with accents are in LaTeX's own encodings of today (T1, UTF-8).
    accented = sign.isalpha() and ord(sign) < 0x180 and normalize("NFD", sign)[0].isascii()
    return sign if accented or (sign.isascii() and sign.isprintable()) else "?"


def latex(sheets: Sequence[Sheet]) -> str:
    """Return the sheets as table environments, for a document that uses booktabs and graphicx."""
    return "\n".join(_table(sheet) for sheet in sheets)


def _table(sheet: Sheet) -> str:
    lines = [
        "\\begin{table}[tp]",
        f"\\caption{{{escaped(sheet.title)}}}",
        "\\centering\\footnotesize",
        *([f"{escaped(sheet.lead)}\\par\\smallskip"] if sheet.lead else []),
        # A table wider than the page is made smaller; graphicx does that.
        "\\resizebox{\\ifdim\\width>\\linewidth\\linewidth\\else\\width\\fi}{!}{%",
        f"\\begin{{tabular}}{{{_columns(sheet)}}}",
        "\\toprule",
        " & ".join(escaped(head) for head in sheet.heads) + r" \\",
        "\\midrule",
        *(" & ".join(_entry(entry) for entry in line) + r" \\" for line in sheet.body),
        "\\bottomrule",
        "\\end{tabular}}",
        *(f"\\par\\smallskip {{\\raggedright {escaped(note)}\\par}}" for note in sheet.notes),
        "\\end{table}",
    ]
    return "\n".join(lines) + "\n"


def _columns(sheet: Sheet) -> str:
    if sheet.prose:
        return "".join(rf"p{{{24 if i % 2 else 42}mm}}" for i in range(len(sheet.heads)))
    return "l" + "r" * (len(sheet.heads) - 1)


def _entry(entry: Entry) -> str:
    return f"\\textbf{{{escaped(entry.text)}}}" if entry.bold else escaped(entry.text)
