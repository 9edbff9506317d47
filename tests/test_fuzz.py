"""Whatever a record, a table of text or a checkpoint holds, only the documented errors come out."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from results.errors import UserError
from results.pages.text import render
from results.record import Record, read, read_all, write
from results.tables.collect import tables
from runners.config.task import LocalFiles, Pairs, Task
from runners.data.local import read_file
from runners.data.pairs import read_pairs

GOLDEN = Path(__file__).parent / "results" / "golden" / "schema_1.json"
WHOLE = json.loads(GOLDEN.read_text())
WHOLE["scores"]["validation"]["f1"], WHOLE["score"] = 0.8, 0.775  # as its predictions have it
MANY = settings(
    max_examples=2000,
    derandomize=True,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner),
    max_leaves=6,
)


def _places(node: Any, here: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Return the path of every value inside nested dicts and lists."""
    inner = node.items() if isinstance(node, dict) else enumerate(node)
    found = []
    for key, value in inner:
        found.append((*here, key))
        if isinstance(value, dict | list):
            found += _places(value, (*here, key))
    return found


PLACES = _places(WHOLE)


def attempt(act: Callable[[], Any]) -> tuple[Any, str]:
    """Return what a function returns, or the sentence of its UserError; others get through."""
    try:
        return act(), ""
    except UserError as error:
        return None, str(error)


def _read_and_tabulate(path: Path) -> None:
    record, told = attempt(lambda: read(path))
    if record is None:
        assert path.name in told
        return
    assert isinstance(record, Record)
    render(tables([record]), "md")
    assert read(write(record, path.parent / "again")).run == record.run


@MANY
@given(changes=st.lists(st.tuples(st.sampled_from(PLACES), VALUES | st.just(...)), max_size=3))
def test_a_record_with_anything_anywhere(changes: list[Any], tmp_path: Path) -> None:
    """Values replaced or removed at random places: a record that tabulates, or a UserError."""
    content = copy.deepcopy(WHOLE)
    for place, value in changes:
        node = content
        try:
            for key in place[:-1]:
                node = node[key]
            if value is ...:
                del node[place[-1]]
            else:
                node[place[-1]] = value
        except (KeyError, IndexError, TypeError):
            continue  # an earlier change took the place away
    path = tmp_path / f"{WHOLE['run']}.json"
    path.write_text(json.dumps(content))
    _read_and_tabulate(path)


@MANY
@given(cut=st.integers(0, 4000), junk=st.binary(max_size=40), back=st.integers(0, 60))
def test_a_record_cut_and_overwritten(cut: int, junk: bytes, back: int, tmp_path: Path) -> None:
    whole = json.dumps(WHOLE, indent=1).encode()
    path = tmp_path / f"{WHOLE['run']}.json"
    path.write_bytes(whole[:cut] + junk + whole[cut + back :])
    _read_and_tabulate(path)


def test_one_bad_record_hides_no_other(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from results.__main__ import main

    (tmp_path / f"{WHOLE['run']}.json").write_text(json.dumps(WHOLE))
    (tmp_path / "bad.json").write_text("{")
    (tmp_path / "deep.json").write_text("[" * 100_000)
    bad: list[str] = []
    assert len(read_all(tmp_path, bad)) == 1
    assert ["bad.json" in b or "deep.json" in b for b in bad] == [True, True]
    assert main([str(tmp_path)]) == 0
    printed = capsys.readouterr()
    assert printed.err.count("passed over: ") == 2
    assert WHOLE["methods"][0] in printed.out


TASKS = [
    Task(
        name="pairs",
        text=["a", "b"],
        labels=["no", "yes"],
        positive_label="yes",
        metrics=["accuracy", "f1"],
    ),
    Task(name="scores", kind="regression", text=["a"], range=[0.0, 5.0], metrics=["pearson"]),
]
WORDS = st.sampled_from(
    ["a", "b", "label", "yes", "no", "1.5", "9", "", "é\u2028", '"', "nan", " "]
)
LINES = st.lists(st.lists(WORDS | st.text(max_size=5), min_size=1, max_size=4), max_size=5)


@MANY
@given(
    lines=LINES,
    named=st.booleans(),
    junk=st.binary(max_size=6),
    task=st.sampled_from(TASKS),
    suffix=st.sampled_from([".tsv", ".csv"]),
    header=st.booleans(),
    skip=st.booleans(),
)
def test_a_table_of_text_with_anything_in_it(
    lines: list[list[str]],
    named: bool,
    junk: bytes,
    task: Task,
    suffix: str,
    header: bool,
    skip: bool,
    tmp_path: Path,
) -> None:
    """Rows and bytes at random: a split whose rows fit together, or a UserError with the file."""
    path = tmp_path / f"train{suffix}"
    first = [["a", "b", "label"]] if named else []
    between = "\t" if suffix == ".tsv" else ","
    text = "\n".join(between.join(fields) for fields in first + lines)
    path.write_bytes(text.encode("utf-8", "surrogatepass") + junk)
    columns = {} if header else {"a": 0, "b": 1, "label": 2}
    files = LocalFiles(
        train=path.name, report={"validation": path.name}, header=header, columns=columns
    )
    split, told = attempt(lambda: read_file(task, files, path, "train", skip))
    if split is None:
        assert path.name in told
        return
    assert split.labels is not None
    assert len(split.texts) == len(split.labels) >= 1
    assert {len(row) for row in split.texts} == {len(task.text)}
    if task.labels:
        assert set(split.labels) <= {0, 1}
    else:
        assert all(0 <= score <= 5 for score in split.labels)


SETS = Task(
    name="sets",
    kind="similarity",
    text=["a", "b"],
    range=[0.0, 5.0],
    metrics=["spearmanr"],
    pairs={"set": Pairs(file="set.tsv")},
)
PIECES = st.sampled_from(["one dog", "two", "3.5", "9", "", " ", "\u2028", "é", "nan", "-0", "1e9"])
PAIRS = st.lists(st.lists(PIECES | st.text(max_size=4), max_size=4), max_size=5)


@MANY
@given(
    lines=PAIRS,
    golds=st.lists(PIECES, max_size=5),
    junk=st.binary(max_size=5),
    columns=st.permutations([0, 1, 2]),
    header=st.booleans(),
    folder=st.booleans(),
)
def test_scored_pairs_with_anything_in_them(
    lines: list[list[str]],
    golds: list[str],
    junk: bytes,
    columns: list[int],
    header: bool,
    folder: bool,
    tmp_path: Path,
) -> None:
    """A set whose scores lie in the range and whose sentences have words, or its file's name."""
    text = "\n".join("\t".join(fields) for fields in lines).encode("utf-8", "surrogatepass") + junk
    if folder:
        (tmp_path / "set").mkdir(exist_ok=True)
        (tmp_path / "set" / "STS.input.news.txt").write_bytes(text)
        (tmp_path / "set" / "STS.gs.news.txt").write_text("\n".join(golds), encoding="utf-8")
        files = Pairs(folder="set", hub=None, split="test")
    else:
        (tmp_path / "set.tsv").write_bytes(text)
        files = Pairs(file="set.tsv", columns=columns, header=header, hub=None, split="test")
    split, told = attempt(lambda: read_pairs(SETS, "set", files, tmp_path))
    if split is None:
        assert "set" in told
        return
    assert split.labels is not None
    assert len(split.texts) == len(split.labels) >= 2
    assert all(0 <= score <= 5 for score in split.labels)
    assert all(words.strip() for pair in split.texts for words in pair)
