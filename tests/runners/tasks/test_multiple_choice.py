"""A task of one's own with N options a question: read, trained and scored as written out here."""

from __future__ import annotations

import csv
import random
from collections.abc import Callable
from pathlib import Path

import hydra
import numpy as np
import pytest
import torch
import transformers

from results.errors import UserError
from results.record import read_all
from runners.config.check import RunConfig, check
from runners.config.compose import resolved
from runners.jobs.job import Job
from runners.machine.device import make_accelerator
from runners.root import CONFIGS
from runners.training.prepare import Prepared, prepare
from tests.conftest import Cli

Folder = Callable[[str], Path]
TASK = """
name: colours
kind: multiple_choice
text: [question]
options: [first, second, third]
labels: [A, B, C]
metrics: [accuracy]
local:
  train: {folder}/train.csv
  report: {{validation: {folder}/dev.csv}}
  columns: {{label: answer}}
"""
SMALL = ("task=colours", "budget=smoke", "device=cpu", "budget.max_length=24")
WORDS = ["dogs", "cats", "film", "music", "garden", "paris", "house", "cast"]


def _write(path: Path, rows: int, seed: int, answers: str = "ABC") -> None:
    """A question names a thing, the right option names it again, the others something else."""
    draws = random.Random(seed)
    with path.open("w", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(["question", "first", "second", "third", "answer"])
        for _ in range(rows):
            thing, *others = draws.sample(WORDS, 3)
            place = draws.randrange(3)
            options = [f"the {word} is warm" for word in others]
            options.insert(place, f"the {thing} is charming and not dull")
            writer.writerow([f"what of the {thing}", *options, answers[place]])


@pytest.fixture
def own(tmp_path: Path) -> Path:
    """Return a folder of configurations with the task in it, and its data beside."""
    _write(tmp_path / "train.csv", 48, 1)
    _write(tmp_path / "dev.csv", 24, 2)
    (tmp_path / "own" / "task").mkdir(parents=True)
    (tmp_path / "own" / "task" / "colours.yaml").write_text(TASK.format(folder=tmp_path))
    return tmp_path / "own"


@pytest.fixture
def configured(own: Path, tiny_folder: Folder) -> Callable[..., RunConfig]:
    """Return a function that composes and checks a run of the task."""
    given = [*SMALL, "data=local", f"model.name_or_path={tiny_folder('bert')}"]
    path = f"hydra.searchpath=[file://{own}]"

    def configure(*more: str) -> RunConfig:
        with hydra.initialize_config_dir(str(CONFIGS), version_base="1.3"):
            typed = [path, *given, *more]
            return check(resolved(hydra.compose("config", overrides=typed), typed))

    return configure


def _ready(config: RunConfig) -> Prepared:
    return prepare(Job(config), make_accelerator("cpu", config))


def test_smoothed_labels_are_smoothed_over_the_options(
    configured: Callable[..., RunConfig],
) -> None:
    loop = _ready(configured("method=label_smoothing")).loop
    batch = loop.batch(np.arange(8))
    output = loop.forward(batch)
    expected = torch.nn.functional.cross_entropy(
        output.logits, batch["labels"], label_smoothing=0.1
    )
    assert output.logits.shape == (8, 3)
    assert torch.equal(output.loss, expected)


def test_options_are_pairs_of_question_and_option_as_the_tokenizer_makes_them(
    configured: Callable[..., RunConfig], tiny_folder: Folder
) -> None:
    ready = _ready(configured())
    split = Job(configured()).data.train
    tokenizer = transformers.AutoTokenizer.from_pretrained(tiny_folder("bert"))
    batch = ready.loop.collate(np.arange(5))
    assert batch["input_ids"].shape[:2] == (5, 3)
    for row, (question, *options) in enumerate(split.texts[:5]):
        for place, option in enumerate(options):
            expected = tokenizer(question, option)
            held = batch["attention_mask"][row, place].bool()
            for name, values in expected.items():
                assert batch[name][row, place][held].tolist() == values
    assert split.labels is not None
    assert batch["labels"].tolist() == list(split.labels[:5])


def test_loss_is_cross_entropy_over_an_examples_own_options(
    configured: Callable[..., RunConfig],
) -> None:
    """Against one option at a time, and the softmax written out."""
    loop = _ready(configured()).loop
    loop.model.eval()
    batch = loop.batch(np.array([3, 11, 20, 31]))
    with torch.no_grad():
        output = loop.forward(batch)
        losses = []
        for row in range(4):
            scores = []
            for place in range(3):
                held = int(batch["attention_mask"][row, place].sum())
                one = {k: v[row, place, :held][None] for k, v in batch.items() if k != "labels"}
                scores.append(float(loop.model(**one).logits.double().item()))
            assert output.logits[row].tolist() == pytest.approx(scores, abs=1e-5)
            right = scores[int(batch["labels"][row])]
            losses.append(np.log(np.sum(np.exp(scores))) - right)
    assert output.logits.shape == (4, 3)
    assert float(output.loss) == pytest.approx(np.mean(losses), abs=1e-5)


def test_text_of_two_columns_begins_every_option(
    configured: Callable[..., RunConfig], tmp_path: Path
) -> None:
    header, row = "start,question,first,second,third,answer\n", "all dogs,are,warm,dull,bad,B\n"
    for name in ("train.csv", "dev.csv"):
        (tmp_path / name).write_text(header + 2 * row)
    config = configured("task.text=[start,question]")
    ready = _ready(config)
    ids = ready.loop.collate(np.array([0]))["input_ids"][0]
    words = [ready.loaded.tokenizer.decode(row, skip_special_tokens=True) for row in ids]
    assert words == ["all dogs are warm", "all dogs are dull", "all dogs are bad"]


@pytest.mark.parametrize("method", ["full", "[rdrop,bitfit]", "lora", "smart", "child_tuning_d"])
def test_runs_of_it_are_trained_scored_saved_and_scored_again(
    method: str, own: Path, cli: Cli, tiny_folder: Folder, tmp_path: Path
) -> None:
    given = ["--config-dir", str(own), *SMALL, f"method={method}", "data=local"]
    model = f"model.name_or_path={tiny_folder('bert')}"
    done = cli(*given, model, "save=delta", "protocol=select")
    assert done.code == 0, done.err
    [record] = read_all(tmp_path / "runs")
    kept = record.predictions["validation"]
    assert len(kept["predictions"]) == 24
    assert set(kept["predictions"]) <= {0, 1, 2}
    right = np.mean(np.equal(kept["predictions"], kept["references"]))
    assert record.scores == {"validation": {"accuracy": pytest.approx(right)}}
    [delta] = (tmp_path / "runs").glob("*.delta")
    again = cli(f"eval={delta}", "device=cpu")
    assert again.code == 0, again.err
    assert "predictions equal the record's" in again.out


def test_it_can_be_learnt(own: Path, cli: Cli, tiny_folder: Folder, tmp_path: Path) -> None:
    """The right option is the one of other words than the rest: better than chance's third."""
    given = ["--config-dir", str(own), *SMALL, "data=local", "budget.steps=60", "lr=3e-3"]
    done = cli(*given, f"model.name_or_path={tiny_folder('bert')}", "budget.dropout=0.0")
    assert done.code == 0, done.err
    [record] = read_all(tmp_path / "runs")
    assert record.score is not None
    assert record.score > 0.6


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ("task.metrics=[f1]", "do not suit kind=multiple_choice"),
        ("task.options=[first,second]", "options names 2 columns and labels 3 names"),
        ("task.kind=classification", "options are for kind=multiple_choice"),
        ("task.kind=multiple_choise", "did you mean multiple_choice?"),
        ("task.labels=[A,A,B]", "at least two different names"),
    ],
)
def test_what_does_not_fit_the_kind_is_one_sentence(
    change: str, sentence: str, configured: Callable[..., RunConfig]
) -> None:
    with pytest.raises(UserError, match=sentence.replace("?", r"\?")):
        configured(change)


def test_an_answer_that_is_no_option_is_named_with_its_line(
    configured: Callable[..., RunConfig], tmp_path: Path
) -> None:
    _write(tmp_path / "dev.csv", 4, 2, answers="ABD")
    with pytest.raises(UserError, match=r"dev.csv line \d: 'D' is not a label .* A, B, C"):
        _ = Job(configured()).data


def test_a_question_is_clipped_with_all_its_options(configured: Callable[..., RunConfig]) -> None:
    """dp's clipped sum equals a loop over single questions, positions and all."""
    config = configured("method=[dp,full]", "method.dp.noise=0", "budget.dropout=0")
    loop = prepare(Job(config), make_accelerator("cpu", config)).loop
    parameters, expected = list(loop.model.parameters()), []
    for row in range(5):
        loss = loop.forward(loop.batch(np.asarray([row]))).loss
        gradients = torch.autograd.grad(loss, parameters, materialize_grads=True)
        norm = torch.stack([g.square().sum() for g in gradients]).sum().sqrt()
        expected.append([g * min(1.0, 0.1 / float(norm)) for g in gradients])
    loop.methods[0].gradients(loop.model, loop.batch(np.arange(5)), loop._losses)
    for place, parameter in enumerate(parameters):
        mean = torch.stack([one[place] for one in expected]).sum(0) / 8
        torch.testing.assert_close(parameter.grad, mean, rtol=1e-4, atol=1e-6)
