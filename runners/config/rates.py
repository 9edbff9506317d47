"""Which rates of a model are read: `model.lr.NAME` is of methods whose files name it.

A method has its rate from its file, as in `lr: ${oc.select:model.lr.lora,1e-3}`. One whose file
does not ask for a rate of its own would train at another than a model's file says.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser

from methods.registry import registered
from results.errors import UserError, nearest
from runners.config.resolvers import values
from runners.config.typed import key_of
from runners.root import CONFIGS

_READ = re.compile(r"\$\{[^}]*?\bmodel\.lr\.([\w-]+)")
_COMMENT = re.compile(r"(^|\s)#.*")


def refuse_unread_rates(
    composed: Mapping[str, Any], unresolved: Any, folders: Iterable[str], typed: Sequence[str]
) -> None:
    """Raise UserError for rates of the composed model that no method reads, whichever one it has.

    `unresolved` is the same before its interpolations were resolved. Methods are those of the
    package, of the `folders` in which Hydra looks, and of those that are `typed` as its search
    path.
    """
    model = composed.get("model")
    rates = model.get("lr") if isinstance(model, Mapping) else None
    if not isinstance(rates, Mapping):
        return
    left = [str(name) for name in rates if name != "full" and str(name) not in _shipped()]
    if not left:
        return
    read = {name for _, text in values(unresolved) for name in _READ.findall(text)}
    read |= _shipped().union(*map(_of_folder, [*folders, *_search_path(typed)]))
    problems = [_sentence(name, read) for name in left if name not in read]
    if problems:
        raise UserError("; ".join(problems))


def _sentence(name: str, read: Iterable[str]) -> str:
    if name in registered():
        return (
            f"model.lr.{name} is read by nothing, as method={name} takes no rate of its own from a"
            " model: type lr=VALUE"
        )
    return f"model.lr.{name} is read by no method{nearest(name, read)}"


@functools.cache
def _shipped() -> frozenset[str]:
    return _of_folder(str(CONFIGS))


def _of_folder(folder: str) -> frozenset[str]:
    """Return the names that a folder's files of methods read as `model.lr.NAME`."""
    read: set[str] = set()
    for path in Path(folder, "method").rglob("*.yaml"):
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
        read |= {name for line in lines for name in _READ.findall(_COMMENT.sub("", line))}
    return frozenset(read)


def _search_path(typed: Sequence[str]) -> list[str]:
    """Return the folders that `hydra.searchpath=[file://…]` names."""
    parser = OverridesParser.create()
    listed = [parser.parse_override(a).value() for a in typed if key_of(a) == "hydra.searchpath"]
    each = [str(one) for value in listed for one in (value if isinstance(value, list) else [value])]
    return [one.removeprefix("file://") for one in each if "://" not in one.removeprefix("file://")]
