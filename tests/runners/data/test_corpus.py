"""What sentence methods train on: where it is from, what is left out, and what is refused."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from methods.method import TrainingText
from results.errors import UserError
from results.record import read_all
from runners.config.settings import Data, Protocol
from runners.config.task import Task
from runners.data.corpus import read_training_text
from runners.data.files import read_sentences
from runners.data.load import describe, load_task_data
from tests.conftest import Cli, configure, tiny


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
    long = "z" * 200_000
    path.write_text(f'sent0,sent1,hard_neg\n"a, b",c,d\n,x,y\n{long},e,f\n')
    split, facts = read_training_text(_data(text=str(path)), "local", "triplets", set())
    assert split.texts == (("a, b", "c", "d"), (long, "e", "f"))
    assert facts["left_out_as_empty"] == 1


@pytest.mark.parametrize(
    ("name", "header", "rows"),
    [
        ("a.csv", "sent0,sent1,hard_neg", ["p,e1,c1", "q,e2,c3", "x,y,z,too long", "x,short"]),
        (
            "a.tsv",
            "sentence1\tsentence2\tgold_label\tgenre",
            [*("\t".join((*row, "g")) for row in NLI), "x\ty\tz\tentailment\tg", "p\t e9\tneutral"],
        ),
    ],
)
def test_rows_of_another_width_are_refused_or_counted(
    name: str, header: str, rows: list[str], tmp_path: Path
) -> None:
    path = tmp_path / name
    for uneven in rows[-2:]:
        path.write_text("\n".join([header, *rows[:-2], "", uneven]) + "\n")
        width, line = 1 + len(re.findall("[,\t]", uneven)), len(rows) + 1
        with pytest.raises(UserError, match=rf"a\..sv line {line} has {width} fields, expected"):
            read_training_text(_data(text=str(path)), "local", "triplets", set())
    path.write_text("\n".join([header, rows[-1], *rows]) + "\n")
    data = _data(text=str(path), malformed_rows="skip")
    split, _ = read_training_text(data, "local", "triplets", set())
    assert split.texts == (("p", "e1", "c1"), ("q", "e2", "c3"))
    assert describe(split, None)["skipped_rows"] == 3


def test_malformed_rows_of_glues_training_sets_are_counted(tmp_path: Path) -> None:
    (tmp_path / "RTE").mkdir()
    (tmp_path / "RTE" / "train.tsv").write_text(
        "index\tsentence1\tsentence2\tlabel\n0\ta\tb\tentailment\n1\tc\tnot_entailment\n"
    )
    data = _data(glue_dir=str(tmp_path), malformed_rows="skip")
    split, _ = read_training_text(data, "local", "sentences", set())
    assert (split.texts, split.skipped_rows) == ((("a",), ("b",)), 1)


@pytest.mark.parametrize(
    ("name", "content", "wanted", "sentence"),
    [
        ("a.tsv", "sentence1\tsentence2\na\tb\n", "triplets", "has no column gold_label"),
        ("a.tsv", "sentence1\tsentence2\tgold_label\na\n", "triplets", "line 2 has 1 fields"),
        ("a.csv", "sent0,sent1\na,b\n", "triplets", "has no column hard_neg"),
        ("a.csv", "", "pairs", "has no column sent0, sent1"),
        ("a.csv", "sent0,sent1,sent0\na,b,c\n", "pairs", "has 2 columns called 'sent0'; rename"),
        (
            "a.tsv",
            "sentence1\tsentence2\tgold_label\tgold_label\na\tb\tentailment\tneutral\n",
            "pairs",
            "has 2 columns called 'gold_label'; rename",
        ),
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


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.csv", "sent0,sent1,hard_neg\np,e,c\n"),
        ("a.csv", '"sent1","sent0"\r\ne,p\r\n'),
        ("a.txt", "sent0,sent1,hard_neg\np,e,c\n"),
        ("a.tsv", "gold_label\tgenre\tsentence1\tsentence2\nneutral\tg\tp\tn\n"),
    ],
)
def test_a_table_of_pairs_is_no_file_of_sentences(name: str, content: str, tmp_path: Path) -> None:
    """Its lines would hold several texts, of which none is then known as an evaluated one."""
    path = tmp_path / name
    path.write_text(content)
    with pytest.raises(UserError, match="names columns of NLI") as refused:
        load_task_data(*_vectors(path, "sentences"))
    assert "type method.simcse.mode=supervised, or promptbert's; for sentences write one" in str(
        refused.value
    )
    with pytest.raises(UserError, match=r"(hard_neg|sent1|gold_label); write one"):
        read_sentences(path, f"text={path}")  # as embed= and task=mlm do
    path.write_text(f"One, two\tand three.\n{content}")  # not a header: a sentence
    assert len(read_sentences(path, "text")) == 3


@pytest.mark.parametrize("name", ["a.txt", "a.tsv", "a.csv"])
def test_a_file_of_sentences_is_no_table_of_pairs(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text("A man eats.\nNobody sits.\n")
    with pytest.raises(UserError, match=r"has no column gold_label, sent|has no column hard_neg"):
        load_task_data(*_vectors(tmp_path / name, "triplets"))


def _vectors(path: Path, text: TrainingText) -> tuple[Task, Data, Protocol, TrainingText]:
    """Return what a run of task=sts that trains on a file would read."""
    settings = configure("task=sts", "method=simcse", "data=embedded", f"data.text={path}").settings
    return settings.task, settings.data, settings.protocol, text


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
