"""Runs of budget.epochs=0, which train nothing and score the model as it is."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file

from results.errors import UserError
from results.record import Record, read_all, write
from runners.boards.calibrate import calibrate
from runners.boards.planned import updates
from runners.exports.delta import load_delta
from runners.jobs.job import Job
from runners.machine.device import make_accelerator
from runners.training.prepare import Prepared, prepare
from tests.conftest import Cli, configure, tiny
from tests.tiny import save_masked, save_tiny

Folder = Callable[[str], Path]
ZERO = ("budget.steps=null", "budget.epochs=0")
COSINE = ("task=sst2", "method=description_cosine")


@pytest.fixture(scope="module")
def masked_bert(tiny_folder: Folder, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_masked(tiny_folder("bert"), tmp_path_factory.mktemp("untrained") / "mlm")


def _ended(cli: Cli, out: Path, *arguments: str) -> Record:
    done = cli(*arguments, f"out={out}")
    assert done.code == 0, done.err
    records = read_all(out)
    return max(records, key=lambda r: (out / f"{r.run}.json").stat().st_mtime_ns)


def _ready(folder: Path, *more: str) -> Prepared:
    config = configure(*tiny(folder, *more))
    return prepare(Job(config), make_accelerator("cpu", config))


def _cosines(folder: Path, texts: list[Any], pooling: str) -> torch.Tensor:
    """Return what transformers' own encoder says of texts, one at a time."""
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    model: Any = transformers.AutoModel.from_pretrained(folder).eval()
    vectors = []
    with torch.no_grad():
        for text in texts:
            given = tokenizer(*text, return_tensors="pt", truncation=True, max_length=48)
            states = model(**given).last_hidden_state[0]
            vectors.append(states[0] if pooling == "cls" else states.mean(0))
    return torch.stack(vectors)


@pytest.mark.parametrize(("task", "pooling"), [("sst2", "mean"), ("mnli", "cls")])
def test_logits_are_cosines_with_descriptions(task: str, pooling: str, tiny_folder: Folder) -> None:
    folder = tiny_folder("bert")
    typed = ("method=description_cosine", f"method.description_cosine.pooling={pooling}")
    ready = _ready(folder, f"task={task}", *typed)
    job = Job(configure(*tiny(folder, f"task={task}", *typed)))
    descriptions = job.config.settings.task.descriptions
    rows = [(descriptions[label],) for label in job.config.settings.task.labels]
    batch = ready.loop.collate(np.arange(5))
    with torch.no_grad():
        ours = ready.loop.model.eval()(**batch)
    texts = _cosines(folder, list(job.data.train.texts[:5]), pooling)
    wanted = torch.cosine_similarity(
        texts[:, None], _cosines(folder, rows, pooling)[None], dim=-1
    )  # fmt: skip
    assert torch.allclose(ours.logits, wanted / 0.05, atol=1e-4)
    loss = torch.nn.functional.cross_entropy(wanted / 0.05, batch["labels"])
    assert ours.loss.item() == pytest.approx(loss.item(), abs=1e-4)


def test_cosines_train_on_and_are_kept(cli: Cli, tiny_folder: Folder, tmp_path: Path) -> None:
    out = tmp_path / "runs"
    record = _ended(cli, out, *tiny(tiny_folder("bert"), *COSINE, "save=delta"))
    assert record.steps == 4
    head: Any = load_delta(out / f"{record.run}.delta").loaded.model.descriptions
    drawn: Any = _ready(tiny_folder("bert"), *COSINE).loop.model.descriptions
    assert head.weight.shape == drawn.weight.shape == (2, 32)
    assert not torch.equal(head.weight, drawn.weight)


@pytest.mark.parametrize("method", ["mlm_prompt", "description_cosine", "full"])
def test_the_record_says_that_nothing_was_trained(
    method: str, cli: Cli, masked_bert: Path, tmp_path: Path
) -> None:
    words = ["method.mlm_prompt.words=[a,not]"] * (method == "mlm_prompt")
    typed = tiny(masked_bert, "task=sst2", f"method={method}", *words, *ZERO)
    record = _ended(cli, tmp_path, *typed)
    assert (record.status, record.steps, record.losses, record.trained_sha256) == (
        *("finished", 0, [], None),
    )
    assert record.config["budget"]["epochs"] == 0
    assert record.evaluations == []
    assert record.parameters is not None
    assert (record.parameters["trainable"], record.stored_bytes) == (0, 0)
    job = Job(configure(*typed))
    assert updates(job) == 0
    assert set(record.predictions["validation"]["predictions"]) <= {0, 1}
    rates, work = calibrate(job, 0.0)
    assert (work.steps, rates.step) == (0, 0.0)


def test_what_follows_a_run_without_training(cli: Cli, masked_bert: Path, tmp_path: Path) -> None:
    out = tmp_path / "runs"
    typed = tiny(masked_bert, *COSINE, *ZERO)
    record = _ended(cli, out, *typed, "save=delta")
    again = cli(*typed, f"out={out}")
    assert "stored result" in again.out
    page = cli(f"verify={record.run}", f"out={out}")
    assert page.code == 0, page.err
    assert "equal to the bit" in page.out
    start = cli(*tiny(masked_bert, *COSINE, f"start={record.run}"), f"out={out}")
    assert start.code == 2
    assert "nothing of that run was trained" in start.err


def _change_weights(folder: Path) -> None:
    tensors = load_file(folder / "model.safetensors")
    changed = {name: 1.5 * tensor for name, tensor in tensors.items()}
    save_file(changed, folder / "model.safetensors", metadata={"format": "pt"})


def test_what_was_not_trained_is_not_built_on_other_weights(cli: Cli, tmp_path: Path) -> None:
    """Nothing of such a run lies beside its record, which tells what it was made with."""
    folder, out = save_tiny("bert", tmp_path / "model"), tmp_path / "runs"
    sts = _ended(cli, out, *tiny(folder, "method=embedding", "task=sts")).run
    rte = _ended(cli, out, *tiny(folder, "method=full", "task=rte", *ZERO)).run
    (text := tmp_path / "lines.txt").write_text("a dog\n")
    (rows := tmp_path / "rows.csv").write_text("sentence1,sentence2\na dog,a cat\n")
    embed = (f"embed={out / sts}.json", f"text={text}", f"out={tmp_path / 'o.npy'}")
    predict = (f"predict={out / rte}.json", f"text={rows}", f"out={tmp_path / 'o.csv'}")
    for act in (embed, predict):
        assert cli(*act).code == 0
    shutil.copytree(folder, as_it_was := tmp_path / "as_it_was")
    _change_weights(folder)
    for act in (embed, predict):
        done = cli(*act)
        assert done.code == 2
        assert "it was made with pretrained weights of sha256" in done.err
        assert cli(*act, f"model.name_or_path={as_it_was}").code == 0


def test_what_was_not_trained_is_not_built_on_another_start(
    cli: Cli, tiny_folder: Folder, tmp_path: Path
) -> None:
    out, small = tmp_path / "runs", tiny(tiny_folder("bert"), "budget.steps=2")
    _ended(cli, out, *small, "task=mlm", "task.mlm.on=[rte]", "save=delta")
    [first] = read_all(out)
    given = (*small, "task=sts", "method=embedding")
    vectors = _ended(cli, out, *given, f"start={first.run}")
    (text := tmp_path / "lines.txt").write_text("a dog\n")
    embed = (f"embed={out / vectors.run}.json", f"text={text}", f"out={tmp_path / 'o.npy'}")
    assert cli(*embed).code == 0
    write(replace(first, trained_sha256="0" * 64, content_sha256=None), out)
    done = cli(*embed)
    assert done.code == 2
    assert f"it starts from {first.run}, which holds other weights than then" in done.err


def test_what_was_not_trained_goes_on_from_the_same_folder(
    cli: Cli, tiny_folder: Folder, tmp_path: Path
) -> None:
    """One of sentence-transformers, whose hash is not that of the tensors which its run trained."""
    out, small = tmp_path / "runs", tiny(tiny_folder("bert"), "budget.steps=2", "task=sts")
    first = _ended(cli, out, *small, "method=[bitfit,simcse]", "save=sentence-transformers")
    folder = out / f"{first.run}.sentence-transformers"
    vectors = _ended(cli, out, *small, "method=embedding", f"start={folder}")
    (text := tmp_path / "lines.txt").write_text("a dog\n")
    done = cli(f"embed={out / vectors.run}.json", f"text={text}", f"out={tmp_path / 'o.npy'}")
    assert done.code == 0, done.err


@pytest.mark.parametrize(
    ("typed", "said"),
    [
        (["method=bitfit"], "trains nothing, and method=bitfit only changes what is trained"),
        (["method=[rdrop,full]"], "method=rdrop only changes"),
        (["method=full", "protocol=select"], "no weights to select among"),
        (["method=description_cosine", "task=stsb"], "task=stsb is of kind regression"),
        (["method=description_cosine", "task=sick"], "task=sick has no description of"),
        (["method=description_cosine", "~task.descriptions.negative"], "of negative; write"),
        (["method=description_cosine", "task=sts"], "compares vectors of sentences"),
        (["method=[mlm_prompt,description_cosine]"], "both decide on the head"),
    ],
)
def test_what_cannot_be_is_refused(typed: list[str], said: str) -> None:
    with pytest.raises(UserError, match=said):
        configure("data=embedded", "task=sst2", *ZERO, *typed)
