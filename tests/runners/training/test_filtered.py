"""Mined rows that the untrained model answers otherwise are dropped; answers are made by hand."""

from __future__ import annotations

import itertools
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers

from results.errors import UserError
from results.record import Record, read_all
from results.tables.collect import tables
from results.tables.labels import labels
from runners.data.load import filtered, load_task_data
from runners.data.split import Split, TaskData
from runners.exports.delta import load_delta
from runners.jobs.identity import recorded_name
from runners.jobs.job import Job
from runners.machine.device import make_accelerator
from runners.training import filtered as filtering
from tests.conftest import Cli, configure, tiny
from tests.runners.training.test_checkpoint import outcome, whole_and_cut
from tests.tiny import TEXTS, save_masked, save_tiny

Texts = Sequence[str]
WORDS = sorted({word for text in TEXTS for word in text.split() if len(word) > 2})
ROWS = [" ".join(pair).capitalize() + "." for pair in itertools.permutations(WORDS[::4], 2)][:36]
DESCRIBED = ["dogs was.", "music plot."]  # near to about as many rows each
AS_DESCRIBED = f"task.descriptions={{negative: {DESCRIBED[0]}, positive: {DESCRIBED[1]}}}"
HEADER = "sentence\tlabel\n"


def _wide(folder: Path, head: bool) -> Path:
    """Make a tiny model's matrices larger, so that its answers to two texts differ by more."""
    auto: Any = transformers.AutoModelForMaskedLM if head else transformers.AutoModel
    model = auto.from_pretrained(folder)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(8 if parameter.dim() > 1 else 1)
    model.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return _wide(save_tiny("bert", tmp_path_factory.mktemp("encoder") / "tiny"), head=False)


@pytest.fixture(scope="module")
def masked(encoder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("masked") / "tiny-mlm"
    return _wide(save_masked(encoder, folder), head=True)


@pytest.fixture
def mining(tmp_path: Path) -> list[str]:
    """Return what to type for rows of which every third is mined for negative."""
    verbs = [("good", "bad")[n % 3 == 0] for n in range(len(ROWS))]
    lines = [f"It is {verb}. {row}\n" for verb, row in zip(verbs, ROWS, strict=True)]
    (tmp_path / "text.txt").write_text("".join(lines))
    return ["data.mine.source=text", f"data.text={tmp_path / 'text.txt'}"]


GOLD = np.array([int(n % 3 != 0) for n in range(len(ROWS))])


def _local(
    folder: Path,
    train: Sequence[tuple[str, int]] = (("row one", 0), ("row two", 1)),
    dev: Texts = ("so it is", "so it was"),
) -> list[str]:
    (folder / "SST-2").mkdir(parents=True)
    rows = "".join(f"{text}\t{label}\n" for text, label in train)
    (folder / "SST-2" / "train.tsv").write_text(HEADER + rows)
    scored = "".join(f"{text}\t{n % 2}\n" for n, text in enumerate(dev))
    (folder / "SST-2" / "dev.tsv").write_text(HEADER + scored)
    return [f"data.dir={folder}"]


def _typed(model: Path, *more: str) -> list[str]:
    given = [a for a in tiny(model, "task=sst2", "data=local") if a != "data=embedded"]
    given += ["data.train_size=null", "data.eval_size=null", "budget.epochs=2", "budget.steps=null"]
    return [*given, "budget.batch_size=4", *more]


def _at_masks(model: Any, folder: Path, texts: Texts) -> torch.Tensor:
    """Return the whole head's logits at the mask of each text, [texts, vocabulary]."""
    tokenizer: Any = transformers.AutoTokenizer.from_pretrained(folder)
    logits = []
    for text in texts:
        batch = tokenizer(f"{text} It was [MASK].", return_tensors="pt")
        with torch.no_grad():
            [of_row] = model(**batch).logits
        [at] = (batch["input_ids"][0] == tokenizer.mask_token_id).nonzero()
        logits.append(of_row[int(at)])
    return torch.stack(logits)


def _evenly(logits: torch.Tensor, folder: Path) -> tuple[list[str], np.ndarray[Any, Any]]:
    """Return two words that a random head predicts each of often, and where it does the second.

    Of such words they are those between which no answer is close.
    """
    tokenizer: Any = transformers.AutoTokenizer.from_pretrained(folder)

    def margins(pair: tuple[str, str]) -> torch.Tensor:
        one, two = tokenizer.convert_tokens_to_ids(list(pair))
        return logits[:, two] - logits[:, one]

    def closest(pair: tuple[str, str]) -> float:
        often = 0.3 < float((margins(pair) > 0).float().mean()) < 0.7
        return float(margins(pair).abs().min()) if often else -1.0

    best = max(itertools.combinations(WORDS, 2), key=closest)
    assert closest(best) > 1e-4
    return [*best], (margins(best) > 0).long().numpy()


def _of_words(words: Sequence[str]) -> str:
    return f"task.prompt.words={{negative: {words[0]}, positive: {words[1]}}}"


def _kept(answers: np.ndarray[Any, Any]) -> list[tuple[str, int]]:
    return [(t, int(k)) for t, k, a in zip(ROWS, GOLD, answers, strict=True) if k == a]


def _by_class(rows: Sequence[tuple[str, int]]) -> dict[str, int]:
    return {name: sum(k == n for _, k in rows) for n, name in enumerate(("negative", "positive"))}


def test_rows_stay_that_the_model_answers_by_hand_as_they_were_mined(
    cli: Cli,
    masked: Path,
    mining: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What is trained is what the same rows give as a task's own train."""
    whole = transformers.AutoModelForMaskedLM.from_pretrained(masked).eval()
    words, answers = _evenly(_at_masks(whole, masked, ROWS), masked)
    kept = _kept(answers)
    assert 0 < len(kept) < len(ROWS)
    prompt = _of_words(words)
    own = _local(tmp_path / "own")
    run = _typed(masked, *own, *mining, "data.mine.balance=false")
    done = cli(*run, prompt, "data.mine.filter=mlm_prompt")
    assert done.code == 0, done.err
    assert f"{len(kept)} of {len(ROWS)} mined rows stay" in done.err
    [record] = read_all(tmp_path / "runs")
    facts = record.data["mined"]
    dropped = {k: n - _by_class(kept)[k] for k, n in facts["matched"].items()}
    assert facts["left_out_by_filter"] == dropped
    assert facts["rows"] == _by_class(kept)
    assert facts["filter"]["name"] == "mlm_prompt"
    assert record.data["splits"]["train"]["rows"] == len(kept)
    texts, gold = tuple((text,) for text, _ in kept), tuple(label for _, label in kept)
    assert record.data["splits"]["train"]["sha256"] == Split("train", texts, gold).sha256
    assert record.data["doctor"]["splits"]["train"]["rows"] == len(kept)
    assert record.peak_bytes is None
    assert recorded_name(record) == record.run
    assert len([*(tmp_path / "runs" / ".mined").iterdir()]) == 1
    assert "stored result" in cli(*run, prompt, "data.mine.filter=mlm_prompt").out
    same = _local(tmp_path / "same", kept)
    assert cli(*_typed(masked, *same, f"out={tmp_path / 'plain'}")).code == 0
    [plain] = read_all(tmp_path / "plain")
    assert (plain.losses, plain.trained_sha256) == (record.losses, record.trained_sha256)

    def refuse(*_: object) -> None:
        raise AssertionError("answers are kept")

    monkeypatch.setattr(filtering, "load_untrained", refuse)
    again = cli(*run, prompt, "data.mine.filter=mlm_prompt", "method=bitfit")
    assert again.code == 0, again.err
    monkeypatch.undo()
    assert "equal to the bit" in cli(f"verify={record.run}", mining[1], *own).out


def test_a_run_that_goes_on_has_the_same_rows(
    cli: Cli,
    encoder: Path,
    mining: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    own = _local(tmp_path / "own")
    typed = _typed(encoder, *own, *mining, AS_DESCRIBED, "protocol=select")
    typed += ["data.mine.filter=description_cosine", "data.seed=seed"]
    whole, cut = whole_and_cut(cli, typed, tmp_path, monkeypatch, 2)
    assert cut.resumed
    assert outcome(cut) == outcome(whole)
    assert cut.data["splits"] == whole.data["splits"]
    assert cut.data["splits"].keys() == {"train", "selection", "validation"}
    assert recorded_name(cut) == cut.run


@pytest.mark.parametrize(
    "typed",
    [
        ["method=mlm_prompt", "method.mlm_prompt.words=[dull,warm]"],
        ["method=unimc", "method.unimc.right=the", "method.unimc.wrong=film",
         "method.unimc.options=[dull,warm]", "method.unimc.question=the"],
        ["method=description_cosine"],
    ],
)  # fmt: skip
def test_rows_are_answered_as_by_a_run_of_that_method_without_training(
    typed: list[str], cli: Cli, masked: Path, mining: list[str], tmp_path: Path
) -> None:
    own = _local(tmp_path / "own")
    given = [*_typed(masked, *own, *mining, *typed), f"out={tmp_path / 'runs'}"]
    job = Job(configure(*given, f"data.mine.filter={typed[0].removeprefix('method=')}"))
    zero = _local(tmp_path / "zero", dev=ROWS)
    assert cli(*_typed(masked, *zero, *typed, "budget.epochs=0")).code == 0
    [scored] = read_all(tmp_path / "runs")
    assert scored.predictions["validation"]["predictions"] == _answered(job)


def _load(*typed: str) -> TaskData:
    settings = configure("task=sst2", *typed).settings
    return load_task_data(settings.task, settings.data, settings.protocol, seed=settings.seed)


def test_draws_are_of_the_rows_that_stay(mining: list[str], tmp_path: Path) -> None:
    own = [*_local(tmp_path / "own"), "data=local"]
    typed = [*own, *mining, "data.mine.per_class=7", "data.mine.filter=description_cosine"]
    stays = [n % 2 == 0 or label == 0 for n, label in enumerate(GOLD)]
    settings = configure("task=sst2", *typed, "protocol=select").settings
    before = _load(*typed, "protocol=select")
    after = filtered(before, settings, stays)
    assert after.mined is not None
    assert after.mined["left_out_by_filter"] == {"negative": 0, "positive": 12}
    assert after.mined["left_out_by_per_class"] == {"negative": 5, "positive": 5}
    assert after.mined["rows"] == {"negative": 7, "positive": 7}
    assert after.selection is not None
    learned = {*after.train.texts, *after.selection.texts}
    assert len(learned) == len(after.train) + len(after.selection) == 14
    allowed = [text for text, stay in zip(ROWS, stays, strict=True) if stay]
    assert {text for (text,) in learned} <= {*allowed}
    assert after.report == before.report
    assert after.mined["sha256"] == before.mined["sha256"]  # type: ignore[index]
    few = configure("task=sst2", *typed, "data.train_size=14").settings
    with pytest.raises(UserError, match=r"of the 12 rows mined for negative so; give it more text"):
        filtered(_load(*typed), few, [label == 1 for label in GOLD])
    less = [n < 12 for n in range(len(ROWS))]
    with pytest.raises(UserError, match=r"data.train_size=14: sst2's train has 8 examples"):
        filtered(_load(*typed), few, less)


def test_descriptions_are_compared_as_by_hand(
    encoder: Path, mining: list[str], tmp_path: Path
) -> None:
    model: Any = transformers.AutoModel.from_pretrained(encoder).eval()
    tokenizer: Any = transformers.AutoTokenizer.from_pretrained(encoder)
    for pooling in ("cls", "mean"):
        vectors = []
        for text in [*DESCRIBED, *ROWS]:
            with torch.no_grad():
                [states] = model(**tokenizer(text, return_tensors="pt")).last_hidden_state
            vectors.append(states[0] if pooling == "cls" else states.mean(dim=0))
        each = torch.nn.functional.normalize(torch.stack(vectors), dim=1)
        answers = (each[2:] @ each[:2].T).argmax(dim=1).tolist()
        assert 0 < sum(answers) < len(ROWS)
        out = tmp_path / pooling
        own = _local(out)
        typed = _typed(encoder, *own, *mining, AS_DESCRIBED, f"model.pooling={pooling}")
        asking = ["data.mine.filter=description_cosine", f"out={out}"]
        assert _answered(Job(configure(*typed, *asking))) == answers


def _answered(job: Job) -> list[int]:
    assert job.config.zero_shot is not None
    assert job.data.all_mined is not None
    accelerator = make_accelerator("cpu", job.config)
    rows = job.data.all_mined
    return [*map(int, filtering._answers(job, job.config.zero_shot, rows, accelerator))]


def test_a_start_answers_and_the_runs_own_template_is_read(
    cli: Cli, encoder: Path, mining: list[str], tmp_path: Path
) -> None:
    """A stage of masking leaves an encoder and the head that answers."""
    out = f"out={tmp_path / 'runs'}"
    assert cli(*tiny(encoder, "task=mlm", "mlm.on=[sst2]", "save=delta", out)).code == 0
    [before] = read_all(tmp_path / "runs")
    left = load_delta(tmp_path / "runs" / f"{before.run}.delta").loaded.model
    words, answers = _evenly(_at_masks(left, encoder, ROWS), encoder)
    own = _local(tmp_path / "own")
    typed = _typed(encoder, *own, *mining, "data.mine.filter=mlm_prompt", out)
    job = Job(configure(*typed, _of_words(words), f"start={before.run}"))
    assert _answered(job) == answers.tolist()
    replaced = f"method.mlm_prompt.words=[{words[1]},{words[0]}]"
    method = ["method=mlm_prompt", replaced, _of_words(words)]
    other = Job(configure(*typed, *method, f"start={before.run}"))
    assert _answered(other) == (1 - answers).tolist()
    done = cli(*typed, _of_words(words))
    assert done.code == 2
    assert "data.mine.filter=mlm_prompt answers alone: method=mlm_prompt: " in done.err
    assert "holds no head that predicts masked tokens" in done.err


def test_a_filter_is_in_the_name_and_in_the_row_where_it_is_set(
    masked: Path, mining: list[str], tmp_path: Path
) -> None:
    own = _local(tmp_path / "own")

    def job(*typed: str) -> Job:
        return Job(configure(*_typed(masked, *own, *mining, *typed)))

    plain = job()
    assert job("data.mine.filter=null").name == plain.name
    assert "filter" not in plain.config.settings.model_dump()["data"]["mine"]
    assert plain.config.settings.task.prompt is None
    prompt = "data.mine.filter=mlm_prompt"
    words = "task.prompt.words={negative: bad, positive: good}"
    names = [
        plain.name,
        *(job(prompt, *more).name for more in ((), (words,), ("data.mine.balance=false",))),
        *(job(prompt, more).name for more in ("data.seed=1", "data.train_size=10", "seed=1")),
        job("data.mine.filter=description_cosine").name,
    ]
    assert len({*names}) == len(names)
    unread = "task.descriptions={negative: bad, positive: good}"
    assert job(prompt, unread).name == job(prompt).name


def test_runs_with_other_filters_are_rows_of_their_own(
    cli: Cli, masked: Path, mining: list[str], tmp_path: Path
) -> None:
    own = _local(tmp_path / "own")
    whole = transformers.AutoModelForMaskedLM.from_pretrained(masked).eval()
    words, _ = _evenly(_at_masks(whole, masked, ROWS), masked)
    run = [*_typed(masked, *own, *mining, _of_words(words), AS_DESCRIBED), "budget.epochs=1"]
    for more in ([], ["data.mine.filter=mlm_prompt"], ["data.mine.filter=mlm_prompt", "seed=1"],
                 ["data.mine.filter=description_cosine"]):  # fmt: skip
        done = cli(*run, *more)
        assert done.code == 0, done.err
    records = read_all(tmp_path / "runs")
    [table] = tables([*records])
    assert table.tasks == ("sst2",)
    assert sorted(row.method for row in table.rows) == [
        *("full on mined rows", "full on mined rows filtered by description_cosine"),
        "full on mined rows filtered by mlm_prompt",
    ]
    by_mean = [r for r in records if r.data["mined"].get("filter", {}).get("pooling")]
    _check_told_apart(by_mean)


def _check_told_apart(records: list[Record]) -> None:
    """A filter with another option makes another row, which says so."""
    [one] = records
    facts = {**one.data["mined"], "filter": {**one.data["mined"]["filter"], "pooling": "cls"}}
    two = replace(one, run=f"{one.run}2", data={**one.data, "mined": facts})
    assert one.data["mined"]["filter"]["pooling"] == "mean"  # as model=minilm says
    rows = labels([one, two], {})
    assert "mine.filter.pooling=mean" in rows[one.run]
    assert "mine.filter.pooling=cls" in rows[two.run]


@pytest.mark.parametrize(
    ("typed", "said"),
    [
        (["data.mine.filter=rdrop"], "data.mine.filter='rdrop'"),
        (["task=sick"], "data.mine.filter=mlm_prompt reads a section prompt of a task's file, and"
                        " task=sick has none; write one, as configs/task/sst2.yaml has"),
        (["task=sick", "data.mine.filter=description_cosine"], "reads a section descriptions"),
        (["task=sick", "data.mine.filter=unimc"], "reads a section choices"),
        (["~task.prompt.words.negative"],
         "data.mine.filter=mlm_prompt: task.prompt.words has no word for negative"),
        (["task=stsb"], "task=stsb is of kind=regression; leave it out"),
        (["task=cola"], "task=cola says nowhere how its rows are mined"),
        (["data.mine.source=null", "data.text=null"], "would change nothing without data.mine"),
        (["task.class_weights=balanced"], "give a number for each label"),
        (["budget.epochs=0"], "budget.epochs=0 trains on no row that data.mine.filter=mlm_prompt"),
        (["data.mine.filter=description_cosine", "model.pooling=first_last"],
         "pools by cls or mean; type one of them as model.pooling="),
    ],
)  # fmt: skip
def test_what_cannot_be_filtered_is_one_sentence(typed: list[str], said: str) -> None:
    given = ["data=embedded", "data.mine.source=text", "data.text=FILE"]
    given += ["data.mine.filter=mlm_prompt"]
    given += [] if typed[0].startswith("task=") else ["task=sst2"]
    with pytest.raises(UserError, match=re.escape(said)) as refused:
        configure(*given, *typed)
    assert "problems in this config" not in str(refused.value)


def test_a_word_that_the_model_does_not_know_is_one_sentence(
    cli: Cli, masked: Path, mining: list[str], tmp_path: Path
) -> None:
    own = _local(tmp_path / "own")
    done = cli(*_typed(masked, *own, *mining, "data.mine.filter=mlm_prompt"))
    assert done.code == 2
    assert (
        "data.mine.filter=mlm_prompt answers alone: method=mlm_prompt: the word 'terrible'"
        in done.err
    )
    assert "in task.prompt.words" in done.err
    assert not read_all(tmp_path / "runs")


def test_a_start_with_inserted_modules_cannot_answer(
    cli: Cli, encoder: Path, mining: list[str], tmp_path: Path
) -> None:
    assert cli(*tiny(encoder, "task=rte", "method=lora", "save=delta")).code == 0
    [before] = read_all(tmp_path / "runs")
    done = cli(*tiny(encoder, "task=sst2", "data.train_size=null", *mining, "method=lora"),
               "data.mine.filter=description_cosine", f"start={before.run}")  # fmt: skip
    assert done.code == 2
    assert "data.mine.filter=description_cosine answers alone: start=" in done.err
    assert "or start from a run of a method that inserts nothing" in done.err


def test_a_control_of_a_chain_cannot_count_rows_that_are_yet_to_be_answered(
    cli: Cli, masked: Path, mining: list[str], tmp_path: Path
) -> None:
    typed = tiny(masked, "stages=[rte,sst2]", *mining, "data.mine.filter=description_cosine")
    done = cli(*typed, "stages.0.data.mine.source=null", "stages.0.data.mine.filter=null",
               "stages.0.data.text=null", "control=updates", "plan=true")  # fmt: skip
    assert done.code == 2
    assert "control=updates counts rows of each stage" in done.err
