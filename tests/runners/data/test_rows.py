"""Rows of a user: given from Python and taken as what they are, or refused; written and read."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from results.errors import UserError
from runners.config.task import Task
from runners.data.rows import TableRow, TableWriter, listed, read_table, texts_of
from tests.conftest import configure


def _task(name: str) -> Task:
    return configure(f"task={name}").settings.task


@pytest.mark.parametrize(
    "given", [["ab", "c"], ("ab", "c"), iter(["ab", "c"]), np.array(["ab", "c"]),
              pd.Series(["ab", "c"], index=[7, 7])],
)  # fmt: skip
def test_a_series_of_texts_is_a_list_of_them(given: Any) -> None:
    assert listed(given, "texts") == ["ab", "c"]


@pytest.mark.parametrize("given", ["ab", b"ab", {"ab": 1}, pd.DataFrame({"ab": ["x"], "c": ["y"]})])
def test_what_would_fall_into_letters_or_names_is_refused(given: Any) -> None:
    with pytest.raises(UserError, match="texts are to be in a list, and a"):
        listed(given, "texts")


def test_a_row_is_its_texts_in_order() -> None:
    pairs, single = _task("rte"), _task("sst2")
    for row in (("a b", "c"), ["a b", "c"], np.array(["a b", "c"])):
        assert texts_of(row, pairs, "row 1") == ("a b", "c")
    assert texts_of("a b", single, "row 1") == texts_of(("a b",), single, "row 1") == ("a b",)


@pytest.mark.parametrize(
    ("row", "said"),
    [
        (
            {"sentence1": "a", "sentence2": "b"},
            "row 1 is {'sentence1': 'a', 'sentence2': 'b'}; giv",
        ),
        (None, "row 1 is None; give its sentence1, sentence2 in a tuple, in this order"),
        (b"ab", "row 1 is b'ab'; give"),
        (("a", 2), "row 1: its sentence2 is 2, no text"),
        (("a", float("nan")), "row 1: its sentence2 is nan, no text"),
        ("ab", "row 1 has 1 texts; task=rte has sentence1, sentence2"),
        (("a", "b", "c"), "row 1 has 3 texts; task=rte has sentence1, sentence2"),
    ],
)
def test_what_is_no_row_is_refused(row: Any, said: str) -> None:
    with pytest.raises(UserError) as refused:
        texts_of(row, _task("rte"), "row 1")
    assert str(refused.value).startswith(said)


def test_whatever_a_text_holds_is_one_row_of_a_csv(tmp_path: Path) -> None:
    texts = ["a\rb", "a\r\nb", "a\nb", "\r", "", ' a "b", c ', "p\u2028q", "x\x0by\x1cz"]
    path = tmp_path / "rows.csv"
    with path.open("w", encoding="utf-8", newline="") as stream:
        writer = TableWriter(".csv", "text", stream)
        for line, text in enumerate(texts, 2):
            writer.write(TableRow(line, ["id", "text"], [str(line), text]), {"prediction": "yes"})
    read = [list(row.values) for row in read_table(path, "text")]
    assert read == [[str(line), text, "yes"] for line, text in enumerate(texts, 2)]
    frame = pd.read_csv(path, keep_default_na=False)
    assert frame["text"].tolist() == texts
