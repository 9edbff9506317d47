"""Rows are mined by a task's patterns, and none of them is one that is scored."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from results.errors import UserError
from results.record import read_all
from results.tables.collect import tables
from results.tables.labels import labels
from runners.config.check import from_record
from runners.config.unlabelled import Mining
from runners.data.evaluated import Evaluated, normal
from runners.data.load import load_task_data
from runners.data.split import TaskData
from runners.jobs.identity import recorded_name
from runners.jobs.job import Job
from tests.conftest import Cli, configure, tiny
from tests.results.simulated import simulated

HEADER = "sentence\tlabel\n"


def _task(folder: Path, dev: list[str], train: int = 20) -> list[str]:
    """Write SST-2 in GLUE's layout; return what to type for it."""
    (folder / "SST-2").mkdir(exist_ok=True)
    rows = [f"row {i}\t{i % 2}\n" for i in range(train)]
    (folder / "SST-2" / "train.tsv").write_text(HEADER + "".join(rows))
    scored = [f"{text}\t{i % 2}\n" for i, text in enumerate([*dev, "so it is", "so it was"])]
    (folder / "SST-2" / "dev.tsv").write_text(HEADER + "".join(scored))
    return ["task=sst2", "data=local", f"data.dir={folder}"]


def _mined(folder: Path, lines: list[str], *typed: str, dev: list[str] | None = None) -> TaskData:
    text = folder / "text.txt"
    text.write_text("".join(f"{line}\n" for line in lines))
    given = [*_task(folder, dev or []), "data.mine.source=text", f"data.text={text}", *typed]
    settings = configure(*given).settings
    return load_task_data(settings.task, settings.data, settings.protocol, seed=settings.seed)


def _rows(data: TaskData) -> list[tuple[str, int]]:
    return [
        (texts[0], int(k))
        for texts, k in zip(data.train.texts, data.train.labels or (), strict=True)
    ]


def test_the_sentence_after_a_verbalizer_is_the_example(tmp_path: Path) -> None:
    lines = [
        'She said it was great in 3.5 ways. "I saw it twice." Then I left.',
        "The end is terrible! Nobody liked it",  # a text may end without a mark
        "This goodness is goodly. Not this one.",  # a verbalizer is a whole word
        "It is good",  # no sentence follows
        "It seems good. No is and no was.",
        "What was truly bad ... Is not what follows.",  # a word lies between
    ]
    data = _mined(tmp_path, lines)
    assert _rows(data) == [('"I saw it twice."', 1), ("Nobody liked it", 0)]
    assert data.mined is not None
    assert data.mined["matched"] == {"negative": 1, "positive": 1}
    assert (data.mined["documents"], data.complete["train"]) == (6, False)  # type: ignore[index]


def test_two_texts_around_a_verbalizer_are_a_pair(tmp_path: Path) -> None:
    settings = configure("task=mnli", "data=embedded").settings
    assert settings.task.mine is not None
    line = "One is here. Two rains. Therefore, three is wet. Four. For this reason, five."
    [pattern] = settings.task.mine.compiled("entailment")
    pairs = [(m["sentence2"], m["sentence1"]) for m in pattern.finditer(line)]
    assert pairs == [("Two rains.", "three is wet."), ("Four.", "five.")]
    [neutral] = settings.task.mine.compiled("neutral")
    assert neutral.search(line) is None


def test_a_vowel_sign_is_part_of_its_letter() -> None:
    """A boy and a girl were one word, and a verbalizer stood inside of words."""
    boy, girl = "लड़का अच्छा है.", "लड़की अच्छी है!"
    assert normal(boy) != normal(girl)
    scored = Evaluated([(boy,)])
    assert scored.has_text((boy.replace(".", " ।"),))
    assert not scored.has_text((girl,))
    assert normal("e\u0301te\u0301") == normal("été")  # composed where that can be
    assert normal("good \u2764\ufe0f") == "good"
    mine = Mining(patterns=["{V}"], verbalizers={"sport": ["खेल"], "warm": ["गर्म"]})
    [sport] = mine.compiled("sport")
    assert [m.span() for m in sport.finditer("खेलेंगे, खेल। आखेल")] == [(9, 12)]
    assert not mine.words("sport").search("खेलेंगे")


def test_a_topic_is_a_word_of_the_sentence_before(tmp_path: Path) -> None:
    data = _mined(
        tmp_path,
        ["In sport today. Ann won.", "Of politics, then more. Bob spoke."],
        "task.mine.patterns=['{V}{rest} {sentence}']",
        "task.mine.verbalizers={positive: [sport], negative: [politics]}",
    )
    assert _rows(data) == [("Ann won.", 1), ("Bob spoke.", 0)]


def test_copies_rows_of_two_labels_and_further_rows_are_counted_and_left_out(
    tmp_path: Path,
) -> None:
    good = [f"It is good. Fine {i}." for i in range(9)]
    lines = [*good, "It is great. fine 0", "It is bad. Poor.", "It is awful. Dull.",
             "It is bad. Same.", "It is good. Same."]  # fmt: skip
    data = _mined(tmp_path, lines, "data.mine.per_class=6")
    assert data.mined is not None
    assert data.mined["matched"] == {"negative": 3, "positive": 11}
    assert data.mined["left_out_as_of_two_labels"] == {"negative": 1, "positive": 1}
    assert data.mined["left_out_as_duplicates"] == {"negative": 0, "positive": 1}
    assert data.mined["left_out_by_per_class"] == {"negative": 0, "positive": 3}
    assert data.mined["left_out_by_balance"] == {"negative": 0, "positive": 4}
    assert data.mined["rows"] == {"negative": 2, "positive": 2}
    again = _mined(tmp_path, lines, "data.mine.per_class=6")
    assert again.train.sha256 == data.train.sha256
    other = _mined(tmp_path, lines, "data.mine.per_class=6", "data.seed=1")
    assert other.train.sha256 != data.train.sha256
    loose = _mined(tmp_path, lines, "data.mine.balance=false")
    assert loose.mined is not None
    assert loose.mined["rows"] == {"negative": 2, "positive": 9}


def test_nothing_that_is_scored_is_mined(tmp_path: Path) -> None:
    """Not where capitals, marks and blanks differ, nor beyond data.eval_size."""
    dev = ["the cast , warm as ever , shines .", "a bore", "why did i go ?"]
    lines = ["It is good. The cast, warm as ever, shines!", "It is good. Fine."]
    lines += ["It was bad.   Why did  I go?", "It was bad. Not a bore.", "It was bad. Did I go?"]
    data = _mined(tmp_path, lines, "data.eval_size=2", "data.mine.balance=false", dev=dev)
    assert _rows(data) == [("Fine.", 1), ("Not a bore.", 0), ("Did I go?", 0)]
    assert data.mined is not None
    assert data.mined["left_out_as_evaluated"] == {"negative": 1, "positive": 1}
    with pytest.raises(UserError, match=r"of negative \(bad, awful, terrible, horrible\) 3 rows"):
        _mined(tmp_path, lines, "data.mine.contained=true", dev=dev)
    more = _mined(tmp_path, [*lines, "It is bad. No bores."], "data.mine.contained=true", dev=dev)
    assert _rows(more) == [("Fine.", 1), ("No bores.", 0)]


def test_containment_is_of_whole_words_either_way() -> None:
    scored = Evaluated([("It rained all day.", "Wet!"), ("?!", "so")])
    assert [normal(t) for t in ("Ｗet  !", "?!", "don't")] == ["wet", "?!", "don t"]
    assert scored.has_row(["it RAINED all day", "wet"])
    assert not scored.has_row(["wet", "it rained all day"])
    for text, equal, part in [
        ("wet", True, True),
        ("All wet now", False, True),
        ("rained all", False, True),
        ("rained al", False, False),
        ("all day wet", False, True),  # it holds a text of one word
        ("day soon", False, False),
    ]:
        assert scored.has_text([text]) == equal, text
        assert scored.has_text([text], contained=True) == part, text


def test_training_texts_are_mined_without_their_labels(tmp_path: Path) -> None:
    given = _task(tmp_path, [])
    train = [f"it was good . fine {i} .\t0\n" for i in range(3)]
    train += [f"it was bad . poor {i} .\t1\n" for i in range(3)]
    (tmp_path / "SST-2" / "train.tsv").write_text(HEADER + "".join(train))
    settings = configure(*given, "data.mine.source=train", "data.train_size=4").settings
    data = load_task_data(settings.task, settings.data, settings.protocol)
    assert {label for text, label in _rows(data) if text.startswith("fine")} == {1}
    assert len(data.train) == 4
    plain = configure(*given, "data.train_size=4").settings
    gold = load_task_data(plain.task, plain.data, plain.protocol)
    assert data.mined is not None
    assert data.mined["in_place_of"]["train"]["sha256"] == gold.train.sha256


@pytest.mark.parametrize(
    ("typed", "said"),
    [
        (["task.mine.patterns=['good {sentence}']"], "has no {V}, where a verbalizer stands"),
        (["task.mine.patterns=['{V} good']"], "has {sentence} 0 times; each of sentence takes one"),
        (["task.mine.patterns=['{V} {sentence} {text}']"], "names {text}; known: {V}, {rest}"),
        (["task.mine.patterns=['({V} {sentence}']"], "is no regular expression: missing )"),
        (["task.mine.patterns=[]"], "task.mine.patterns=[] (must hold at least 1)"),
        (["~task.mine.verbalizers.positive"], "verbalizers names other labels"),
        (["task.mine.verbalizers.positive=[]"], "verbalizers.positive has no word"),
        (["data.text=null"], "reads lines of a file: name it by data.text=FILE"),
        (["data.mine.source=train"], "name two texts; give it one of them"),
        (["data.mine.per_class=0"], "data.mine.per_class=0 (must be ≥ 1)"),
        (["task=cola"], "task=cola says nowhere how its rows are mined"),
        (["task=stsb"], "task=stsb is of kind=regression; leave it out"),
        (["data.mine.source=null", "data.mine.per_class=3"], "would change nothing without"),
        (["method=dp"], "data.mine with method=dp"),
    ],
)
def test_what_cannot_be_mined_is_one_sentence(typed: list[str], said: str) -> None:
    given = ["task=sst2", "data=embedded", "data.mine.source=text", "data.text=FILE", *typed]
    if typed[0].startswith("task="):
        given.remove("task=sst2")
    with pytest.raises(UserError, match=re.escape(said)):
        configure(*given)


def test_a_text_that_is_missing_or_matches_nothing_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"of negative .* 0 rows match in .*text.txt"):
        _mined(tmp_path, ["It is good. Fine."])
    settings = configure("task=sst2", "data=embedded", "data.mine.source=text",
                         f"data.text={tmp_path / 'none'}").settings  # fmt: skip
    with pytest.raises(UserError, match="none is missing"):
        load_task_data(settings.task, settings.data, settings.protocol)


def test_a_run_on_mined_rows_stands_in_the_column_of_its_task(
    cli: Cli, tiny_folder: Callable[[str], Path], tmp_path: Path
) -> None:
    text = tmp_path / "text.txt"
    lines = [f"It is {word}. It is {i} {word}\n" for word in ("good", "bad") for i in range(8)]
    text.write_text("".join(lines))
    given = tiny(tiny_folder("bert"), "task=sst2", "data.train_size=12", "budget.steps=2")
    assert cli(*given).code == 0
    done = cli(*given, "data.mine.source=text", f"data.text={text}")
    assert done.code == 0, done.err
    records = {bool(r.data.get("mined")): r for r in read_all(tmp_path / "runs")}
    assert records[True].data["mined"]["rows"] == {"negative": 8, "positive": 8}
    assert records[True].data["splits"]["train"]["rows"] == 12
    for record in records.values():
        assert recorded_name(record) == record.run
        assert ("mine" in record.config["task"]) == bool(record.data.get("mined"))
    assert from_record(records[True].config).settings.task.mine is not None
    [table] = tables([*records.values()])
    assert table.tasks == ("sst2",)
    assert sorted(row.method for row in table.rows) == ["full", "full on mined rows"]


def test_rows_mined_otherwise_are_rows_of_their_own_in_tables(tmp_path: Path) -> None:
    lines = [f"It is {word}. {word} {i}." for word in ("good", "bad") for i in range(4)]
    other = "task.mine.patterns=['is {V}{rest} {sentence}']"
    typed = [(lines, ()), (lines, ("data.mine.per_class=2", "data.seed=1")), (lines, (other,)),
             ([*lines, "It is bad. Worse."], ())]  # fmt: skip
    records = []
    for seed, (text, more) in enumerate(typed):
        mined = dict(_mined(tmp_path, text, *more).mined or {})
        own = {"mined": mined, "source": "local"}
        mine = configure("task=sst2", "data=embedded", *more[-1:] * (more == (other,)),
                         "data.mine.source=train").settings.task.mine  # fmt: skip
        assert mine is not None
        blank = simulated("full", "sst2", seed, 0.5)
        config = {**blank.config, "task": {**blank.config["task"], "mine": mine.model_dump()}}
        records.append(replace(blank, config=config, data={**blank.data, **own}))
    hashes = [record.data["mined"]["sha256"] for record in records]
    assert hashes[0] == hashes[1] == hashes[2] != hashes[3]  # as they are before draws
    rows = labels(records, {})
    assert rows[records[0].run] == rows[records[1].run]
    assert "task.mine.patterns" in rows[records[2].run]
    assert f"mined.sha256={hashes[3][:12]}" in rows[records[3].run]
    [table] = tables(records)
    assert len(table.rows) == 3


@pytest.mark.parametrize(
    "typed", [["data.shots=30"], ["data.train_size=2", "protocol=select", "protocol.rows=40"]]
)
def test_more_rows_than_the_task_has_are_mined(typed: list[str], tmp_path: Path) -> None:
    lines = [f"It is {word}. {word} {i}." for word in ("good", "bad") for i in range(40)]
    data = _mined(tmp_path, lines, *typed)
    assert data.mined is not None
    assert "in_place_of" not in data.mined
    assert len(data.train) == (60 if "shots" in typed[0] else 2)


def test_what_only_scores_draws_nothing_of_the_tasks_own_rows(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = [f"It is {word}. {word} {i}." for word in ("good", "bad") for i in range(40)]
    (tmp_path / "text.txt").write_text("".join(f"{line}\n" for line in lines))
    given = [*_task(tmp_path, ["row 0", "row 1"]), "data.mine.source=text",
             f"data.text={tmp_path / 'text.txt'}", f"out={tmp_path}"]  # fmt: skip
    for typed in (
        ["data.train_size=60"],
        ["data.shots=30"],
        ["data.train_size=2", "protocol=select", "protocol.rows=40"],
    ):
        data = Job(configure(*given, *typed), trains=False).data
        assert data.selection is None
        assert [(len(split), split.also_in_train) for split in data.report.values()] == [(4, 0)]
    assert "OVERLAP" not in capsys.readouterr().err
    plain = Job(configure(*given[:3]), trains=False).data
    assert [split.also_in_train for split in plain.report.values()] == [2]
    assert "OVERLAP" in capsys.readouterr().err
