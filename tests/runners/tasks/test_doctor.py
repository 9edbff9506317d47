"""What a run says of its data before it trains, against counts made by hand."""

from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from results.errors import UserError
from results.record import read_all
from runners.config.compose import composing
from runners.data.split import Split
from runners.jobs.job import Job
from runners.models.weights import find_weights
from runners.runs.doctor import doctor
from runners.tasks.doctor import Examination, examine
from runners.tasks.kinds import kind_of
from runners.tasks.tokens import tokenize
from tests.conftest import Cli, configure, tiny
from tests.tiny import TEXTS

Folder = Callable[[str], Path]
TASK = """
name: mine
text: [text]
labels: [dull, warm, odd]
metrics: [accuracy]
local: {{train: {folder}/train.csv, report: {{validation: {folder}/dev.csv}}}}
"""
CHINESE = "这部电影的情节很无聊但是演员很好"
LONG = " ".join(TEXTS)


def _write(path: Path, rows: list[tuple[str, ...]], header: tuple[str, ...]) -> None:
    with path.open("w", newline="") as stream:
        csv.writer(stream).writerows([header, *rows])


def _own(tmp_path: Path, train: list[Any], dev: list[Any], text: str = TASK) -> Path:
    _write(tmp_path / "train.csv", train, ("text", "label"))
    _write(tmp_path / "dev.csv", dev, ("text", "label"))
    (tmp_path / "own" / "task").mkdir(parents=True)
    (tmp_path / "own" / "task" / "mine.yaml").write_text(text.format(folder=tmp_path))
    return tmp_path / "own"


def test_a_run_says_what_its_data_is_and_keeps_it_in_the_record(
    tmp_path: Path, tiny_folder: Folder, cli: Cli
) -> None:
    train = [("the film is warm", "warm")] * 3 + [("the  film is warm", "warm"), (" ", "dull")]
    train += [(f"{TEXTS[i % 3]} {i}", ("dull", "odd")[i % 2]) for i in range(10)]
    train += [(CHINESE, "odd"), (LONG, "dull"), (LONG + " x", "dull")]
    dev = [("the film is warm", "warm"), (CHINESE + "!", "warm"), (LONG, "warm"), ("x", "warm")]
    own = _own(tmp_path, train, dev)
    typed = ["task=mine", "budget=smoke", "budget.max_length=24", "device=cpu", "data=local"]
    typed += [f"model.name_or_path={tiny_folder('bert')}", "--config-dir", str(own)]
    done = cli(*typed)
    assert done.code == 0, done.err
    [record] = read_all(tmp_path / "runs")
    doctor_says = record.data["doctor"]
    ours, theirs = doctor_says["splits"]["train"], doctor_says["splits"]["validation"]
    assert ours["classes"] == {"dull": 8, "warm": 4, "odd": 6}
    assert ours["majority"] == {"answer": "dull", "accuracy": 0.444444}
    assert (ours["rows"], ours["empty"], ours["copies"], ours["truncated"]) == (18, 1, 3, 2)
    assert (theirs["copies"], theirs["truncated"], theirs["also_in_train"]) == (0, 1, 2)
    tokenizer = AutoTokenizer.from_pretrained(tiny_folder("bert"))
    read = [tokenizer(t, truncation=True, max_length=24)["input_ids"][1:-1] for t, _ in train]
    assert ours["tokens"] == sum(map(len, read))
    assert ours["unknown_tokens"] == sum(row.count(tokenizer.unk_token_id) for row in read) > 0
    block = [line for line in done.err.splitlines() if line.startswith("DATA: ")]
    assert len(block) <= 8
    assert "train: 18 rows: dull 8 (44.4 %), warm 4 (22.2 %), odd 6 (33.3 %)" in block[0]
    for said in (
        "truncated",
        "2 of 4 rows of validation; scores come out too high",
        "cut at budget.max_length=24: train 11.1 %, validation 25.0 %; give it more",
        "read as [UNK], unknown to the model: train",
        "all rows have one answer: validation",
    ):
        assert any(said in line for line in block if "WARNING" in line) or said == "truncated"
    assert [f"DATA: WARNING: {w}" for w in doctor_says["warnings"]] == block[2:]
    again = cli(*typed)
    assert "DATA:" not in again.err
    assert "stored result" in again.out


def test_what_a_vocabulary_lacks_is_counted(tmp_path: Path) -> None:
    """On the packaged encoder; a byte-level vocabulary lacks nothing."""
    own = _own(tmp_path, [(CHINESE, "dull"), ("a", "warm"), ("b", "odd")], [("c", "odd")])
    job = Job(configure("task=mine", "data=local", config_dir=own))
    kind = kind_of(job.config)
    packaged = AutoTokenizer.from_pretrained(job.weights.folder)
    ids = packaged(CHINESE)["input_ids"]
    unknown = ids.count(packaged.unk_token_id)
    assert unknown / (len(ids) - 2) > 0.7
    examination = examine(job, kind, kind.encode(job, packaged), packaged)
    facts = examination.splits["train"]
    assert (facts["unknown_tokens"], facts["tokens"]) == (unknown, len(ids))
    [warning] = [w for w in examination.warnings if "[UNK]" in w]
    assert "by model.name_or_path=" in warning
    assert "validation" not in warning
    bytes_only = Tokenizer(models.BPE())
    bytes_only.pre_tokenizer = pre_tokenizers.ByteLevel()
    bytes_only.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    names = ["<s>", "<pad>", "</s>", "<unk>"]
    trainer = trainers.BpeTrainer(
        vocab_size=270, special_tokens=names, initial_alphabet=alphabet, show_progress=False
    )
    bytes_only.train_from_iterator(TEXTS, trainer)
    special = dict(zip(("bos_token", "pad_token", "eos_token"), names, strict=False))
    for unk in ("<unk>", "</s>"):
        fast: Any = PreTrainedTokenizerFast
        tokenizer = fast(tokenizer_object=bytes_only, unk_token=unk, **special)
        split = Split("train", ((CHINESE + unk[:1],),), None)  # apart in the cache of tokens
        encoded = kind.collator(split, job, tokenizer)  # type: ignore[attr-defined]
        seen = examine(job, kind, dict.fromkeys(job.data.splits(), encoded), tokenizer)
        assert seen.splits["train"].get("unknown_tokens") == (0 if unk == "<unk>" else None)
        assert [w for w in seen.warnings if "unknown" in w] == []


def _seen(tiny_folder: Folder, *typed: str) -> Examination:
    given = tiny(tiny_folder("bert"), "data.train_size=20", "data.eval_size=10", *typed)
    return doctor(*given)


def test_each_kind_of_task_is_examined_as_it_is(tiny_folder: Folder) -> None:
    regression = _seen(tiny_folder, "task=stsb")
    job = Job(configure("task=stsb", "data=embedded"))
    scores = np.asarray(job.data.train.labels)
    facts = regression.splits["train"]
    assert facts["drawn_from"]["rows"] == len(scores)
    assert facts["drawn_from"]["mean"] == pytest.approx(scores.mean(), rel=1e-5)
    assert 0 <= facts["lowest"] < facts["mean"] < facts["highest"] <= 5
    assert "classes" not in facts
    assert "of all" in regression.lines()[0]

    drawn = _seen(tiny_folder, "task=mrpc").splits["train"]
    assert drawn["classes"] == {"not_equivalent": 10, "equivalent": 10}
    whole = drawn["drawn_from"]["classes"]
    assert sum(whole.values()) == drawn["drawn_from"]["rows"] > 1000

    mixed = _seen(tiny_folder, "task=mix", "task.mixture.of=[rte,stsb]").splits
    assert list(mixed) == ["rte/train", "stsb/train", "rte/validation", "stsb/validation"]
    assert mixed["rte/train"]["classes"] == {"entailment": 10, "not_entailment": 10}
    assert mixed["stsb/validation"]["mean"] > 0
    assert mixed["rte/train"]["drawn_from"]["rows"] > 20

    masked = _seen(tiny_folder, "task=mlm", "mlm.on=[rte]")
    assert list(masked.splits) == ["train", "held_out"]
    assert "classes" not in masked.splits["train"]
    assert masked.splits["train"]["tokens"] > 20

    vectors = _seen(tiny_folder, "task=sts", "method=simcse", "budget.max_length=8")
    assert vectors.splits["train"]["rows"] == 20
    assert "mean" not in vectors.splits["train"]
    sets = [facts for name, facts in vectors.splits.items() if name != "train"]
    assert all(facts["mean"] > 0 and facts["truncated"] > 1 for facts in sets)


def test_options_that_the_limit_makes_alike_are_warned_of(
    tmp_path: Path, tiny_folder: Folder
) -> None:
    """The first one is answered then, whatever the model is."""
    text = TASK.replace("text: [text]", "kind: multiple_choice\ntext: [q, s]\noptions: [a, b, c]")
    own = _own(tmp_path, [], [], text)
    short = ("who", "the", "dog", "cat", "cat", "dull")
    train = [
        *(short, ("who", "the " * 30, "dog", "cat", "it", "warm")),
        *(("it", "the " * 40, "a dog", "a cat", "it", "odd"),),
        *(("who " * 30, "the", "dog", "cat", "it", "odd"),),
    ]
    header = ("q", "s", "a", "b", "c", "label")
    _write(tmp_path / "train.csv", train, header)
    _write(tmp_path / "dev.csv", [short, short], header)
    typed = ["task=mine", "data=local", "budget.max_length=24"]
    typed.append(f"model.name_or_path={tiny_folder('bert')}")
    seen = doctor(*typed, config_dir=own)
    assert seen.splits["train"]["truncated"] == 3
    assert seen.splits["train"]["options_alike"] == 2
    assert "options_alike" not in seen.splits["validation"]
    [said] = [warning for warning in seen.warnings if warning.startswith("options read alike")]
    assert "cut off at budget.max_length=24: 2 of 4 rows of train; give it more" in said


def test_a_right_option_that_never_occurs_is_named(tmp_path: Path, tiny_folder: Folder) -> None:
    text = TASK.replace("text: [text]", "kind: multiple_choice\ntext: [q]\noptions: [a, b, c]")
    own = _own(tmp_path, [], [], text)
    rows = [(f"who {i}", "anna", "bruno", "the cast", ("dull", "warm")[i % 2]) for i in range(6)]
    _write(tmp_path / "train.csv", rows, ("q", "a", "b", "c", "label"))
    _write(tmp_path / "dev.csv", rows[:3], ("q", "a", "b", "c", "label"))
    typed = ["task=mine", "data=local", "budget.max_length=24"]
    typed.append(f"model.name_or_path={tiny_folder('bert')}")
    seen = doctor(*typed, config_dir=own)
    assert seen.splits["train"]["classes"] == {"dull": 3, "warm": 3, "odd": 0}
    assert seen.splits["validation"]["also_in_train"] == 3
    assert any("no row of train is labelled 'odd'" in warning for warning in seen.warnings)


@pytest.mark.parametrize("silent", [False, True])
@pytest.mark.parametrize("truncate", ["head", "tail"])
def test_only_texts_that_lose_tokens_count_as_cut(
    silent: bool, truncate: Any, tiny_folder: Folder
) -> None:
    tokenizer: Any = AutoTokenizer.from_pretrained(tiny_folder("bert"))
    weights = find_weights(configure(*tiny(tiny_folder("bert"))).settings.model)

    class Silent(type(tokenizer)):  # type: ignore[misc]
        """Does not say what it cut."""

        def __call__(self, *texts: Any, **options: Any) -> Any:
            return dict(super().__call__(*texts, **options))

    if silent:
        tokenizer = Silent.from_pretrained(tiny_folder("bert"))
    exact = "anna bought the house in paris"  # of 6 words, and 2 tokens around them
    ending = f"{silent} {truncate}"[-1]  # apart in the cache
    split = Split("train", ((exact,), (f"{exact} {ending}",), ("anna",)), None)
    for _ in range(2):  # the second time from the cache
        tokens = tokenize(split, tokenizer, weights, 8, truncate)
        assert tokens.lengths.tolist() == [8, 8, 3]
        assert tokens.truncated.tolist() == [False, True, False]
    pair = Split("train", (("anna bought", "the house"), (exact, ending)), None)
    assert tokenize(pair, tokenizer, weights, 7).truncated.tolist() == [False, True]
    taken = tokens.take(np.array([2, 0, 2]))
    assert taken.lengths.tolist() == [3, 8, 3]
    assert taken.input_ids.tolist() == [
        *tokens.input_ids[16:], *tokens.input_ids[:8], *tokens.input_ids[16:]
    ]  # fmt: skip


@pytest.mark.real_data
def test_dev_rows_of_real_data_that_are_in_train_are_warned_of(real_glue: Path) -> None:
    seen = doctor("task=cola", "data=local", f"data.dir={real_glue}", "budget.max_length=24")
    assert seen.splits["validation"]["also_in_train"] == 16
    assert any("16 of 1,043 rows of validation" in warning for warning in seen.warnings)


def test_what_hydra_cannot_read_is_a_sentence_inside_of_its_application_too(
    tmp_path: Path,
) -> None:
    with composing():
        for typed, said in (
            ("taks=rte", "no key called 'taks'"),
            ("task=rt", "no task called 'rt'"),
        ):
            with pytest.raises(UserError, match=said):
                doctor(typed)
        with pytest.raises(UserError, match=r"config_dir=.*none: no such folder"):
            doctor("task=rte", config_dir=tmp_path / "none")
