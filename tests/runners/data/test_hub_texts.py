"""What stands in a hub table where a text should is no text: neither None nor a list is read."""

from __future__ import annotations

from typing import Any

import datasets
import pytest

from results.errors import UserError
from runners.config.task import Pairs, Task
from runners.data import corpus, hub, pairs

TASK = Task.model_validate(
    {
        **{"name": "t", "text": ["x"], "labels": ["no", "yes"], "metrics": ["accuracy"]},
        "hub": {"path": "some/set", "report": {"validation": "validation"}},
    }
)


def _serve(monkeypatch: pytest.MonkeyPatch, **columns: list[Any]) -> None:
    table = datasets.Dataset.from_dict(columns)
    for module in (corpus, hub, pairs):
        monkeypatch.setattr(module, "hub_commit", lambda *given: None)
        monkeypatch.setattr(module, "hub_table", lambda *given: table)


@pytest.mark.parametrize(
    ("texts", "said"),
    [
        (["a", None, "c"], "row 1: its x is None"),
        ([["a", "b"], ["c", "d"], ["e", "f"]], r"row 0: its x is \['a', 'b'\]"),  # read as a pair
        ([1, 2, 3], "row 0: its x is 1"),
    ],
)
def test_a_column_of_no_texts_is_refused_with_its_row(
    monkeypatch: pytest.MonkeyPatch, texts: list[Any], said: str
) -> None:
    _serve(monkeypatch, x=texts, label=["no", "yes", "no"])
    with pytest.raises(UserError, match=f"task=t: some/set train {said}, no text"):
        hub.read_hub_train(TASK, None)


def test_lines_without_text_are_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """They were read as the word None."""
    _serve(monkeypatch, text=["a  b", None, "c"])
    lines, _ = corpus._hub_lines("hub:some/set")
    assert [*corpus.clean(lines)] == ["a b", "c"]


def test_a_scored_pair_without_a_sentence_is_refused_with_its_row(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    task = Task.model_validate(
        {
            **{"name": "s", "kind": "similarity", "text": ["a", "b"], "metrics": ["spearmanr"]},
            "pairs": {"set": {"file": "set.tsv", "hub": "some/set"}},
        }
    )
    files = Pairs(file="set.tsv", hub="some/set")
    scores = [1.0, None, 2.0, 3.0]
    _serve(
        monkeypatch, sentence1=["a", None, "c", "e"], sentence2=["b", "c", "d", "f"], score=scores
    )
    assert len(pairs.read_hub_pairs(task, "set", files, None)[0]) == 3  # the one without a score
    _serve(
        monkeypatch, sentence1=["a", "b", None, "e"], sentence2=["b", "c", "d", "f"], score=scores
    )
    with pytest.raises(UserError, match="some/set row 2 has None in place of a sentence"):
        pairs.read_hub_pairs(task, "set", files, None)
