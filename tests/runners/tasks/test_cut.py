"""What stays of a text that is too long."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from transformers import AutoTokenizer

from results.errors import UserError
from runners.data.split import Split
from runners.models.weights import find_weights
from runners.tasks.cut import cut_texts, kept_places
from runners.tasks.tokens import tokenize
from tests.conftest import configure, tiny
from tests.tiny import TEXTS


@pytest.mark.parametrize("length", [510, 511, 2000])
def test_510_of_a_long_text_are_its_first_128_and_its_last_382(length: int) -> None:
    """The published figures: Sun et al. 2019, section 5.2."""
    tokens = list(range(length + 2))  # [CLS] is 0, [SEP] the last
    special = [1, *[0] * length, 1]
    kept = [tokens[i] for i in kept_places(special, 512, "head_tail")]
    if length == 510:
        assert kept == tokens
        return
    text = tokens[1:-1]
    assert kept == [0, *text[:128], *text[-382:], length + 1]
    assert [tokens[i] for i in kept_places(special, 512, "tail")] == [
        0,
        *text[-510:],
        length + 1,
    ]


@pytest.mark.parametrize("architecture", ["bert", "roberta", "deberta-v2", "albert"])
def test_head_is_what_the_library_cuts_and_the_others_are_parts_of_the_text(
    architecture: str, tiny_folder: Callable[[str], Path]
) -> None:
    tokenizer = AutoTokenizer.from_pretrained(tiny_folder(architecture))
    texts = [" ".join(TEXTS), "a film", ""]
    library = tokenizer(texts, truncation=True, max_length=16, return_attention_mask=False)
    assert cut_texts(texts, tokenizer, 16, "head") == (dict(library), [True, False, False])
    whole = tokenizer(texts[0], add_special_tokens=False)["input_ids"]
    room = 16 - tokenizer.num_special_tokens_to_add()
    around = set(tokenizer.all_special_ids)
    for truncate, first in (("tail", 0), ("head_tail", round(room * 128 / 510))):
        cut, _ = cut_texts(texts, tokenizer, 16, truncate)  # type: ignore[arg-type]
        expected = whole[:first] + whole[len(whole) - (room - first) :]
        ids = cut["input_ids"][0]
        assert len(ids) == 16
        assert [i for i in ids if i not in around] == [i for i in expected if i not in around]
        assert cut["input_ids"][1:] == library["input_ids"][1:]  # short ones are left alone
        assert {len(rows[0]) for rows in cut.values()} == {16}


def test_each_choice_is_cached_apart(
    tiny_folder: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TUNEBENCH_CACHE", str(tmp_path))
    folder = tiny_folder("bert")
    tokenizer, weights = (
        AutoTokenizer.from_pretrained(folder),
        find_weights(configure(*tiny(folder)).settings.model),
    )
    split = Split("train", ((" ".join(TEXTS),),), None)
    cut = {
        c: tokenize(split, tokenizer, weights, 16, c).input_ids
        for c in ("head", "tail", "head_tail")
    }
    assert len({ids.tobytes() for ids in cut.values()}) == 3
    for choice, ids in cut.items():
        again = tokenize(split, tokenizer, weights, 16, choice)  # type: ignore[arg-type]
        assert np.array_equal(again.input_ids, ids)


@pytest.mark.parametrize("task", ["rte", "stsb"])
def test_a_choice_that_changes_nothing_is_refused(task: str) -> None:
    with pytest.raises(UserError, match=rf"budget.truncate=tail is for .*task={task}"):
        configure(f"task={task}", "budget.truncate=tail")
    assert configure("task=cola", "budget.truncate=tail").settings.budget.truncate == "tail"
