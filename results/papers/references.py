"""Returns what to cite for a table: BibTeX of its methods and data sets."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import yaml

from results.errors import UserError
from results.tables.collect import Table
from results.tables.columns import task_of

PATH = Path(__file__).parent / "references.yaml"


@dataclass(frozen=True)
class Reference:
    """A paper as this project's sources cite it; `venue` and `arxiv` may be empty."""

    author: str
    year: int
    title: str
    venue: str = ""
    arxiv: str = ""


@dataclass(frozen=True)
class References:
    """Papers by key, and the keys of each method and task."""

    entries: dict[str, Reference]
    methods: dict[str, tuple[str, ...]]
    tasks: dict[str, tuple[str, ...]]


@cache
def references(path: Path = PATH) -> References:
    """Read the references; a file that is wrong is a UserError."""
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
        entries = {key: Reference(**about) for key, about in content["entries"].items()}
        methods, tasks = (
            {name: tuple(keys) for name, keys in content[part].items()}
            for part in ("methods", "tasks")
        )
        missing = {k for by in (methods, tasks) for keys in by.values() for k in keys} - set(
            entries
        )
        if missing:
            raise ValueError(f"no entry {', '.join(sorted(missing))}")
    except (OSError, TypeError, KeyError, AttributeError, ValueError, yaml.YAMLError) as error:
        raise UserError(f"{path}: {error}") from None
    return References(entries, methods, tasks)


def bibtex(tables: Sequence[Table]) -> str:
    """Return an entry for each paper that the tables' methods and real data sets are of."""
    known = references()
    keys: dict[str, None] = {}
    for table in tables:
        names = [name for row in table.rows for name in row.names]
        keys |= dict.fromkeys(_keys(names, known.methods))
        if table.conditions.source != "embedded":
            tasks = [task_of(task).partition(" by ")[0] for task in table.tasks]
            keys |= dict.fromkeys(_keys(tasks, known.tasks))
    return "\n".join(_entry(key, known.entries[key]) for key in sorted(keys))


def uncited(tables: Sequence[Table]) -> list[str]:
    """Return the methods of which no paper is known here, such as those of other packages."""
    names = {name for table in tables for row in table.rows for name in row.names}
    return sorted(names - references().methods.keys())


def _keys(names: Iterable[str], known: dict[str, tuple[str, ...]]) -> list[str]:
    return [key for name in names for key in known.get(name, ())]


def _entry(key: str, paper: Reference) -> str:
    fields = {"author": paper.author, "title": f"{{{paper.title}}}", "year": str(paper.year)}
    if paper.venue:
        fields["booktitle"] = paper.venue
    if paper.arxiv:
        fields |= {"eprint": paper.arxiv, "archiveprefix": "arXiv"}
    kind = "inproceedings" if paper.venue else "misc"
    lines = ",\n".join(f"  {name} = {{{value}}}" for name, value in fields.items())
    return f"@{kind}{{{key},\n{lines}\n}}\n"
