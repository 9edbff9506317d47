"""Options of a row's own, read whole: against transformers' head on rows that are written out."""

from __future__ import annotations

import csv
import random
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn.functional import cross_entropy

from methods.surgery import choices
from methods.unimc import Unimc
from results.errors import UserError
from results.record import read_all
from runners.jobs.job import Job
from runners.machine.device import make_accelerator
from runners.runs.predict import load_predictor
from runners.training.prepare import Prepared, prepare
from tests.conftest import Cli, configure
from tests.methods.test_unimc import ZERO, _loud, _whole

Folder = Callable[[str], Path]
OPTIONS = """
name: colours
kind: multiple_choice
text: [question]
options: [first, second, third]
labels: [A, B, C]
metrics: [accuracy]
choices: {{question: who was it}}
local:
  train: {folder}/train.csv
  report: {{validation: {folder}/dev.csv}}
"""
CLASSES = """
name: things
text: [question]
labels: [A, B]
metrics: [accuracy]
choices: {{options: {{A: warm, B: not bad}}}}
local:
  train: {folder}/things.csv
  report: {{validation: {folder}/things.csv}}
"""
PLAIN = ("data=local", "budget=smoke", "device=cpu", "threads=1", "budget.dropout=0")
GIVEN = (*PLAIN, "method=unimc", "method.unimc.right=a", "method.unimc.wrong=not")
WORDS = ("dogs", "cats", "film", "music", "garden", "paris", "house", "cast")
TAILS = ("", " is warm", " is not bad at all")


def _write(path: Path, rows: int, seed: int, labels: str = "ABC") -> None:
    """The right option names the thing of the question; options are of unlike lengths."""
    draws = random.Random(seed)
    with path.open("w", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(["start", "question", "first", "second", "third", "label"])
        for _ in range(rows):
            things, right = draws.sample(WORDS, 3), draws.randrange(len(labels))
            asked = f"the {things[right]} is charming"
            options = [thing + draws.choice(TAILS) for thing in things]
            writer.writerow(["all", asked, *options, labels[right]])


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder of configurations with two tasks in it, and their data beside."""
    folder = tmp_path_factory.mktemp("own")
    (folder / "task").mkdir()
    _write(folder / "train.csv", 48, 1)
    _write(folder / "dev.csv", 24, 2)
    _write(folder / "things.csv", 24, 3, "AB")
    for name, text in (("colours", OPTIONS), ("things", CLASSES)):
        (folder / "task" / f"{name}.yaml").write_text(text.format(folder=folder))
    return folder


@pytest.fixture(scope="module")
def masked_bert(tiny_folder: Folder, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return _loud(tiny_folder("bert"), tmp_path_factory.mktemp("masked") / "tiny-mlm")


def _ready(own: Path, folder: Path, *more: str) -> Prepared:
    given = (*GIVEN, f"model.name_or_path={folder}", *more)
    config = configure(*given, config_dir=own)
    return prepare(Job(config), make_accelerator("cpu", config))


def _rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as stream:
        return list(csv.DictReader(stream))


@pytest.mark.parametrize("text", [["question"], ["start", "question"]])
def test_a_rows_own_options_stand_first_and_their_scores_are_the_whole_heads(
    text: list[str], own: Path, masked_bert: Path
) -> None:
    ready = _ready(own, masked_bert, "task=colours", f"task.text=[{','.join(text)}]")
    loop, tokenizer = ready.loop, ready.loaded.tokenizer
    batch = loop.collate(np.arange(8))
    for ids, row in zip(batch["input_ids"], _rows(own / "train.csv"), strict=False):
        said = "".join(f" [MASK] {row[name]}" for name in ("first", "second", "third"))
        texts = "".join(f" [SEP] {row[name]}" for name in text)
        expected = f"[CLS]{said} [SEP] who was it{texts} [SEP]".split()
        assert tokenizer.convert_ids_to_tokens(ids)[: len(expected)] == expected
    with torch.no_grad():
        ours = loop.forward(batch)
        predicted = ready.kind.answer(loop.model.eval(), {**batch})
    whole, masks = _whole(masked_bert, batch, tokenizer)
    yes = tokenizer.convert_tokens_to_ids("a")
    theirs = torch.stack([whole[i, places, yes] for i, places in enumerate(masks)])
    assert theirs.shape == (8, 3)
    assert torch.allclose(ours.logits, theirs, atol=1e-5)
    assert ours.loss.item() == pytest.approx(cross_entropy(theirs, batch["labels"]).item())
    assert predicted.tolist() == theirs.argmax(1).tolist()


def test_runs_of_it_are_trained_scored_saved_and_answer_texts(
    own: Path, cli: Cli, masked_bert: Path, tmp_path: Path
) -> None:
    given = ("--config-dir", str(own), *GIVEN, f"model.name_or_path={masked_bert}")
    done = cli(*given, "task=colours", "save=delta", "protocol=select")
    assert done.code == 0, done.err
    [record] = read_all(tmp_path / "runs")
    kept = record.predictions["validation"]["predictions"]
    [delta] = (tmp_path / "runs").glob("*.delta")
    again = cli(f"eval={delta}", "device=cpu")
    assert again.code == 0, again.err
    assert "predictions equal the record's" in again.out
    names = ("question", "first", "second", "third")
    rows = [tuple(row[name] for name in names) for row in _rows(own / "dev.csv")]
    predicted = load_predictor(delta, device="cpu")(rows)
    assert predicted.answers == ["ABC"[int(answer)] for answer in kept]


@pytest.mark.parametrize(("task", "first"), [("colours", 0), ("things", 48)])
def test_a_mixture_may_hold_tasks_with_options_and_with_classes(
    task: str, first: int, own: Path, masked_bert: Path
) -> None:
    losses = []
    for typed, rows in (
        ("mix=[colours,things]", np.arange(first, first + 8)),
        (f"task={task}", np.arange(8)),
    ):
        loop = _ready(own, masked_bert, typed).loop
        [method] = loop.methods
        assert isinstance(method, Unimc)
        method.streams.on(torch.device("cpu")).manual_seed(3)
        losses.append(method.loss(loop.model, loop.batch(rows), loop.forward).item())
    assert losses[0] == losses[1]


def test_each_task_of_a_mixture_is_answered_as_by_itself(
    own: Path, cli: Cli, masked_bert: Path, tmp_path: Path
) -> None:
    given = ("--config-dir", str(own), *GIVEN, f"model.name_or_path={masked_bert}", *ZERO)
    for typed in ("mix=[colours,things]", "task=colours", "task=things"):
        done = cli(*given, typed)
        assert done.code == 0, done.err
    by_task = {record.task: record.predictions for record in read_all(tmp_path / "runs")}
    assert by_task.pop("mix") == {
        f"{task}/{split}": answers
        for task, splits in by_task.items()
        for split, answers in splits.items()
    }


def test_an_option_is_never_cut_and_the_longest_row_is_named(
    own: Path, masked_bert: Path, tmp_path: Path
) -> None:
    rows = _rows(own / "train.csv")
    rows[7] |= {"question": "who sold it", "second": "[SEP] bad " + "warm " * 30}
    path = tmp_path / "long.csv"
    with path.open("w", newline="") as stream:
        writer = csv.DictWriter(stream, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    typed = ("task=colours", f"task.local.train={path}")
    said = r"max_length=40: .* no room for the text 'who sold it'; the longest option is '\[SEP\] b"
    with pytest.raises(UserError, match=said):
        _ready(own, masked_bert, *typed, "budget.max_length=40")
    tokenizer = _ready(own, masked_bert, "task=colours").loaded.tokenizer
    for words, advice in ((300, "use budget.max_length=512"), (520, "shorten it, as 512 tokens")):
        options = [["bad"], ["warm " * words]]
        with pytest.raises(UserError, match=f"{advice}[^0-9]*$"):
            choices.arrange("", options, [["a"]], tokenizer, 128, lambda n, m: range(m))
    ready = _ready(own, masked_bert, *typed, "budget.max_length=60")
    ids = ready.loop.collate(np.array([7]))["input_ids"][0]
    said = f"[MASK] {rows[7]['first']} [MASK] [UNK] bad {'warm ' * 30}[MASK] {rows[7]['third']}"
    expected = f"[CLS] {said} [SEP] who was it [SEP] who sold it [SEP]".split()
    assert ready.loaded.tokenizer.convert_ids_to_tokens(ids) == expected


@pytest.mark.parametrize(
    ("typed", "said"),
    [
        (["method.unimc.options=[warm,dull,bad]"], r"unimc\.options: each row of task=colours has"),
        (["+task.choices.options.A=warm"], r"choices\.options of task=colours: each row"),
        (["method=mlm_prompt"], "task=colours is of kind multiple_choice"),
    ],
)
def test_what_cannot_be_is_said_in_a_sentence(typed: list[str], said: str, own: Path) -> None:
    with pytest.raises(UserError, match=said):
        configure(*PLAIN, "task=colours", "method=unimc", *typed, config_dir=own)


def test_others_do_not_mix_tasks_with_options(own: Path) -> None:
    with pytest.raises(UserError, match="tasks with options are mixed by method=unimc"):
        configure(*PLAIN, "mix=[colours,things]", "method=full", config_dir=own)
