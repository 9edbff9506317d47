"""Which resolvers a configuration may call: what others return is of a machine, and is published.

`${name:…}` calls a resolver of OmegaConf's or Hydra's; `${key}` is the value of another key.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from typing import Any

from omegaconf.errors import GrammarParseError
from omegaconf.grammar.gen.OmegaConfGrammarParser import OmegaConfGrammarParser
from omegaconf.grammar_parser import parse

from results.errors import UserError

ALLOWED = ("oc.select",)  # another key's value, or what stands for a missing one


def refuse_resolvers(unresolved: Any, where: str = "") -> None:
    """Raise UserError where a value calls another resolver; `where` names the file it is of."""
    for key, text in values(unresolved):
        for name in called(text):
            if name not in ALLOWED:
                raise UserError(
                    f"{where}{key}={text}: {name} may read this machine, and a record would publish"
                    " it; write the value itself"
                )


def values(node: Any, prefix: str = "") -> Iterator[tuple[str, str]]:
    """Yield the dotted key and the text of each value that is one."""
    if isinstance(node, dict):
        for key, value in node.items():
            yield from values(value, f"{prefix}.{key}" if prefix else str(key))
    elif isinstance(node, list):
        for place, value in enumerate(node):
            yield from values(value, f"{prefix}.{place}")
    elif isinstance(node, str):
        yield prefix, node


@functools.cache
def called(text: str) -> tuple[str, ...]:
    """Return the names of the resolvers that a text calls, as OmegaConf's own grammar reads it."""
    if "${" not in text:
        return ()
    try:
        tree = parse(text)
    except GrammarParseError:
        return ()  # resolving fails as this did
    calling: Any = OmegaConfGrammarParser.InterpolationResolverContext
    names: list[str] = []
    left: list[Any] = [tree]
    while left:
        part = left.pop()
        if isinstance(part, calling):
            names.append(part.resolverName().getText())
        left += list(getattr(part, "children", None) or [])
    return tuple(names)
