"""The one exception that is shown to a user as a single line."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

from results.printable import printable


class UserError(Exception):
    """A mistake its user can mend: what was asked, what is wrong, what to type instead.

    Each argument is a line, shown without what would act on a terminal.
    """

    def __str__(self) -> str:
        return "\n".join(map(printable, self.args))


def nearest(word: str, known: Iterable[str]) -> str:
    """Return '; did you mean X' for the known name most like `word`, else the list of known names.

    A key that ends in the word (`epochs` for `budget.epochs`) counts as like it.
    """
    names = sorted(set(known))
    tails = [name for name in names if name.rsplit(".", 1)[-1] == word]
    longer = sorted((name for name in names if name.startswith(word)), key=len)
    close = tails or longer[:1] or difflib.get_close_matches(word, names, n=1, cutoff=0.6)
    if not close:
        by_tail = {name.rsplit(".", 1)[-1]: name for name in names}
        match = difflib.get_close_matches(word.rsplit(".", 1)[-1], by_tail, n=1, cutoff=0.75)
        close = [by_tail[match[0]]] if match else []
    if close:
        return f"; did you mean {close[0]}?"
    return f"; known: {', '.join(names)}" if names else ""
