"""Answers to GLUE's test sets as its server takes them: names, headers, words, rows."""

from __future__ import annotations

import zipfile
from collections.abc import Callable
from pathlib import Path

import datasets
import pytest

from results.errors import UserError
from results.record import Record, read_all, write
from runners.command import main
from runners.config.settings import Data
from runners.data import hub, unanswered
from runners.data.unanswered import read_unanswered, tasks_with_tests
from runners.runs.predict import load_predictor
from runners.runs.stored import Stored
from runners.runs.submission import _one_a_task, _verdict, written_labels
from tests.conftest import Cli, configure, tiny

Folder = Callable[[str], Path]
# num_examples of the test splits in the card of nyu-mll/glue on the hub.
PUBLISHED = {
    **{"CoLA": 1063, "SST-2": 1821, "MRPC": 1725, "STS-B": 1379, "QQP": 390965, "MNLI-m": 9796},
    **{"MNLI-mm": 9847, "QNLI": 5463, "RTE": 3000, "WNLI": 146, "AX": 1104},
}
WORDS = {  # as examples/glue_benchmark/glue.py of keras-nlp has them, by their place in our labels
    **{key: ["0", "1"] for key in ["cola", "sst2", "mrpc", "qqp", "wnli"]},
    **{key: ["entailment", "not_entailment"] for key in ["rte", "qnli"]},
    "mnli": ["entailment", "neutral", "contradiction"],
}


@pytest.fixture(scope="module")
def runs(tiny_folder: Folder, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of runs of wnli, stsb and mnli, with their deltas."""
    out = tmp_path_factory.mktemp("runs")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TUNEBENCH_CACHE", str(tmp_path_factory.mktemp("cache")))
        for task in ("wnli", "stsb", "mnli"):
            given = tiny(tiny_folder("bert"), "method=bitfit", f"task={task}", "save=delta")
            patch.setattr("sys.argv", ["run.py", *given, f"out={out}"])
            assert main() == 0
    return out


def _record(runs: Path, task: str) -> Record:
    [record] = [one for one in read_all(runs) if one.task == task]
    return record


def _delta(runs: Path, task: str) -> str:
    return str(runs / f"{_record(runs, task).run}.delta")


def _write(folder: Path, name: str, count: int, index: str = "index") -> None:
    rows = [f"{i}\tx\tthe dog number {i} sleeps\ta dog sleeps {i % 7}" for i in range(count)]
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    text = "\n".join([f"{index}\tgenre\tsentence1\tsentence2", *rows, ""])
    (folder / name).write_text(text)


@pytest.fixture
def glue(tmp_path: Path) -> Path:
    """Return a folder with the test files of wnli, stsb and the diagnostic set, of full length."""
    folder = tmp_path / "glue"
    for name, count in (("WNLI/test", 146), ("STS-B/test", 1379), ("AX/diagnostic", 1104)):
        _write(folder, f"{name}.tsv", count)
    return folder


def _opened(path: Path) -> dict[str, list[list[str]]]:
    with zipfile.ZipFile(path) as archive:
        texts = {name: archive.read(name).decode() for name in archive.namelist()}
    assert all(text.endswith("\n") for text in texts.values())
    return {n: [line.split("\t") for line in text.splitlines()] for n, text in texts.items()}


def test_sets_words_and_rows_are_the_published_ones() -> None:
    sets = {
        name: one.rows for task in tasks_with_tests().values() for name, one in task.test.items()
    }
    assert sets == PUBLISHED
    assert list(tasks_with_tests()["mnli"].test) == ["MNLI-m", "MNLI-mm", "AX"]
    for name, task in tasks_with_tests().items():
        assert [written_labels(task)[label] for label in task.labels] == WORDS.get(name, [])
    assert _verdict({f"{name}.tsv": "" for name in PUBLISHED}, None).startswith("all 11 files")
    for task in tasks_with_tests().values():  # how a set is read is no part of a run
        assert task.test
        assert "test" not in task.model_dump()


def test_test_sets_that_are_there_are_answered(
    runs: Path, glue: Path, cli: Cli, tmp_path: Path
) -> None:
    """Runs are listed in brackets or with commas alone, and the same answers are the same file."""
    out = tmp_path / "new" / "glue.zip"
    named = f"{_delta(runs, 'stsb')},{_delta(runs, 'mnli')}"
    done = cli(
        f"submission=[{named}]", "data=local", f"data.dir={glue}", f"out={out}", "device=cpu"
    )
    assert done.code == 0, done.err
    files = _opened(out)
    assert list(files) == ["AX.tsv", "STS-B.tsv"]
    for name, rows in files.items():
        assert rows[0] == ["index", "prediction"]
        assert [row[0] for row in rows[1:]] == [str(i) for i in range(PUBLISHED[name[:-4]])]
    assert {row[1] for row in files["AX.tsv"][1:]} <= {"entailment", "neutral", "contradiction"}
    texts = [(f"the dog number {i} sleeps", f"a dog sleeps {i % 7}") for i in range(1379)]
    answers = load_predictor(_delta(runs, "stsb"), device="cpu")(texts).answers
    written = [row[1] for row in files["STS-B.tsv"][1:]]
    assert written == [f"{min(max(float(a), 0.0), 5.0):.6f}" for a in answers]
    said = done.out.splitlines()
    assert said[0] == f"STS-B.tsv: 1,379 predictions by {_record(runs, 'stsb').run}"
    assert f"MNLI-m.tsv: left out, as {glue}/MNLI/test_matched.tsv is not there" in said
    assert said[-1].startswith(f"{out}: 2 of 11 files, and GLUE takes all or none: add CoLA.tsv, ")
    contents = []
    for listed in (named, f"[{named}]"):
        few = ["data=local", f"data.dir={glue}", "data.eval_size=3", f"out={out}", "device=cpu"]
        again = cli(f"submission={listed}", *few)
        assert again.code == 0, again.err
        contents.append(out.read_bytes())
    assert contents[0] == contents[1]
    assert {name: len(rows) for name, rows in _opened(out).items()} == {"AX.tsv": 4, "STS-B.tsv": 4}


def test_a_score_outside_the_scale_is_held_in_it(
    runs: Path, glue: Path, cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from runners.runs import predict

    class Wild(predict.Predictor):
        def answer(self, texts: object) -> predict.Predictions:
            return predict.Predictions([-0.5, 7.25, 1 / 3, *[1e-9] * 1376], [], None)

    monkeypatch.setattr(predict, "Predictor", Wild)
    out = tmp_path / "o.zip"
    named = [f"submission={_delta(runs, 'stsb')}", "data=local", f"data.dir={glue}", f"out={out}"]
    assert cli(*named).code == 0
    written = [row[1] for row in _opened(out)["STS-B.tsv"]]
    assert written[:5] == ["prediction", "0.000000", "5.000000", "0.333333", "0.000000"]


def test_other_rows_than_the_published_are_refused_unless_asked_for(
    runs: Path, glue: Path, cli: Cli, tmp_path: Path
) -> None:
    out = tmp_path / "o.zip"
    named = [f"submission={_delta(runs, 'wnli')}", "data=local", f"data.dir={glue}", f"out={out}"]
    for count, index, said in (
        (145, "index", "WNLI/test.tsv has 145 rows, GLUE's has 146"),
        (147, "index", "WNLI/test.tsv has 147 rows, GLUE's has 146"),
    ):
        _write(glue, "WNLI/test.tsv", count, index)
        done = cli(*named)
        assert (done.code, done.err.count("\n")) == (2, 1)
        assert said in done.err
    _write(glue, "WNLI/test.tsv", 145)
    done = cli(*named, "data.eval_size=12")
    assert done.code == 0, done.err
    assert "NOT TO BE SUBMITTED: the first rows of each set only (data.eval_size=12)" in done.out
    rows = _opened(out)["WNLI.tsv"]
    assert [row[0] for row in rows] == ["index", *map(str, range(12))]
    assert {row[1] for row in rows[1:]} <= {"0", "1"}
    out.unlink()
    path = glue / "WNLI" / "test.tsv"
    lines = path.read_text().splitlines()
    for changed, said in (
        ([lines[0], lines[2], lines[1], *lines[3:]], "line 2: index is 1, expected 0"),
        ([lines[0], "0\tx\ta"], "line 2 has 3 fields, expected 4; the file may be cut off\n"),
        ([lines[0].replace("sentence2", "other"), *lines[1:]], "has no column 'sentence2'"),
    ):
        path.write_text("\n".join(changed))
        done = cli(*named)
        assert (done.code, done.err.count("\n")) == (2, 1)
        assert said in done.err
    assert not out.exists()


def test_runs_that_cannot_be_submitted_are_named(
    runs: Path, glue: Path, cli: Cli, tmp_path: Path
) -> None:
    wnli = _delta(runs, "wnli")
    record = _record(runs, "wnli")
    without = write(record, tmp_path / "runs")
    record.run, record.status = "wnli.full.x.s1.0", "failed"
    unfinished = write(record, tmp_path / "runs")

    def refusal(named: str, *more: str) -> str:
        out = tmp_path / "o.zip"
        given = [f"submission={named}", "data=local", f"data.dir={glue}", f"out={out}", *more]
        done = cli(*given)
        assert (done.code, done.err.count("\n")) == (2, 1), done.err
        assert not out.exists()
        return done.err

    assert "are both of task=wnli; name one run a task" in refusal(f"[{wnli},{wnli}]")
    assert "that run is failed; name a finished one" in refusal(str(unfinished))
    assert "is not there; run it again with save=delta" in refusal(str(without))
    assert "no such record" in refusal("nothing")
    assert "needs out=FILE.zip" in refusal(wnli, "out=o.tsv")
    assert "data.seed= would change nothing: submission= takes" in refusal(wnli, "data.seed=1")
    (glue / "AX" / "diagnostic.tsv").unlink()
    assert "no test set is there" in refusal(_delta(runs, "mnli"))
    assert (
        "no test set is generated"
        in cli(f"submission={wnli}", "data=embedded", f"out={tmp_path / 'o.zip'}").err
    )


def test_a_task_outside_glue_and_one_with_other_labels_are_refused(
    tmp_path: Path,
) -> None:
    def stored(*given: str) -> Stored:
        return Stored("r", configure(*given), tmp_path, "submission=r", None)

    assert list(_one_a_task([stored("task=rte"), stored("task=wnli")])) == ["rte", "wnli"]
    for given, said in (
        (["task=cft_facts"], "submission=r: that run is of task=cft_facts, of which GLUE has no"),
        (["task=mix", "task.mixture.of=[rte,wnli]"], "of task=mix, of which GLUE has no test set"),
        (["task=rte", "task.labels=[not_entailment,entailment]"], "task=rte has other texts or la"),
    ):
        with pytest.raises(UserError, match=said):
            _one_a_task([stored(*given)])


def test_sets_of_the_hub_are_read_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    """QQP's 390,965 rows, and a split that is not there; labels of -1 are not looked at."""
    rows = {"question1": ["are dogs asleep ?"], "question2": ["do dogs sleep ?"], "label": [-1]}
    whole = {name: values * 390965 for name, values in rows.items()}
    tables = {("qqp", "test"): datasets.Dataset.from_dict(whole)}

    def load(path: str, config: str, *, split: str, revision: str | None) -> datasets.Dataset:
        if (config, split) not in tables:
            raise ValueError(f'Unknown split "{split}". Should be one of []')
        return tables[config, split]

    monkeypatch.setattr(datasets, "load_dataset", load)
    monkeypatch.setattr(unanswered, "hub_commit", lambda path, revision: "c0ffee")
    data = Data(source="hub")
    sets, absent = read_unanswered(tasks_with_tests()["qqp"], data)
    assert {name: len(texts) for name, texts in sets.items()} == {"QQP": 390965}
    assert sets["QQP"][0] == ("are dogs asleep ?", "do dogs sleep ?")
    assert absent == {}
    tables["qqp", "test"] = datasets.Dataset.from_dict(rows)
    with pytest.raises(UserError, match="nyu-mll/glue test has 1 rows, GLUE's has 390,965"):
        read_unanswered(tasks_with_tests()["qqp"], data)
    tables.clear()
    assert read_unanswered(tasks_with_tests()["qqp"], data) == ({}, {"QQP": "nyu-mll/glue test"})
    assert issubclass(hub.NoSuchSplit, UserError)


@pytest.mark.real_data
def test_real_test_files_are_the_published_sets(real_glue: Path) -> None:
    data = Data(source="local", dir=str(real_glue))
    for task in tasks_with_tests().values():
        sets, absent = read_unanswered(task, data)
        assert {name: len(texts) for name, texts in sets.items()} == {
            name: PUBLISHED[name] for name in sets
        }
        assert {*sets, *absent} == {*task.test}
    cola, _ = read_unanswered(tasks_with_tests()["cola"], data)
    assert cola["CoLA"][0] == ("Bill whistled past the house.",)
    mrpc, _ = read_unanswered(tasks_with_tests()["mrpc"], data)
    assert mrpc["MRPC"][0][0].startswith("PCCW 's chief operating officer , Mike Butcher")
