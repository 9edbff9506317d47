"""Lines of other tasks' training text: each once, some held out, nothing of dev unless asked."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from results.errors import UserError
from runners.config.check import from_record
from runners.data.embedded.splits import read_embedded
from runners.data.split import TaskData
from runners.jobs.job import Job
from runners.runs.attempt import blank_record
from tests.conftest import Cli, configure


def _job(*overrides: str) -> Job:
    return Job(configure("task=mlm", "data=embedded", *overrides))


def _data(*overrides: str) -> TaskData:
    return _job(*overrides).data


def _lines(data: TaskData, name: str) -> list[str]:
    return [line for (line,) in data.splits()[name].texts]


def _texts(*tasks: str) -> dict[str, set[str]]:
    """Return every text of the embedded tasks by split, as they are read for the tasks alone."""
    texts: dict[str, set[str]] = {"train": set(), "report": set()}
    for name in tasks:
        train, report = read_embedded(configure(f"task={name}", "data=embedded").settings.task)
        texts["train"] |= {text for row in train.texts for text in row}
        texts["report"] |= {text for split in report.values() for r in split.texts for text in r}
    return texts


def test_lines_are_the_texts_of_train_each_once_and_some_are_held_out() -> None:
    data = _data("mlm.on=[cola,rte]")
    train, held = _lines(data, "train"), _lines(data, "held_out")
    assert set(train) | set(held) == _texts("cola", "rte")["train"]
    assert len({*train, *held}) == len(train) + len(held)
    assert len(held) == round(0.05 * (len(train) + len(held)))
    assert data.text is not None
    assert (data.text["kind"], data.text["rows"]) == ("lines", len(train) + len(held))
    assert data.text["from"] == "cola train (3,000), rte train (3,200)"
    assert "beyond_train" not in data.text


def _hashes(lines: set[str]) -> set[str]:
    return {hashlib.sha256(line.encode()).hexdigest() for line in lines}


@pytest.mark.parametrize("tasks", [("cola", "rte"), ("mnli", "stsb")])
def test_no_line_of_dev_enters_that_train_does_not_hold(tasks: tuple[str, ...]) -> None:
    texts = _texts(*tasks)
    data = _data(f"mlm.on=[{','.join(tasks)}]")
    read = _hashes({*_lines(data, "train"), *_lines(data, "held_out")})
    assert len(_hashes(texts["report"] - texts["train"])) > 100
    assert read.isdisjoint(_hashes(texts["report"] - texts["train"]))


@pytest.mark.real_data
def test_no_line_of_glues_dev_enters_that_train_does_not_hold(real_glue: Path) -> None:
    where = ("data=local", f"data.dir={real_glue}")
    data = Job(configure("task=mlm", *where, "mlm.on=[cola,mrpc,rte]")).data
    read, dev, train = {*_lines(data, "train"), *_lines(data, "held_out")}, set(), set()
    for name in ("cola", "mrpc", "rte"):
        own = Job(configure(f"task={name}", *where)).data
        dev |= {" ".join(t.split()) for s in own.report.values() for row in s.texts for t in row}
        train |= {" ".join(t.split()) for row in own.train.texts for t in row}
    assert read == train
    assert _hashes(read).isdisjoint(_hashes(dev - train))


def test_other_splits_enter_where_they_are_asked_for_and_the_record_says_so() -> None:
    more, plain = _job("mlm.on=[rte]", "mlm.splits=[train,validation]"), _job("mlm.on=[rte]")
    texts = _texts("rte")
    lines = {*_lines(more.data, "train"), *_lines(more.data, "held_out")}
    assert lines == texts["train"] | texts["report"]
    assert more.data.text is not None
    assert more.data.text["beyond_train"] == ["validation"]
    assert "rte validation (" in more.data.text["from"]
    assert more.name != plain.name
    assert plain.name == _job("mlm.on=[rte]").name


def test_lines_held_out_are_the_same_for_every_seed_size_and_mask() -> None:
    plain = _data("mlm.on=[cola]")
    for more in ("seed=9", "data.train_size=50", "mlm.mask=macbert", "mlm.shuffle=true"):
        assert _data("mlm.on=[cola]", more).report["held_out"] == plain.report["held_out"]
    other = _data("mlm.on=[cola]", "data.seed=1").report["held_out"]
    assert other != plain.report["held_out"]
    assert len(_data("mlm.on=[cola]", "data.train_size=50").train) == 50
    few = _data("mlm.on=[cola]", "data.eval_size=7").report["held_out"]
    assert set(few.texts) < set(plain.report["held_out"].texts)
    all_there = _data("mlm.on=[cola]", "data.eval_size=5000")
    assert all_there.report["held_out"] == plain.report["held_out"]
    assert all_there.complete == {"train": True, "held_out": True}


def test_shuffled_lines_have_the_same_words_in_another_order() -> None:
    plain, control = _data("mlm.on=[cola]"), _data("mlm.on=[cola]", "mlm.shuffle=true")
    pairs = list(zip(_lines(plain, "train"), _lines(control, "train"), strict=True))
    assert all(sorted(a.split()) == sorted(b.split()) for a, b in pairs)
    assert sum(a != b for a, b in pairs) > 0.9 * len(pairs)
    again = _data("mlm.on=[cola]", "mlm.shuffle=true", "seed=3")
    assert _lines(again, "train") == _lines(control, "train")


def test_a_file_has_a_line_each_without_blank_ones_and_copies(tmp_path: Path) -> None:
    path = tmp_path / "text.txt"
    path.write_text("one two\n\n  three   four\none two\nfive\n")
    job = Job(configure("task=mlm", f"data.text={path}"))
    lines = {*_lines(job.data, "train"), *_lines(job.data, "held_out")}
    assert lines == {"one two", "three four", "five"}
    assert len(_lines(job.data, "held_out")) == 1
    assert (job.data.source, job.data.text) == (
        "local",
        {"kind": "lines", "from": str(path), "rows": 3, "left_out_as_duplicates": 1},
    )


def test_at_most_a_thousand_lines_are_held_out(tmp_path: Path) -> None:
    path = tmp_path / "text.txt"
    path.write_text("".join(f"line {i}\n" for i in range(30000)))
    assert len(_lines(Job(configure("task=mlm", f"data.text={path}")).data, "held_out")) == 1000


@pytest.mark.parametrize(
    ("content", "said"), [("", "not one sentence"), ("one\none\n", "holds 1 line of")]
)
def test_file_with_too_few_lines_is_named(content: str, said: str, tmp_path: Path) -> None:
    path = tmp_path / "text.txt"
    path.write_text(content)
    with pytest.raises(UserError, match=said):
        _ = Job(configure("task=mlm", f"data.text={path}")).data


WRONG: list[tuple[list[str], str]] = [
    (["task=mlm"], "has no text: name tasks by mlm.on="),
    (["task=mlm", "mlm.on=[]"], "has no text"),
    (["task=mlm", "mlm.on=[colaa]"], "no task called 'colaa'; did you mean cola?"),
    (["task=mlm", "mlm.on=[cola,cola]"], "names cola twice"),
    (["task=mlm", "mlm.on=[sts]"], "task=sts has no text of its own to train on"),
    (["task=mlm", "mlm.on=[mlm]"], "task=mlm has no text of its own to train on"),
    (["task=mlm", "mlm.on=['a b']"], "is no name of a task"),
    (["task=mlm", "mlm.on=cola"], "must be a list"),
    (["task=mlm", "mlm.on=[3]"], "must be text"),
    (["task=mlm", "mlm.on=[cola]", "data.text=FILE"], "name two texts"),
    (["task=mlm", "mlm.on=[cola]", "mlm.splits=[train,dev]"], "has a split dev"),
    (["task=mlm", "mlm.on=[cola]", "mlm.splits=[train,train]"], "names train twice"),
    (["task=mlm", "mlm.on=[cola]", "mlm.splits=[]"], "must hold at least 1"),
    (["task=mlm", "data.text=FILE", "mlm.splits=[validation]"], "is read whole"),
    (["task=mlm", "mlm.on=[cola]", "mlm.mask=words"], "known: macbert, token, whole_word"),
    (["task=mlm", "mlm.on=[cola]", "mlm.probability=0"], "must be > 0"),
    (["task=mlm", "mlm.on=[cola]", "mlm.onn=[cola]"], "did you mean task.mlm.on?"),
    (["task=rte", "mlm.on=[cola]"], "type task=mlm"),
    (["mlm.mask=token"], "type task=mlm"),
    (["stages=[mlm,rte]", "mlm.on=[cola]"], "type stages.0.mlm.on=[cola]"),
    (["stages=[mlm,rte]"], "has no text"),
    (
        ["stages=[mlm,rte]", "stages.0.mlm.on=[rte]", "stages.1.mlm.on=[cola]"],
        "type task=mlm",
    ),
    (["task=mlm", "mlm.on=[cola]", "save=sentence-transformers"], "takes save=delta"),
    (["task=mlm", "data.text=missing.txt"], "missing.txt is missing"),
]


@pytest.mark.parametrize(("typed", "said"), WRONG)
def test_wrong_text_is_one_line_before_anything_runs(
    typed: list[str], said: str, cli: Cli, tmp_path: Path
) -> None:
    done = cli("data=embedded", *typed)
    assert done.code == 2
    assert said in done.err
    assert done.err.count("\n") == 1
    assert not (tmp_path / "runs").exists()


def test_a_bare_on_in_a_users_file_is_named(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "task").mkdir()
    (tmp_path / "task" / "own.yaml").write_text("defaults: [mlm, _self_]\nmlm: {on: [rte]}\n")
    done = cli("--config-dir", str(tmp_path), "task=own", "data=embedded")
    assert done.code == 2
    assert "task.mlm: the key True must be text: quote it, as YAML reads yes, no, on" in done.err


def test_a_users_own_task_lends_its_text_too(tmp_path: Path) -> None:
    """Its definition is kept with the run, so that no file of that name is needed later."""
    (tmp_path / "configs" / "task").mkdir(parents=True)
    rows = "".join(f"news of day {i},{'ab'[i % 2]}\n" for i in range(40))
    for split in ("train", "dev"):
        (tmp_path / f"{split}.csv").write_text(f"title,topic\n{rows}")
    (tmp_path / "configs" / "task" / "news.yaml").write_text(
        "name: news\ntext: [title]\nlabels: [a, b]\nmetrics: [accuracy]\nlocal:\n"
        "  train: train.csv\n  report: {validation: dev.csv}\n  columns: {label: topic}\n"
    )
    job = Job(
        configure(
            *("task=mlm", "mlm.on=[news]", "data=local", f"data.dir={tmp_path}"),
            config_dir=tmp_path / "configs",
        )
    )
    assert len(_lines(job.data, "train")) == 38
    record = blank_record(job, [])
    assert record.config["task"]["mlm"]["tasks"]["news"]["local"]["train"] == "train.csv"
    again = from_record(record.config)
    assert again.settings.task == job.config.settings.task
