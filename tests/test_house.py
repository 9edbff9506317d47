"""The rooms keep the house's measures: short functions, few parameters, names that say a thing."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

from tests.conftest import ROOT

ROOMS = ("methods", "runners", "results")
LINES = 60
PARAMETERS = 6
# Said of a thing, these tell how it came about and not what it is.
WORDS = {"found", "asked", "made", "told"}
STORED = {"made_by"}  # part of the names of tensors in checkpoints and deltas


@cache
def _nodes(room: str) -> list[tuple[Path, ast.AST]]:
    paths = sorted((ROOT / room).rglob("*.py"))
    assert paths
    return [(path, node) for path in paths for node in ast.walk(ast.parse(path.read_bytes()))]


def _functions(room: str) -> Iterator[tuple[str, ast.FunctionDef | ast.AsyncFunctionDef]]:
    for path, node in _nodes(room):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield f"{path.relative_to(ROOT)}:{node.lineno} {node.name}", node


def _names(node: ast.AST) -> list[str | None]:
    """Return the names that a node gives to something; a use of a name was given elsewhere."""
    match node:
        case ast.Name(id=name, ctx=ast.Store()) | ast.Attribute(attr=name, ctx=ast.Store()):
            return [name]
        case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name):
            return [name]
        case ast.ClassDef(name=name) | ast.ExceptHandler(name=name):
            return [name]
        case ast.MatchAs(name=name) | ast.MatchStar(name=name) | ast.MatchMapping(rest=name):
            return [name]
        case ast.arg(arg=name) | ast.alias(asname=name):
            return [name]
    return []


def _is_no_name(name: str) -> bool:
    parts = re.findall(r"[A-Z]?[a-z]+|[A-Z]+", name)
    return not WORDS.isdisjoint(part.lower() for part in parts)


@pytest.mark.parametrize("room", ROOMS)
def test_functions_fit_on_a_screen(room: str) -> None:
    long = {
        place: lines
        for place, node in _functions(room)
        if (lines := (node.end_lineno or 0) - node.lineno + 1) > LINES
    }
    assert long == {}


@pytest.mark.parametrize("room", ROOMS)
def test_constructors_take_few_parameters(room: str) -> None:
    many = {}
    for place, node in _functions(room):
        given = node.args
        single = [arg for arg in (given.vararg, given.kwarg) if arg is not None]
        count = len([*given.posonlyargs, *given.args, *given.kwonlyargs, *single]) - 1  # self
        if node.name == "__init__" and count > PARAMETERS:
            many[place] = count
    assert many == {}


def _bases() -> dict[tuple[str, str], list[tuple[str, str]]]:
    """Return the project's own bases of each of its classes, all as module and name."""
    bases: dict[tuple[str, str], list[tuple[str, str]]] = {}
    for path in {path for room in ROOMS for path, _ in _nodes(room)}:
        module = ".".join(path.relative_to(ROOT).with_suffix("").parts)
        tree = ast.parse(path.read_bytes())
        places = {
            alias.asname or alias.name: (node.module or "", alias.name)
            for node in ast.walk(tree)
            if isinstance(node, ast.ImportFrom)
            for alias in node.names
        }
        for node in ast.walk(tree):
            if isinstance(node, ast.ClassDef):
                names = [base.id for base in node.bases if isinstance(base, ast.Name)]
                bases[module, node.name] = [places.get(name, (module, name)) for name in names]
    return {one: [base for base in those if base in bases] for one, those in bases.items()}


def test_no_class_inherits_deeper_than_the_rules_of_the_house_say() -> None:
    bases = _bases()
    method = ("methods.method", "Method")
    between = ("methods.surgery.representation", "Representation")
    assert bases[between] == [method]
    assert sum(those == [method] for those in bases.values()) > 20
    deep = {
        one: those
        for one, those in bases.items()
        if len(those) > 1 or any(bases[base] for base in those if base != between)
    }
    assert deep == {}


@pytest.mark.parametrize("room", ROOMS)
def test_names_say_what_a_thing_is(room: str) -> None:
    nameless = [
        f"{path.relative_to(ROOT)}:{getattr(node, 'lineno', 0)} {name}"
        for path, node in _nodes(room)
        for name in _names(node)
        if name is not None and name not in STORED and _is_no_name(name)
    ]
    assert nameless == []


def test_every_way_to_give_a_name_is_seen() -> None:
    """Each line of a sample gives one of the words as a name, or only uses or contains it."""
    named = (
        "found = 1",
        "a, (b, asked) = c",
        "self.made = 1",
        "told: int = 1",
        "for found in x: pass",
        "with x as told: pass",
        "import x as made",
        "from x import y as asked",
        "def found_rows(): pass",
        "async def f(*told): pass",
        "def f(*, asked=1): pass",
        "lambda made: 1",
        "class Asked: pass",
        "class RunsFound: pass",
        "(found := 1)",
        "[1 for told in x]",
        "try: pass\nexcept E as made: pass",
        "match x:\n case [*found]: pass",
        "match x:\n case {**asked}: pass",
        "match x:\n case {1: told}: pass",
        "_MADE = 1",
    )
    other = ("x = found", "x.asked", "f(made=1)", "'told'", "foundation = 1", "def maker(): pass")

    def gives(code: str) -> bool:
        nodes = ast.walk(ast.parse(code))
        return any(name and _is_no_name(name) for node in nodes for name in _names(node))

    assert [code for code in named if not gives(code)] == []
    assert [code for code in other if gives(code)] == []
