"""UniMC on several tasks at once: each has its own options, and one head answers all, and more.

The right option is the one that the text names: learned on two tasks, asked of a third.
"""

from __future__ import annotations

import csv
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from safetensors.torch import load_file

from methods.unimc import Unimc
from results.errors import UserError
from results.record import read_all
from runners.jobs.job import Job
from runners.machine.device import make_accelerator
from runners.runs.predict import load_predictor
from runners.training.prepare import Prepared, prepare
from runners.training.start import build_model
from tests.conftest import Cli, configure
from tests.methods.test_unimc import ZERO, _loud, _whole

Folder = Callable[[str], Path]
TASK = """
name: {name}
text: [{texts}]
labels: [{labels}]
metrics: [accuracy]
choices:
  question: {question}
  options: {{{options}}}
local:
  train: {folder}/{name}.csv
  report: {{validation: {folder}/{name}_dev.csv}}
"""
OPTIONS = {
    "things": {"a": "film", "b": "music"},
    "animals": {"a": "dogs", "b": "cats", "c": "house"},
    "held": {"b": "dogs", "a": "music"},
}
TEXTS = {"things": ("remark",), "animals": ("remark", "more"), "held": ("remark",)}
PLAIN = ("data=local", "budget=smoke", "device=cpu", "threads=1", "budget.dropout=0")
GIVEN = (*PLAIN, "method=unimc", "method.unimc.right=a", "method.unimc.wrong=not")
QUESTION = "who was it"
MIX = "mix=[things,animals]"


def _write(path: Path, task: str, rows: int, seed: int) -> None:
    draws = random.Random(seed)
    with path.open("w", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow([*TEXTS[task], "label"])
        for _ in range(rows):
            label = draws.choice(list(OPTIONS[task]))
            adjective = draws.choice(["warm", "dull", "bad", "charming"])
            texts = [f"the {OPTIONS[task][label]} is {adjective}", "not at all"]
            writer.writerow([*texts[: len(TEXTS[task])], label])


def _filled(folder: Path, question: str) -> Path:
    """Fill a folder of configurations with three tasks, and their data beside; return it."""
    (folder / "task").mkdir()
    for seed, (name, options) in enumerate(OPTIONS.items()):
        _write(folder / f"{name}.csv", name, 48, 2 * seed)
        _write(folder / f"{name}_dev.csv", name, 24, 2 * seed + 1)
        said = {
            "texts": ", ".join(TEXTS[name]),
            "labels": ", ".join(options),
            "options": ", ".join(f"{label}: {words}" for label, words in options.items()),
        }
        task = TASK.format(name=name, question=question, folder=folder, **said)
        (folder / "task" / f"{name}.yaml").write_text(task)
    return folder


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return _filled(tmp_path_factory.mktemp("own"), QUESTION)


@pytest.fixture(scope="module")
def masked_bert(tiny_folder: Folder, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return _loud(tiny_folder("bert"), tmp_path_factory.mktemp("masked") / "tiny-mlm")


def _ready(own: Path, folder: Path, *more: str) -> Prepared:
    given = (*GIVEN, f"model.name_or_path={folder}", *more)
    config = configure(*given, config_dir=own)
    return prepare(Job(config), make_accelerator("cpu", config))


@pytest.mark.parametrize(("task", "first"), [("things", 0), ("animals", 48)])
def test_a_batch_of_one_task_has_the_loss_of_a_run_of_that_task_alone(
    task: str, first: int, own: Path, masked_bert: Path
) -> None:
    losses, gradients = [], []
    for typed, rows in ((MIX, np.arange(first, first + 8)), (f"task={task}", np.arange(8))):
        loop = _ready(own, masked_bert, typed).loop
        [method] = loop.methods
        assert isinstance(method, Unimc)
        batch = loop.batch(rows)
        assert loop.forward(batch).logits.shape == (8, len(OPTIONS[task]))
        method.streams.on(torch.device("cpu")).manual_seed(3)
        loss = method.loss(loop.model, batch, loop.forward)
        loss.backward()
        losses.append(loss.item())
        gradients.append({n: p.grad for n, p in loop.model.named_parameters()})
    assert losses[0] == losses[1]
    for name, gradient in gradients[0].items():
        assert gradient is not None
        assert torch.equal(gradient, gradients[1][name]), name


def _rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as stream:
        return list(csv.DictReader(stream))


def _answers(folder: Path, rows: list[str]) -> list[int]:
    """Return which option of the task held out is right by transformers' whole head."""
    tokenizer: Any = transformers.AutoTokenizer.from_pretrained(folder)
    first, second = OPTIONS["held"].values()
    front = f"[CLS] [MASK] {first} [MASK] {second} [SEP]".split()
    asked, answers = f"{QUESTION} [SEP]".split(), []
    for row in rows:
        behind = tokenizer.convert_tokens_to_ids([*asked, *row.split(), "[SEP]"])
        ids = [*tokenizer.convert_tokens_to_ids(front), *behind]
        types = [0] + [1] * (len(front) - 1) + [0] * len(behind)
        batch = {"input_ids": torch.tensor([ids]), "token_type_ids": torch.tensor([types])}
        batch["attention_mask"] = torch.ones_like(batch["input_ids"])
        logits, [masks] = _whole(folder, batch, tokenizer)
        yes = logits[0, masks, tokenizer.convert_tokens_to_ids("a")]
        answers.append(int(yes.argmax()))
    return answers


def test_what_was_learned_of_a_mixture_answers_a_task_held_out(
    own: Path, cli: Cli, masked_bert: Path, tmp_path: Path
) -> None:
    runs, alone = tmp_path / "runs", tmp_path / "alone"
    given = ("--config-dir", str(own), *GIVEN, f"model.name_or_path={masked_bert}")
    steps = ("budget.steps=200", "budget.warmup=0.1", "lr=3e-3")
    assert cli(*given, MIX, *steps, "save=delta").code == 0
    [mixed] = read_all(runs)
    assert mixed.scores.keys() == {"things/validation", "animals/validation"}
    assert all(scores["accuracy"] > 0.9 for scores in mixed.scores.values())
    assert cli(*given, "task=held", *ZERO).code == 0
    after = cli(*given, "task=held", *ZERO, f"start={mixed.run}")
    assert after.code == 0, after.err
    assert "unimc after mix(things+animals)" in after.out
    held = sorted((r for r in read_all(runs) if r.task == "held"), key=lambda r: len(r.weights))
    said = ["pretrained", f"as start={mixed.run} left it"]
    assert [(r.steps, r.weights["mlm_head"]) for r in held] == [(0, said[0]), (0, said[1])]
    model: Any = transformers.AutoModelForMaskedLM.from_pretrained(masked_bert)
    [left] = (runs / f"{mixed.run}.delta").glob("*.safetensors")
    assert not model.load_state_dict(load_file(left), strict=False).unexpected_keys
    model.save_pretrained(alone)
    transformers.AutoTokenizer.from_pretrained(masked_bert).save_pretrained(alone)
    rows = [row["remark"] for row in _rows(own / "held_dev.csv")]
    for record, folder in zip(held, (masked_bert, alone), strict=True):
        assert record.predictions["validation"]["predictions"] == _answers(folder, rows)
    assert held[0].score is not None
    assert held[1].score is not None
    assert held[0].score < 0.8 < held[1].score
    dev = [(row["remark"], row["more"]) for row in _rows(own / "animals_dev.csv")]
    predicted = load_predictor(left.parent, task="animals", device="cpu")(dev)
    kept = mixed.predictions["animals/validation"]["predictions"]
    assert predicted.answers == [["a", "b", "c"][int(answer)] for answer in kept]
    assert predicted.probabilities is not None
    assert predicted.probabilities.shape == (24, 3)


@pytest.mark.parametrize("method", ["full", "description_cosine"])
def test_other_methods_take_the_encoder_that_it_left(
    method: str, own: Path, cli: Cli, masked_bert: Path, tmp_path: Path
) -> None:
    given = ("--config-dir", str(own), *PLAIN, f"model.name_or_path={masked_bert}")
    assert cli(*given, *GIVEN[len(PLAIN) :], MIX, "budget.steps=2", "save=delta").code == 0
    [mixed] = read_all(tmp_path / "runs")
    [left] = (tmp_path / "runs" / f"{mixed.run}.delta").glob("*.safetensors")
    theirs = {n: t for n, t in load_file(left).items() if n.startswith("bert.")}
    described = "+task.descriptions={a: the music, b: the dogs}"
    more = ("task=held", f"method={method}", described, f"start={mixed.run}")
    folder = f"out={tmp_path / 'runs'}"
    job = Job(configure(*given[2:], *more, folder, config_dir=own))
    ours = build_model(job, 1).model.state_dict()
    assert theirs
    for name, tensor in theirs.items():
        assert torch.equal(ours[name], tensor), name


def test_a_chain_ends_at_a_task_that_is_answered_without_training(
    own: Path, cli: Cli, masked_bert: Path
) -> None:
    given = ("--config-dir", str(own), *GIVEN, f"model.name_or_path={masked_bert}")
    stages = ("stages=[mix,held]", "stages.0.mix.of=[things,animals]", "stages.0.mix.draw=even")
    planned = cli(*given, *stages, *ZERO, "stages.0.budget.steps=2", "plan=true")
    assert planned.code == 0, planned.err
    assert "mix.of=[things,animals]" in planned.out
    assert planned.out.count("\n") == 2


def test_what_each_task_asks_is_in_the_name_of_a_run_that_reads_it(
    own: Path, masked_bert: Path, tmp_path: Path
) -> None:
    other = _filled(tmp_path, "when was it")

    def named(method: str, folder: Path) -> str:
        given = (*PLAIN, f"model.name_or_path={masked_bert}", MIX, f"method={method}")
        return Job(configure(*given, config_dir=folder)).name

    assert named("unimc", own) != named("unimc", other)
    assert named("full", own) == named("full", other)
    mixture = configure(*PLAIN, MIX, "method=full", config_dir=own).settings.task.mixture
    assert mixture is not None
    assert "choices" not in mixture.tasks["things"].model_dump()


@pytest.mark.parametrize(
    ("typed", "said"),
    [
        (["mix=[things,stsb]"], "task=stsb is of kind regression"),
        (["mix=[things,sick]"], "task=sick names no options for its labels"),
        (
            [MIX, "method.unimc.options=[warm,dull]"],
            r"unimc\.options= is of one task, and task=mix",
        ),
        ([MIX, "method.unimc.question=why"], r"unimc\.question= is of one task, and task=mix"),
        ([MIX, "method=mlm_prompt"], "mlm_prompt reads a class or a score at a mask; task=mix"),
    ],
)
def test_what_cannot_be_mixed_is_said_in_a_sentence(
    typed: list[str], said: str, own: Path, masked_bert: Path
) -> None:
    with pytest.raises(UserError, match=said):
        configure(*PLAIN, "method=unimc", *typed, config_dir=own)


def test_tasks_of_one_name_are_not_read_by_one_anothers_options(
    own: Path, masked_bert: Path, tmp_path: Path
) -> None:
    folder = _filled(tmp_path, QUESTION)
    for name in ("things", "held"):
        path = folder / "task" / f"{name}.yaml"
        path.write_text(path.read_text().replace(f"name: {name}", "name: same"))
    ready = _ready(folder, masked_bert, "mix=[things,held]")
    tokenizer = ready.loaded.tokenizer
    for name, first in (("things", 0), ("held", 48)):
        [row] = ready.loop.batch(np.array([first]))["input_ids"]
        said = "".join(f" [MASK] {option}" for option in OPTIONS[name].values())
        assert tokenizer.decode(row).startswith(f"[CLS]{said} [SEP]")
