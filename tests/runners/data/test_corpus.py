"""What sentence methods train on: where it is from, what is left out, and what is refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from results.errors import UserError
from results.record import read_all
from runners.config.settings import Data
from runners.data.corpus import read_training_text
from tests.conftest import Cli, tiny


def _data(**given: object) -> Data:
    return Data.model_validate({"source": "local", **given})


def test_lines_of_a_file_without_copies_and_without_what_is_evaluated(tmp_path: Path) -> None:
    path = tmp_path / "text.txt"
    path.write_text("one  two\n\nthree\none two\nfour\n", encoding="utf-8")
    split, facts = read_training_text(_data(text=str(path)), "local", "sentences", {"four"})
    assert split.texts == (("one two",), ("three",))
    assert (facts["left_out_as_evaluated"], facts["left_out_as_duplicates"]) == (1, 1)
    assert facts["rows"] == 2


NLI = [
    ("p", "e1", "entailment"),
    ("p", "c1", "contradiction"),
    ("q", "e2", "entailment"),
    ("p", "e3", "entailment"),
    ("p", "n", "neutral"),
    ("r", "c2", "contradiction"),
    ("q", "c3", "contradiction"),
]


@pytest.mark.parametrize("columns", [(0, 1, 2), (2, 0, 1)])
def test_premises_join_what_follows_with_what_contradicts(
    columns: tuple[int, ...], tmp_path: Path
) -> None:
    path, names = tmp_path / "nli.tsv", ("sentence1", "sentence2", "gold_label")
    rows = [names, *NLI]
    path.write_text("\n".join("\t".join(row[i] for i in columns) for row in rows) + "\n")
    triplets, facts = read_training_text(_data(text=[str(path)]), "local", "triplets", set())
    assert triplets.texts == (("p", "e1", "c1"), ("q", "e2", "c3"))
    assert facts["rows"] == 2
    pairs, _ = read_training_text(_data(text=str(path)), "local", "pairs", set())
    assert pairs.texts == (("p", "e1"), ("p", "e3"), ("q", "e2"))


def test_triplets_of_a_csv(tmp_path: Path) -> None:
    path = tmp_path / "nli.csv"
    path.write_text('sent0,sent1,hard_neg\n"a, b",c,d\n,x,y\n')
    split, _ = read_training_text(_data(text=str(path)), "local", "triplets", set())
    assert split.texts == (("a, b", "c", "d"),)


@pytest.mark.parametrize(
    ("name", "content", "wanted", "sentence"),
    [
        ("a.tsv", "sentence1\tsentence2\na\tb\n", "triplets", "has no column gold_label"),
        ("a.tsv", "sentence1\tsentence2\tgold_label\na\n", "triplets", "line 2 has 1 fields"),
        ("a.csv", "sent0,sent1\na,b\n", "triplets", "has no column hard_neg"),
        ("a.tsv", "sentence1\tsentence2\tgold_label\na\tb\tneutral\n", "triplets", "not one trip"),
        ("a.txt", "\n \n", "sentences", "not one sentence"),
        ("a.txt", "one\n", "sentences", "not one sentence"),
    ],
)
def test_unusable_text_is_refused(
    name: str, content: str, wanted: str, sentence: str, tmp_path: Path
) -> None:
    (tmp_path / name).write_text(content)
    with pytest.raises(UserError, match=sentence):
        read_training_text(_data(text=str(tmp_path / name)), "local", wanted, {"one"})  # type: ignore[arg-type]


def test_no_text_and_no_folder(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"and none is named: give data\.text=FILE"):
        read_training_text(_data(), "local", "sentences", set())
    with pytest.raises(UserError, match="holds no training set of GLUE"):
        read_training_text(_data(glue_dir=str(tmp_path)), "local", "sentences", set())
    with pytest.raises(UserError, match="no is missing"):
        read_training_text(_data(text=str(tmp_path / "no")), "local", "sentences", set())


@pytest.mark.real_data
def test_sentences_of_glue_hold_none_of_the_evaluated_ones(real_glue: Path) -> None:
    """STS-B is made of STS12 to STS16, so its training sentences are among the evaluated."""
    data = _data(glue_dir=str(real_glue))
    whole, facts = read_training_text(data, "local", "sentences", set())
    some = {row[0] for row in whole.texts[::1000]}
    split, left = read_training_text(data, "local", "sentences", some)
    assert facts["left_out_as_evaluated"] == 0 < left["left_out_as_evaluated"]
    assert not some & {row[0] for row in split.texts}
    assert len(split) == len(whole) - len(some)
    assert "cola (8551)" in str(facts["from"])


def test_record_says_what_was_trained_on(cli: Cli, tiny_folder: object, tmp_path: Path) -> None:
    folder = tiny_folder("bert")  # type: ignore[operator]
    text = tmp_path / "text.txt"
    text.write_text("\n".join(f"dogs are {i} asleep" for i in range(60)))
    given = tiny(folder, "method=simcse", "task=sts", f"data.text={text}")
    assert cli(*given).code == 0
    [record] = read_all(tmp_path / "runs")
    assert record.data["text"]["rows"] == 60
    assert record.data["splits"]["train"]["rows"] == 48  # data.train_size
    assert record.data["splits"]["STS-B"]["complete"] is False  # data.eval_size
    assert record.data["text"]["from"] == str(text)
