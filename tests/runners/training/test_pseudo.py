"""Rows beyond data.train_size get labels of a teacher's dropout passes; gold ones stay hidden."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from results.errors import UserError
from results.record import Record, read_all, write
from results.tables.collect import tables
from runners.config.unlabelled import Pseudo
from runners.data.load import load_task_data
from runners.data.split import Split, TaskData
from runners.exports.delta import load_delta
from runners.jobs.identity import recorded_name
from runners.models.about import read_about
from runners.runs import train
from runners.runs.again import Again
from runners.seeds import derive
from runners.training import pseudo
from runners.training.pseudo import Votes, _counted, chosen
from tests import forked
from tests.conftest import Cli, configure, tiny
from tests.results.simulated import simulated

HEADER = "sentence\tlabel\n"
Folder = Callable[[str], Path]


def _task(
    folder: Path, dev: Sequence[str] = ("so it is", "so it was"), train: int = 60
) -> list[str]:
    (folder / "SST-2").mkdir(exist_ok=True)
    rows = [f"{('dull', 'warm')[i % 2]} row {i}\t{i % 2}\n" for i in range(train)]
    (folder / "SST-2" / "train.tsv").write_text(HEADER + "".join(rows))
    scored = [f"{text}\t{i % 2}\n" for i, text in enumerate(dev)]
    (folder / "SST-2" / "dev.tsv").write_text(HEADER + "".join(scored))
    return ["task=sst2", "data=local", f"data.dir={folder}", "data.train_size=20"]


def _load(*typed: str) -> TaskData:
    settings = configure(*typed).settings
    return load_task_data(settings.task, settings.data, settings.protocol, seed=settings.seed)


def test_rows_beyond_are_offered_once_and_none_that_is_scored(tmp_path: Path) -> None:
    """Rows beyond are planted in dev with other capitals and marks, where data.eval_size is not."""
    plain = _task(tmp_path)
    own = {text for (text,) in _load(*plain).train.texts}
    everything = [f"{('dull', 'warm')[i % 2]} row {i}" for i in range(60)]
    planted = [text for text in everything if text not in own][:3]
    dev = ["the first", f"{planted[0].upper()} !", planted[1].replace(" ", "  "), "the last"]
    given = [*_task(tmp_path, dev), "data.pseudo.teacher=stage", "data.eval_size=2"]
    test = "".join(f"{i}\t{text}\n" for i, text in enumerate(["else", planted[1], planted[2]]))
    (tmp_path / "SST-2" / "test.tsv").write_text(f"index\tsentence\n{test}")
    data = _load(*given)
    assert data.offered is not None
    offered = [text for (text,) in data.offered.rows.texts]
    assert data.offered.left_out == len(planted)
    assert sorted(offered) == sorted({*everything} - own - {*planted})
    assert data.train.sha256 == _load(*plain).train.sha256
    assert data.offered.texts_alone.labels is None
    few = _load(*given, "data.pseudo.pool=10")
    assert few.offered is not None
    assert [t for t in data.offered.rows.texts if t in few.offered.rows.texts] == [
        *few.offered.rows.texts
    ]
    assert len(few.offered.rows) == 10
    selecting = _load(*given, "protocol=select", "protocol.rows=15")
    assert selecting.offered is not None
    assert selecting.selection is not None
    assert not {*selecting.selection.texts} & {*selecting.offered.rows.texts}
    assert len(selecting.offered.rows) + selecting.offered.left_out <= 25


@pytest.mark.parametrize(
    ("typed", "said"),
    [
        (["data.train_size=60"], "none of the 60 of task=sst2 is left; train on fewer"),
        (["data.pseudo.pool=41"], "40 rows are left beyond data.train_size=20"),
    ],
)
def test_too_few_rows_left_are_one_sentence(typed: list[str], said: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=re.escape(said)):
        _load(*_task(tmp_path), "data.pseudo.teacher=stage", *typed)


@pytest.mark.parametrize(
    ("typed", "said"),
    [
        (["data.pseudo.threshold=1.5"], "data.pseudo.threshold=1.5 (must be ≤ 1)"),
        (["data.pseudo.threshold=-0.1"], "data.pseudo.threshold=-0.1 (must be ≥ 0)"),
        (["data.pseudo.passes=0"], "data.pseudo.passes=0 (must be ≥ 1)"),
        (["task=stsb"], "task=stsb is of kind=regression; leave it out"),
        (["data.train_size=null"], "data.train_size=null trains on all; give it a number"),
        (["data.pseudo.teacher=null", "data.pseudo.passes=3"], "would change nothing without"),
        (["data.pseudo.control=updates", "budget.steps=4"], "do that one"),
        (["data.mine.source=train"], "two ways to more rows"),
        (["task.class_weights=balanced"], "give a number for each label"),
        (["method=dp"], "data.pseudo with method=dp"),
    ],
)
def test_what_cannot_be_labelled_is_one_sentence(typed: list[str], said: str) -> None:
    given = ["task=sst2", "data=embedded", "data.train_size=20", "data.pseudo.teacher=stage"]
    if typed[0].startswith("task=s"):
        given.remove("task=sst2")
    with pytest.raises(UserError, match=re.escape(said)):
        configure(*given, *typed)


def test_most_passes_decide_and_their_share_is_the_agreement() -> None:
    one, two = [0.7, 0.3], [0.4, 0.6]
    passes = np.array([[one, two], [one, one], [two, two], [two, two]])  # [passes, rows, labels]
    votes = _counted(passes)
    assert votes.labels.tolist() == [0, 1]  # of two labels as frequent the first
    assert votes.agreement.tolist() == [0.5, 0.75]
    np.testing.assert_allclose(
        votes.probability, [(0.7 + 0.7 + 0.4 + 0.4) / 4, (0.6 * 3 + 0.3) / 4]
    )


def test_each_class_keeps_as_many_those_most_agreed_on_first() -> None:
    votes = Votes(
        np.array([0, 0, 0, 0, 1, 1, 1]),
        np.array([0.8, 1.0, 0.8, 0.8, 0.5, 0.8, 1.0]),
        np.array([0.9, 0.5, 0.7, 0.9, 1.0, 0.6, 0.6]),
    )
    at = Pseudo(teacher="RUN", threshold=0.8)
    assert np.flatnonzero(chosen(votes, at, 2)).tolist() == [0, 1, 5, 6]
    all_that_agree = Pseudo(teacher="RUN", threshold=0.8, balance=False)
    assert np.flatnonzero(chosen(votes, all_that_agree, 2)).tolist() == [0, 1, 2, 3, 5, 6]
    assert not chosen(votes, at, 3).any()  # a third label has no row


def _by_hand(teacher: Path, rows: Split, seed: int, passes: int) -> tuple[list[int], list[float]]:
    """Return the labels and agreements of a model in training mode, longest texts first."""
    loaded = load_delta(teacher).loaded
    lengths = [len(loaded.tokenizer(t)["input_ids"]) for (t,) in rows.texts]
    order = np.argsort(-np.asarray(lengths), kind="stable").tolist()
    loaded.model.train()
    answers = torch.zeros(passes, len(rows), dtype=torch.long)
    for number in range(passes):
        torch.manual_seed(derive(seed, f"pseudo pass {number}"))
        texts = [rows.texts[i][0] for i in order]
        batch = loaded.tokenizer(texts, padding=True, return_tensors="pt")
        with torch.no_grad():
            answers[number, order] = loaded.model(**batch).logits.argmax(dim=1)
    counts = [torch.bincount(column, minlength=2) for column in answers.T]
    return [int(c.argmax()) for c in counts], [int(c.max()) / passes for c in counts]


def _student(records: Sequence[Record]) -> dict[str | None, Record]:
    """Return records by how they were labelled: None for the teacher."""
    kinds = {
        r.run: (r.config["data"].get("pseudo") or {"control": "gold"})["control"] for r in records
    }
    return {"gold" if kinds[r.run] == "gold" else kinds[r.run] or "pseudo": r for r in records}


def test_a_teacher_a_student_and_a_control_of_equal_updates(
    cli: Cli,
    tiny_folder: Folder,
    tmp_path: Path,
    forked_runs: None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    starts: list[list[str]] = []

    def run_alone(arguments: Sequence[str]) -> int:
        starts.append([*arguments])
        return forked.start(arguments, tmp_path / "log").wait()

    monkeypatch.setattr("runners.boards.chain.run_alone", run_alone)
    own = [*_task(tmp_path), "budget.steps=null", "budget.epochs=2", "budget.batch_size=4"]
    own += ["lr=1e-3", "threads=1"]
    given = [*tiny(tiny_folder("bert")), *own, "data.eval_size=null", "keep=true"]
    given = [a for a in given if a != "data=embedded"]
    labelling = ["data.pseudo.teacher=stage", "data.pseudo.passes=3", "data.pseudo.threshold=0.5"]
    labelling += ["data.pseudo.balance=false", "method=rdrop"]  # whose passes are its own
    listed = cli(*given, *labelling, "plan=true")
    assert listed.code == 0, listed.err
    lines = listed.out.splitlines()
    assert [line.split()[0] for line in lines] == ["missing", "waiting"]
    assert lines[1].endswith("data.pseudo.teacher=RUN")
    assert "=stage" not in lines[1]
    done = cli(*given, *labelling)
    assert done.code == 0, done.err + (tmp_path / "log").read_text()
    assert len(starts) == 2
    [path] = (tmp_path / "runs").glob("*.delta")
    alone = [a for a in given if a != "keep=true"]
    named = [*labelling[1:], f"data.pseudo.teacher={path}"]
    done = cli(*alone, *named, "data.pseudo.control=updates")
    assert done.code == 0, done.err
    assert "stored result" in cli(*alone, *named).out  # by whatever name its teacher has
    by = _student(read_all(tmp_path / "runs"))
    gold, student, control = by["gold"], by["pseudo"], by["updates"]
    assert gold.peak_bytes
    assert student.peak_bytes is control.peak_bytes is None  # one of them labelled the rows
    facts = student.data["pseudo"]
    assert facts["offered"]["rows"] == 40
    kept = sum(facts["rows"].values())
    assert 0 < kept <= 40
    assert kept == sum(facts["answered"].values()) - sum(facts["below_threshold"].values())
    assert gold.steps == 2 * 5
    assert student.steps == control.steps == 2 * -(-(20 + kept) // 4)
    assert student.data["doctor"]["splits"]["train"]["rows"] == 20 + kept
    assert control.data["doctor"]["splits"]["train"]["rows"] == 20
    assert student.data["splits"] == gold.data["splits"]
    assert control.data["pseudo"] == facts
    assert {r.run for r in by.values()} == {recorded_name(r) for r in by.values()}
    assert student.config["data"]["pseudo"]["teacher"] == gold.run
    assert student.initial_sha256 == gold.initial_sha256  # it begins anew
    [table] = tables([*by.values()])
    assert table.tasks == ("sst2",)
    assert sorted(row.method for row in table.rows) == [
        "rdrop", "rdrop with pseudo-labels", "rdrop, as many updates as with pseudo-labels",
    ]  # fmt: skip
    _check_votes(tmp_path, given + labelling[1:], gold, facts)
    _check_delta(cli, tmp_path, student)


def _check_votes(tmp_path: Path, given: list[str], gold: Record, facts: dict[str, object]) -> None:
    """Compare the labels with passes written out, and their accuracy with the hidden labels."""
    data = _load(*[a for a in given if a != "keep=true"], "data.pseudo.teacher=stage")
    assert data.offered is not None
    assert data.offered.rows.labels is not None
    rows = data.offered.texts_alone
    labels, agreement = _by_hand(tmp_path / "runs" / f"{gold.run}.delta", rows, gold.seed, 3)
    [path] = (tmp_path / "runs" / ".pseudo").glob("*.npz")
    with np.load(path) as stored:
        assert stored["labels"].tolist() == labels
        np.testing.assert_allclose(stored["agreement"], agreement)
    right = np.asarray(labels) == np.asarray(data.offered.rows.labels)
    assert facts["accuracy"]["answered"] == pytest.approx(right.mean(), abs=1e-6)  # type: ignore[index]


def _check_delta(cli: Cli, tmp_path: Path, student: Record) -> None:
    """What is kept of a student needs neither its teacher nor the rows."""
    again = cli(f"verify={student.run}", f"out={tmp_path / 'runs'}")
    assert again.code == 0, again.err
    assert "equal to the bit" in again.out


@pytest.mark.parametrize(
    ("typed", "said"),
    [
        (["data.seed=1"], "it learned from other rows of task=sst2"),
        (["task=cola", "data=embedded"], "its labels are"),
        (["data.pseudo.teacher=none"], "no such record"),
        (
            ["stages=[cola,sst2]", "data=embedded", "data.pseudo.teacher=stage"],
            "of a run without stages",
        ),
    ],
)
def test_a_teacher_that_does_not_fit_is_one_sentence(
    typed: list[str], said: str, cli: Cli, tiny_folder: Folder, tmp_path: Path
) -> None:
    given = [*tiny(tiny_folder("bert")), *_task(tmp_path), "budget.steps=1"]
    given = [a for a in given if a != "data=embedded" and not a.startswith("data.eval_size")]
    assert cli(*given, "save=delta").code == 0
    [gold] = read_all(tmp_path / "runs")
    if typed[0].startswith(("task", "stages")):
        given = [a for a in given if not a.startswith(("task=", "data=", "data.dir"))]
    done = cli(*given, f"data.pseudo.teacher={gold.run}", *typed)
    assert (done.code, done.err.count("error: ")) == (2, 1), done.err
    assert said in done.err


def test_a_teacher_that_started_from_its_own_task_is_refused(
    cli: Cli, tiny_folder: Folder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = [*tiny(tiny_folder("bert")), *_task(tmp_path), "budget.steps=1"]
    given = [a for a in given if a != "data=embedded" and not a.startswith("data.eval_size")]
    assert cli(*given, "data.train_size=60", "save=delta").code == 0  # it has seen all labels
    [first] = read_all(tmp_path / "runs")
    assert cli(*given, f"start={first.run}", "save=delta").code == 0
    [second] = [r for r in read_all(tmp_path / "runs") if r.run != first.run]
    done = cli(*given, f"data.pseudo.teacher={second.run}")
    assert (done.code, done.err.count("\n")) == (2, 1)
    said = "it started from another run of task=sst2"
    assert said in done.err
    # A teacher that is not trained yet is refused before it is, in a chain and on a board.
    monkeypatch.setattr("runners.boards.chain.run_alone", None)
    monkeypatch.setattr("runners.boards.pool.start", None)
    row = "{method: full, set: ['data.pseudo.teacher=stage']}"
    board = ["board=smoke", f"board.methods=[{row}]", "board.tasks=[sst2]", "board.seeds=[1]"]
    board += [*(a for a in given if not a.startswith("task=")), "data.eval_size=null"]
    for typed in ([*given, "data.pseudo.teacher=stage"], board):
        done = cli(*typed, f"start={first.run}")
        assert done.code == 2, done.err
        assert f"data.pseudo.teacher=stage start={first.run}: {said}" in done.err
    assert len(read_all(tmp_path / "runs")) == 2


def test_a_teacher_without_dropout_or_weights_is_one_sentence(
    cli: Cli, tiny_folder: Folder, tmp_path: Path
) -> None:
    given = [*tiny(tiny_folder("bert")), *_task(tmp_path), "budget.steps=1", "budget.dropout=0"]
    given = [a for a in given if a != "data=embedded" and not a.startswith("data.eval_size")]
    assert cli(*given).code == 0
    [gold] = read_all(tmp_path / "runs")
    done = cli(*given, f"data.pseudo.teacher={gold.run}")
    assert "its weights were not kept" in done.err
    assert cli(*given, "save=delta").code == 0
    done = cli(*given, f"data.pseudo.teacher={gold.run}")
    assert "the teacher has no dropout, so that all passes agree" in done.err
    one = [f"data.pseudo.teacher={tmp_path / 'runs' / gold.run}.delta", "data.pseudo.passes=1"]
    done = cli(*given, *one, "data.pseudo.balance=false", "save=delta")
    assert done.code == 0, done.err
    [student] = [r.run for r in read_all(tmp_path / "runs") if r.run != gold.run]
    teacher = read_about(tmp_path / "runs" / f"{student}.delta", "start")["teacher"]
    assert [run["run"] for run in teacher["chain"]] == [gold.run]
    done = cli(*given, *one, "data.pseudo.threshold=1", "data.pseudo.pool=1")
    assert "no row is kept; so many reach it" in done.err


def test_a_teacher_of_other_weights_than_its_record_labels_nothing(
    cli: Cli, tiny_folder: Folder, tmp_path: Path
) -> None:
    """As a start from it is refused: the student's record told of the weights that were not it."""
    given = [*tiny(tiny_folder("bert")), *_task(tmp_path), "budget.steps=1"]
    given = [a for a in given if a != "data=embedded" and not a.startswith("data.eval_size")]
    assert cli(*given, "save=delta").code == 0
    [gold] = read_all(tmp_path / "runs")
    write(dataclasses.replace(gold, trained_sha256="0" * 64), tmp_path / "runs")
    student = [*given, f"data.pseudo.teacher={gold.run}", "data.pseudo.balance=false"]
    done = cli(*student)
    assert done.code == 2
    assert f"data.pseudo.teacher={gold.run}: " in done.err
    assert "holds other weights than its record names; run it again with save=delta" in done.err
    assert not (tmp_path / "runs" / pseudo.FOLDER).exists()
    write(gold, tmp_path / "runs")
    assert cli(*student).code == 0


@pytest.mark.parametrize(
    ("device", "adds", "peak"),
    [("cpu", None, 7), ("cpu", "pseudo", None), ("cuda:0", "pseudo", 7), ("cuda:0", None, 7)],
)
def test_peak_memory_is_of_training_and_not_of_making_rows(
    device: str, adds: str | None, peak: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = SimpleNamespace(data=SimpleNamespace(awaits_rows=bool(adds)), device=device,
                               budget=SimpleNamespace(trains=True),
                               speed=SimpleNamespace(switches=()))  # fmt: skip
    config = SimpleNamespace(settings=settings, precision="fp32", methods=[])
    job: Any = SimpleNamespace(config=config, data=SimpleNamespace(train=[1]))
    accelerator = SimpleNamespace(device=torch.device(device))
    calls: list[str] = []
    scoring: Any = SimpleNamespace(seconds=0.0, evaluation=SimpleNamespace(accelerator=accelerator))
    stand_ins: dict[str, Any] = {
        "make_accelerator": lambda *_: accelerator,
        "choose_device": lambda device: device,
        "make_deterministic": lambda: None,
        "describe_environment": lambda *_: {},
        "Levers": lambda *_: SimpleNamespace(facts=lambda _: {}),
        "with_filtered_rows": lambda job, *_: job,
        "with_added_rows": lambda job, *_: calls.append("rows") or job,
        "reset_peak": lambda device: calls.append(f"reset {device}"),
        "peak_bytes": lambda _: 7,
        "slices_of": lambda *_: {},
        "_train": lambda job, _, blank, *__: train._measured(job, blank, scoring),
    }
    for name, stand_in in stand_ins.items():
        monkeypatch.setattr(train, name, stand_in)
    record = train.train_and_score(job, simulated(), 0.0, Again(), ExitStack())
    assert record.peak_bytes == peak
    assert calls == ["rows"] if adds is None else ["rows", f"reset {device}"]


def test_answers_that_are_kept_are_of_one_teacher(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two runs may leave the same tensors and differ in what they do with them."""
    settings = configure("task=sst2", "data=embedded", f"out={tmp_path}").settings
    labelling: list[str] = []

    def passes(job: Any, *_: object) -> Any:
        labelling.append(job.teacher.run)
        return np.full((1, 2, 2), 0.5)

    monkeypatch.setattr(pseudo, "_passes", passes)
    rows = Split("train", (("a",), ("b",)), None)
    for run in ("one", "two", "one"):
        job: Any = SimpleNamespace(
            config=SimpleNamespace(settings=settings, precision="fp32"),
            teacher=SimpleNamespace(run=run, sha256="same"),
        )
        machine: Any = SimpleNamespace(device=torch.device("cpu"))
        pseudo._votes(job, rows, machine)
    assert labelling == ["one", "two"]
