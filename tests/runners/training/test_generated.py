"""Rows of a language model: tuned a label, sampled from streams, and none that is scored stays."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
import transformers

from results.errors import UserError
from results.record import read_all
from results.tables.collect import tables
from runners.config.settings import Model
from runners.config.unlabelled import Generated
from runners.data.evaluated import Evaluated
from runners.data.split import Split
from runners.jobs.identity import recorded_name
from runners.machine.device import make_accelerator
from runners.models.weights import find_weights
from runners.seeds import derive
from runners.training import generated
from runners.training.generated import Sieve
from runners.training.language_model import LanguageModel, next_shares
from tests.conftest import Cli, configure, tiny
from tests.tiny import save_gpt

HEADER = "sentence\tlabel\n"
OPTIONS = Generated(generator="GPT", max_tokens=10, epochs=2, batch_size=4, lr=1e-2)


@pytest.fixture(scope="session")
def gpt(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_gpt(tmp_path_factory.mktemp("gpt") / "tiny")


def _model(gpt: Path, options: Generated = OPTIONS) -> LanguageModel:
    weights = find_weights(Model(name="g", name_or_path=str(gpt), lr={"full": 1.0}))
    accelerator = make_accelerator("cpu", configure("task=sst2", "data=embedded"))
    return LanguageModel(weights, options, accelerator, 7, "warm")


def test_the_most_probable_tokens_share_what_is_left() -> None:
    stream = np.random.default_rng(0)
    logits = torch.from_numpy(stream.normal(size=(5, 9))).float()
    options = OPTIONS.model_copy(update={"temperature": 0.7, "top_p": 0.6})
    shares = next_shares(logits, options)
    for row, got in zip(logits.double() / 0.7, shares, strict=True):
        whole = {i: float(np.exp(v)) for i, v in enumerate(row)}
        total, kept, reached = sum(whole.values()), dict[int, float](), 0.0
        for token in sorted(whole, key=lambda t: -whole[t]):
            if reached < 0.6:
                kept[token] = whole[token]
            reached += whole[token] / total
        expected = [kept.get(i, 0.0) / sum(kept.values()) for i in range(9)]
        np.testing.assert_allclose(got, expected, atol=1e-6)


def test_samples_are_those_of_whole_passes_without_a_cache(gpt: Path) -> None:
    model = _model(gpt)
    texts = model.sample(3, 4)
    assert texts == _model(gpt).sample(3, 4) != model.sample(3, 5)
    stream = torch.Generator().manual_seed(derive(7, "generated sample 4 warm"))
    plain = transformers.GPT2LMHeadModel.from_pretrained(gpt).eval()
    ids = torch.zeros(3, 1, dtype=torch.long)
    for _ in range(8):
        with torch.no_grad():
            shares = plain(ids).logits[:, -1].softmax(dim=-1)
        ids = torch.cat([ids, torch.multinomial(shares, 1, generator=stream)], dim=1)
    rows = [row[1:].tolist() for row in ids]
    rows = [row[: row.index(0)] if 0 in row else row for row in rows]
    assert texts == [model.tokenizer.decode(row) for row in rows]


def test_tuning_predicts_each_row_up_to_its_end_and_draws_from_streams(gpt: Path) -> None:
    rows = [(f"dull  {i}",) for i in range(6)]
    model = _model(gpt)
    state = torch.get_rng_state()
    losses = model.tune(rows)
    assert torch.equal(torch.get_rng_state(), state)
    assert len(losses) == 4
    assert losses == _model(gpt).tune(rows)
    first = np.random.Generator(np.random.PCG64(derive(7, "generated order 0 warm")))
    chosen = [rows[i][0].replace("  ", " ") for i in first.permutation(6)[:4]]
    plain = transformers.GPT2LMHeadModel.from_pretrained(gpt)
    plain.train()
    torch.manual_seed(derive(7, "generated dropout warm"))
    tokens = [[0, *model.tokenizer(text)["input_ids"], 0] for text in chosen]
    logits = plain(torch.tensor(tokens)).logits.log_softmax(dim=-1)  # rows of one length
    each = [-logits[r, place, row[place + 1]] for r, row in enumerate(tokens) for place in range(7)]
    assert losses[0] == pytest.approx(float(torch.stack(each).mean().detach()), rel=1e-5)


def test_a_long_first_text_is_no_fault_of_the_tokenizer(gpt: Path) -> None:
    """It was told to be one that loses the ends of lines where the first row's lay too far off."""
    long, short = ("dull " * 30, "warm"), ("dull", "warm")
    assert len(_model(gpt).tune([long, short])) == 2
    with pytest.raises(UserError, match="max_tokens=10: no row of warm has anything of its last t"):
        _model(gpt).tune([long, long])
    model = _model(gpt)
    keeps = model.tokenizer
    model._inner = lambda row: keeps(" ".join(row))["input_ids"]  # type: ignore[method-assign]
    with pytest.raises(UserError, match="tokenizer loses the ends of lines"):
        model.tune([short])


def test_what_is_scored_or_there_already_or_no_row_does_not_stay() -> None:
    scored = Evaluated([("Planted here.", "twice")])
    sieve = Sieve(2, scored, None, seen={("old", "row")})
    drawn = ["a\nb", "no second", "planted  HERE\nother", "x\nTwice!", "Old\nrow.", "A\nb", "c\n ",
             "d\ne", "f\ng"]  # fmt: skip
    rounds: list[tuple[int, int]] = []

    def sample(count: int, number: int) -> list[str]:
        rounds.append((count, number))
        return drawn if not number else ["h\ni"] * count

    kept, counts = sieve.fill(0, 3, 3, sample)
    assert kept == [("a", "b"), ("d", "e"), ("f", "g")]
    assert counts == {"sampled": 9, "malformed": 2, "left_out_as_duplicates": 2,
                      "left_out_as_evaluated": 2, "left_out_by_teacher": 0, "rows": 3}  # fmt: skip
    kept, counts = sieve.fill(0, 3, 3, lambda count, number: ["d\ne"] * count)
    assert (kept, counts["sampled"]) == ([], 9)  # no more samples than are allowed
    assert rounds == [(9, 0)]


class _Likes:
    """A teacher that gives the texts that hold a word to the second label, by .8."""

    def __init__(self, word: str) -> None:
        self.word = word

    def tokenised(self, rows: Split) -> Split:
        return rows

    def probabilities(self, rows: Split, batch_size: int) -> Any:
        second = np.array([0.8 if self.word in t[0] else 0.1 for t in rows.texts])
        return np.stack([1 - second, second], axis=1)


@pytest.mark.parametrize(("threshold", "stays"), [(0.0, True), (0.8, True), (0.81, False)])
def test_a_teacher_says_which_samples_stay(threshold: float, stays: bool) -> None:
    teacher: Any = _Likes("warm")
    sieve = Sieve(1, Evaluated([]), teacher, threshold)
    kept, counts = sieve.fill(1, 2, 1, lambda *_: ["warm a", "dull b"])
    assert kept == ([("warm a",)] if stays else [])
    assert counts["left_out_by_teacher"] == (1 if stays else 2)


def _task(folder: Path, train: Sequence[str], dev: Sequence[str]) -> list[str]:
    (folder / "SST-2").mkdir(exist_ok=True)
    for name, texts in (("train", train), ("dev", dev)):
        rows = [f"{text}\t{i % 2}\n" for i, text in enumerate(texts)]
        (folder / "SST-2" / f"{name}.tsv").write_text(HEADER + "".join(rows))
    return ["task=sst2", "data=local", f"data.dir={folder}", "data.train_size=12"]


def test_a_run_trains_on_generated_rows_and_a_control_on_as_many_updates(
    cli: Cli, tiny_folder: Callable[[str], Path], gpt: Path, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    train = [f"{('dull', 'warm')[i % 2]} {i}" for i in range(12)]
    given = [*tiny(tiny_folder("bert")), *_task(tmp_path, train, ["planted one", "planted two"])]
    given = [a for a in given if a != "data=embedded"] + ["data.eval_size=null", "threads=1"]
    given += ["budget.steps=null", "budget.epochs=2", "budget.batch_size=4"]
    assert cli(*given, "save=delta").code == 0
    [gold] = read_all(tmp_path / "runs")
    own = LanguageModel.sample
    monkeypatch.setattr(
        LanguageModel, "sample",
        lambda self, count, number: ["Planted one!", *own(self, count, number)][:count],
    )  # fmt: skip
    asks = [f"data.generated.generator={gpt}", "data.generated.max_tokens=12"]
    asks += ["data.generated.epochs=1", "data.generated.times=2"]
    done = cli(*given, *asks)
    assert done.code == 0, done.err
    with monkeypatch.context() as patch:
        patch.setattr(LanguageModel, "tune", None)  # what is made is made once
        assert cli(*given, *asks, "data.generated.control=updates").code == 0
    by = {r.data["generated"] and r.config["data"]["generated"]["control"]: r
          for r in read_all(tmp_path / "runs") if "generated" in r.data}  # fmt: skip
    student, control = by[None], by["updates"]
    facts = student.data["generated"]
    assert facts["left_out_as_evaluated"]["negative"] >= 1
    assert facts["generator"]["sha256"]
    [file] = (tmp_path / "runs" / ".generated").glob("*.json")
    rows = json.loads(file.read_text())["rows"]
    texts = {texts[0] for _, texts in rows}
    assert not {"planted one", "planted two", *train} & {text.casefold() for text in texts}
    assert len(rows) == sum(facts["rows"].values()) == len(texts) == 24
    assert student.steps == control.steps == 2 * -(-(12 + 24) // 4)
    assert student.data["splits"] == control.data["splits"] == gold.data["splits"]
    assert all(recorded_name(r) == r.run for r in by.values())
    [table] = tables([gold, *by.values()])
    assert sorted(row.method for row in table.rows) == [
        "full", "full with generated rows", "full, as many updates as with generated rows",
    ]  # fmt: skip
    again = cli(f"verify={student.run}", f"out={tmp_path / 'runs'}")
    assert again.code == 0, again.err
    assert "equal to the bit" in again.out


def test_a_teacher_of_a_chain_says_which_rows_stay(
    cli: Cli, tiny_folder: Callable[[str], Path], gpt: Path, tmp_path: Path
) -> None:
    given = [*tiny(tiny_folder("bert")), *_task(tmp_path, [f"row {i}" for i in range(12)], "ab")]
    given = [a for a in given if a != "data=embedded"] + ["data.eval_size=null", "budget.steps=2"]
    asks = [
        f"data.generated.generator={gpt}",
        "data.generated.most=4",
        "data.generated.max_tokens=12",
    ]
    listed = cli(*given, *asks, "data.generated.teacher=stage", "plan=true")
    assert listed.code == 0, listed.err
    assert [line.split()[0] for line in listed.out.splitlines()] == ["missing", "waiting"]
    assert cli(*given, "save=delta").code == 0
    [gold] = read_all(tmp_path / "runs")
    strict = [f"data.generated.teacher={gold.run}", "data.generated.threshold=1"]
    done = cli(*given, *asks, *strict)
    assert done.code == 2
    assert "samples were drawn, and none stays (" in done.err
    assert "24 left out by teacher" in done.err


@pytest.mark.parametrize(
    ("typed", "said"),
    [
        (["data.generated.threshold=2"], "data.generated.threshold=2 (must be ≤ 1)"),
        (["data.generated.times=0"], "data.generated.times=0 (must be ≥ 1)"),
        (["data.generated.top_p=0"], "data.generated.top_p=0 (must be > 0)"),
        (["data.generated.threshold=0.5"], "is the probability that a teacher gives"),
        (["data.generated.generator=null", "data.generated.times=5"], "would change nothing"),
        (["data.generated.control=updates", "budget.steps=4"], "do that one"),
        (["data.pseudo.teacher=stage", "data.train_size=9"], "two ways to more rows"),
        (["data.mine.source=train"], "two ways to more rows"),
        (["task=stsb"], "task=stsb is of kind=regression; leave it out"),
        (["method=dp"], "data.generated with method=dp"),
        (["task.class_weights=balanced"], "give a number for each label"),
    ],
)
def test_what_cannot_be_generated_is_one_sentence(typed: list[str], said: str) -> None:
    given = ["task=sst2", "data=embedded", "data.generated.generator=GPT"]
    if typed[0].startswith("task=s"):
        given.remove("task=sst2")
    with pytest.raises(UserError, match=re.escape(said)):
        configure(*given, *typed)


def test_no_generator_is_one_sentence(
    cli: Cli, tiny_folder: Callable[[str], Path], gpt: Path, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    given = tiny(tiny_folder("bert"), "task=sst2", "data.train_size=12")
    for named, said in [
        (str(tmp_path / "none"), "no such folder; name the folder of a causal language model"),
        ("nobody/no-such-gpt", "no generator can be had: model nobody/no-such-gpt could not be"),
        (str(tiny_folder("bert")), "holds BertModel; name the folder of a causal"),
    ]:
        done = cli(*given, f"data.generated.generator={named}")
        assert (done.code, done.err.count("error: ")) == (2, 1), done.err
        assert said in done.err
        assert "model=minilm" not in done.err
    done = cli(*given, f"data.generated.generator={gpt}", "data.generated.max_tokens=40")
    assert "the generator reads 32 tokens; ask for fewer" in done.err


def test_what_is_kept_is_of_one_teacher_and_its_labels() -> None:
    """Two runs may leave the same tensors, and two tasks have the same rows."""
    settings = configure("task=sst2", "data=embedded", "data.generated.generator=GPT").settings

    def key(run: str, labels: list[str]) -> str:
        task = settings.task.model_copy(update={"labels": labels})
        job: Any = SimpleNamespace(
            config=SimpleNamespace(
                settings=settings.model_copy(update={"task": task}), precision="fp32"
            ),
            generator=SimpleNamespace(sha256="g", files_sha256="f"),
            teacher=SimpleNamespace(run=run, sha256="t"),
            data=SimpleNamespace(
                train=SimpleNamespace(sha256="r"), evaluated=SimpleNamespace(sha256="e")
            ),
        )
        return generated._key(job, "cpu")

    assert key("one", ["no", "yes"]) == key("one", ["no", "yes"])
    assert len({key("one", ["no", "yes"]), key("two", ["no", "yes"]), key("one", ["a", "b"])}) == 3


def test_no_generator_is_told_before_its_teacher_is_trained(
    cli: Cli, tiny_folder: Callable[[str], Path], gpt: Path, tmp_path: Path
) -> None:
    given = tiny(tiny_folder("bert"), "task=sst2", "data.train_size=12", "plan=true")
    named = f"data.generated.generator={tmp_path / 'none'}"
    done = cli(*given, named, "data.generated.teacher=stage")
    assert done.code == 2
    assert "no such folder; name the folder of a causal language model" in done.err
    long = [f"data.generated.generator={gpt}", "data.generated.max_tokens=40"]
    done = cli(*given, *long, "data.generated.teacher=stage")
    assert done.code == 2
    assert "the generator reads 32 tokens; ask for fewer" in done.err
