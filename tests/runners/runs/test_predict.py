"""A run's answers to a user's rows: those of its evaluation, in the rows' order, whole or not."""

from __future__ import annotations

import gzip
import itertools
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from accelerate.state import AcceleratorState

from results.errors import UserError
from results.record import read_all, write
from runners.data.rows import TableWriter, read_table
from runners.exports.delta import load_delta
from runners.jobs.job import Job
from runners.machine.device import make_accelerator
from runners.runs import predict as predicting
from runners.runs.predict import answered_task, load_predictor
from runners.runs.stored import Stored
from tests.conftest import Cli, configure, tiny
from tests.runners.runs.answered import PAIRS, delta_of, read_rows, record_of, write_rows

Folder = Callable[[str], Path]
ENDS = [".csv", ".tsv", ".jsonl"]


@pytest.mark.parametrize("task", ["rte", "stsb"])
def test_own_report_split_is_answered_as_the_record_says(
    task: str, given: Callable[[str], list[str]], runs: Path, cli: Cli, tmp_path: Path
) -> None:
    """To the bit, from and to every format, and what else a row holds is kept before it."""
    config = configure(*given(task))
    split = Job(config, trains=False).data.report["validation"]
    expected = record_of(runs, task).predictions["validation"]["predictions"]
    labels = config.settings.task.labels
    rows = [(f"n{i}", 'a, "b"', *texts) for i, texts in enumerate(split.texts)]
    columns = ["id", "more", "sentence1", "sentence2"]
    for begin, end in zip(ENDS, [".jsonl", ".csv", ".tsv"], strict=True):
        text, out = write_rows(tmp_path / f"text{begin}", columns, rows), tmp_path / f"out{end}"
        done = cli(f"predict={delta_of(runs, task)}", f"text={text}", f"out={out}", "device=cpu")
        assert done.code == 0, done.err
        assert f"{len(rows)} predictions of {task} by {record_of(runs, task).run}" in done.out
        answered = read_rows(out)
        assert [tuple(row[name] for name in columns) for row in answered] == rows
        assert list(answered[0])[:4] == columns
        if labels:
            assert [labels.index(row["prediction"]) for row in answered] == expected
            shares = [[float(row[f"probability_{label}"]) for label in labels] for row in answered]
            assert np.argmax(shares, axis=1).tolist() == expected
            assert np.allclose(np.sum(shares, axis=1), 1, atol=1e-8)
        else:
            assert [float(row["prediction"]) for row in answered] == expected
            assert list(answered[0]) == [*columns, "prediction"]


def test_probabilities_are_the_models_own_one_by_one(runs: Path) -> None:
    """Each row alone through what save=delta left, without padding; named by record and by run."""
    delta = load_delta(delta_of(runs, "rte"))
    predicted = load_predictor(runs / f"{record_of(runs, 'rte').run}.json", device="cpu")(PAIRS)
    assert predicted.labels == ["entailment", "not_entailment"]
    assert predicted.probabilities is not None
    for pair, answer, shares in zip(PAIRS, predicted.answers, predicted.probabilities, strict=True):
        with torch.no_grad():
            logits = delta.loaded.model(**delta.loaded.tokenizer(*pair, return_tensors="pt")).logits
        assert np.allclose(torch.softmax(logits, -1)[0].numpy(), shares, atol=1e-5)
        assert answer == predicted.labels[int(logits.argmax())]
    by_name = load_predictor(record_of(runs, "rte").run[:-4], out=runs, device="cpu")
    assert by_name.columns == ["sentence1", "sentence2"]
    assert by_name(PAIRS).answers == predicted.answers
    for rows, said in (
        ([], "no texts"),
        ([("a", "")], "row 1 of 1: its sentence2 is empty"),
        (["a"], "row 1 of 1 has 1 texts; task=rte has sentence1, sentence2"),
        ([{"sentence1": "a", "sentence2": "b"}], "give its sentence1, sentence2 in a tuple"),
        ([PAIRS[0], None], "row 2 of 2 is None; give its"),
        ([("a", float("nan"))], "row 1 of 1: its sentence2 is nan, no text"),
        ("ab", "texts to answer are to be in a list, and a str was given"),
    ):
        with pytest.raises(UserError, match=said):
            by_name(rows)


def test_a_predictor_answers_in_its_own_precision_beside_a_later_one(runs: Path) -> None:
    predictor = load_predictor(delta_of(runs, "rte"), device="cpu")
    make_accelerator("cpu", configure("method=full", "task=rte", "precision=bf16"))
    predictor(PAIRS)
    assert AcceleratorState().mixed_precision == predictor.accelerator.mixed_precision == "no"


def test_a_long_table_goes_through_in_parts(
    runs: Path, cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So many rows are in memory as a part has, and a part's answers are those of its rows."""
    rows = [(i, *PAIRS[i % 3]) for i in range(11)]
    text = write_rows(tmp_path / "text.csv", ["id", "sentence1", "sentence2"], rows)
    asked = [f"predict={delta_of(runs, 'rte')}", f"text={text}", "device=cpu"]
    assert cli(*asked, f"out={tmp_path / 'whole.csv'}").code == 0
    monkeypatch.setattr(predicting, "ROWS", 4)
    done = cli(*asked, f"out={tmp_path / 'parts.csv'}")
    assert (done.code, done.err) == (0, "4 of 11 rows\n8 of 11 rows\n")
    whole, parts = read_rows(tmp_path / "whole.csv"), read_rows(tmp_path / "parts.csv")
    for one, other in zip(whole, parts, strict=True):
        shares = [float(row["probability_entailment"]) for row in (one, other)]
        assert shares[0] == pytest.approx(shares[1], abs=1e-5)
        assert {**one, **{k: other[k] for k in other if k[:5] == "proba"}} == other
    seen: list[int] = []

    def counted() -> Iterator[Any]:
        for number, row in enumerate(read_table(text, "text")):
            seen.append(number)
            yield predicting._Example(row, PAIRS[0], ())

    sizes = [(len(part), len(seen)) for part in predicting._parts(counted())]
    assert sizes == [(4, 4), (4, 8), (3, 11)]
    monkeypatch.setattr(predicting, "CHARACTERS", 60)
    assert [len(part) for part in predicting._parts(counted())] == [3, 3, 3, 2]


def test_columns_of_the_tasks_own_files_will_do(tmp_path: Path) -> None:
    rows = [(1, *pair) for pair in PAIRS]
    text = write_rows(tmp_path / "dev.tsv", ["Quality", "#1 String", "#2 String"], rows)
    mrpc, cola = (configure(f"task={task}").settings.task for task in ("mrpc", "cola"))
    assert [one.texts for one in predicting._Table(text, mrpc).rows()] == PAIRS
    with pytest.raises(UserError, match="no column 'sentence', which task=cola reads; it has Qual"):
        next(predicting._Table(text, cola).rows())
    both = write_rows(tmp_path / "both.csv", ["sentence1", "sentence2", "#2 String"], rows)
    with pytest.raises(UserError, match="column 'sentence2' and a column '#2 String', which is w"):
        next(predicting._Table(both, mrpc).rows())


def test_a_mixture_answers_for_the_task_that_is_named(
    given: Callable[[str], list[str]], runs: Path, cli: Cli, tmp_path: Path
) -> None:
    record, delta = record_of(runs, "mix"), delta_of(runs, "mix")
    data = Job(configure(*given("mix")), trains=False).data
    for task, shown in (("rte", ["entailment", "not_entailment"]), ("stsb", None)):
        name = f"{task}/validation"
        predicted = load_predictor(delta, task=task, device="cpu")(data.report[name].texts)
        expected = record.predictions[name]["predictions"]
        if shown:
            assert [shown[int(n)] for n in expected] == predicted.answers
        else:
            assert [float(f"{a:.9g}") for a in predicted.answers] == expected
    text = write_rows(tmp_path / "t.csv", ["sentence1", "sentence2"], PAIRS)
    asked = [f"predict={delta}", f"text={text}", f"out={tmp_path / 'o.csv'}", "device=cpu"]
    assert cli(*asked, "task=stsb").code == 0
    assert list(read_rows(tmp_path / "o.csv")[0]) == ["sentence1", "sentence2", "prediction"]
    assert "say which is meant by task=NAME" in cli(*asked).err
    assert "that run is of tasks rte, stsb, not of cola" in cli(*asked, "task=cola").err
    of_one = [f"predict={delta_of(runs, 'rte')}", *asked[1:], "task=rte"]
    assert "that run is of task=rte alone" in cli(*of_one).err


BAD: dict[str, tuple[str, bytes, str]] = {
    "column": (
        ".csv",
        b"id,sentence1\n1,a\n",
        "no column 'sentence2', which task=rte reads; it has id, sentence1",
    ),
    "ours": (
        ".csv",
        b"prediction,sentence1,sentence2\n1,a,b\n",
        "has a column 'prediction', and so will",
    ),
    "twice": (
        ".csv",
        b"sentence1,sentence1,sentence2\n1,a,b\n",
        "has several columns called 'sentence1'",
    ),
    "few": (".tsv", b"sentence1\tsentence2\na\tb\na\n", "line 3 has 1 fields, expected 2"),
    "many": (".csv", b"sentence1,sentence2\na,b,c\n", "line 2 has 3 fields, expected 2"),
    "quotes": (".csv", b'sentence1,sentence2\n"a,b\n', "check its quotes"),
    "empty text": (".tsv", b"sentence1\tsentence2\na\tb\nc\t \n", "line 3: its sentence2 is empty"),
    "empty line": (".csv", b"sentence1,sentence2\n\na,b\n", "line 2 is empty"),
    "no rows": (".tsv", b"sentence1\tsentence2\n", "has a header and no rows"),
    "nothing": (".csv", b"", "is empty; the columns are named there"),
    "no object": (".jsonl", b"[1]\n", "line 1 is no JSON object"),
    "no json": (".jsonl", b'{"sentence1": "a"\n', "line 1 is no JSON: "),
    "twice in json": (".jsonl", b'{"sentence1": "a", "sentence1": "b"}\n', "stands twice"),
    "number": (
        ".jsonl",
        b'{"sentence1": "a", "sentence2": 5}\n',
        "line 1: its sentence2 is 5, no text",
    ),
    "key": (
        ".jsonl",
        b'{"sentence1": "a", "sentence2": "b"}\n{"sentence1": "a"}\n',
        "line 2 has no column 'sentence2'",
    ),
    "keys": (
        ".jsonl",
        b'{"sentence1": "a", "sentence2": "b"}\n{"sentence2": "a", "sentence1": "b"}\n',
        "line 2 has the keys sentence2, sentence1, its first line",
    ),
    "json as table": (
        ".csv",
        b'{"sentence1": 5}\n',
        "is no table: it looks like JSON lines; call it .jsonl",
    ),
    "gzip": (".csv", gzip.compress(b"sentence1,sentence2\na,b\n"), "looks like gzip: unpack it"),
    "wide": (
        ".tsv",
        "sentence1\tsentence2\na\tb\n".encode("utf-16"),
        "looks like UTF-16: save it as UTF-8",
    ),
    "latin": (
        ".csv",
        b"sentence1,sentence2\na,b\xe9\n",
        "is not UTF-8 at byte 23: it looks like Latin-1",
    ),
    "nul": (".csv", b"sentence1,sentence2\na,b\0\n", "line 2 holds a NUL byte"),
}


@pytest.mark.parametrize("name", BAD)
def test_a_table_that_cannot_be_answered_is_one_line(name: str, tmp_path: Path) -> None:
    """Before any model is loaded: the whole table is gone through first."""
    end, content, said = BAD[name]
    text = tmp_path / f"text{end}"
    text.write_bytes(content)
    table = predicting._Table(text, configure("task=rte").settings.task)
    with pytest.raises(UserError) as refusal:
        table.check(TableWriter(".csv", table.where))
    line = str(refusal.value)
    assert line.startswith(f"text={text}")
    assert said in line
    assert "\n" not in line


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        (["text=text.csv", "out=text.csv"], "out=text.csv is text=, which would be lost"),
        (["text=text.csv", "out=link.csv"], "out=link.csv is text=, which would be lost"),
        (["text=text.csv", "out=out.txt"], "out=out.txt: the name must end in .csv, .tsv, .jsonl"),
        (["text=text.json", "out=out.csv"], "text=text.json: the name must end in .csv, .tsv, .js"),
        (["text=none.csv", "out=out.csv"], "text=none.csv is missing"),
        (["text=a.csv", "out=out.csv"], "text=a.csv is no file"),
        (["text=text.csv", "out=a.csv"], "out=a.csv: that is a folder"),
        (["out=out.csv"], "predict=RUN needs text=FILE"),
        (["text=text.csv", "out=out.csv", "lr=1"], "lr= would change nothing: predict= takes"),
        (["text=text.csv", "out=out.csv", "task.version=2"], "task.version= would change nothing"),
        (["text=text.csv", "out=out.tsv"], "line 3: a text holds a tab or a line's end"),
        (["text=bad.csv", "out=out.csv"], "text=bad.csv line 2 has no column 'sentence2', which"),
        (["text=text.csv", "out=out.csv", "predict=no"], "predict=no: no such record"),
        (["text=text.csv", "out=out.csv", "predict=a.csv"], "predict=a.csv: that is a folder"),
    ],
)
def test_a_command_that_cannot_be_done_is_one_line(
    asked: list[str],
    said: str,
    runs: Path,
    cli: Cli,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("text.csv").write_text('sentence1,sentence2\n"a\nb",c\n')
    Path("link.csv").symlink_to("text.csv")
    Path("bad.csv").write_text("sentence1\na\n")
    Path("text.json").write_text("{}")
    Path("a.csv").mkdir()
    before = sorted(tmp_path.rglob("*"))
    done = cli(f"predict={delta_of(runs, 'rte')}", *asked)
    assert (done.code, done.err.count("\n")) == (2, 1), done.err
    assert said in done.err
    assert sorted(tmp_path.rglob("*")) == before


def test_a_run_that_answers_nothing_is_named(runs: Path, cli: Cli, tmp_path: Path) -> None:
    for given, said in (
        (["method=embedding", "task=sts"], "task=sts, which makes vectors: embed=RUN writes those"),
        (["task=mlm", "task.mlm.on=[rte]"], "task=mlm, which predicts masked tokens"),
    ):
        stored = Stored("r", configure(*given), tmp_path, "predict=r", None)
        with pytest.raises(UserError, match=said):
            answered_task(stored, None)
    text, record = tmp_path / "t.csv", record_of(runs, "rte")
    text.write_text("sentence1,sentence2\na,b\n")

    def refusal(run: Path) -> str:
        done = cli(f"predict={run}", f"text={text}", f"out={tmp_path / 'o.csv'}")
        assert (done.code, done.err.count("\n")) == (2, 1), done.err
        return done.err

    alone = write(record, tmp_path / "runs")
    assert "is not there; run it again with save=delta" in refusal(alone)
    alone.unlink()
    record.status = "diverged"
    assert "that run is diverged; name a finished one" in refusal(write(record, alone.parent))


def test_a_full_disk_leaves_nothing_half_written(
    runs: Path, cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = write_rows(tmp_path / "t.csv", ["sentence1", "sentence2"], PAIRS)
    out = tmp_path / "o.csv"
    out.write_text("kept")
    calls = itertools.count()

    def full(writer: predicting.TableWriter, *rest: Any) -> None:
        if writer.stream is not None and next(calls):
            raise OSError(28, "No space left on device")

    monkeypatch.setattr(predicting.TableWriter, "write", full)
    done = cli(f"predict={delta_of(runs, 'rte')}", f"text={text}", f"out={out}")
    assert (done.code, done.err) == (
        2,
        f"error: out={out}: cannot be written (No space left on device)\n",
    )
    assert out.read_text() == "kept"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["o.csv", "t.csv"]


def test_options_are_answered_by_name(cli: Cli, tiny_folder: Folder, tmp_path: Path) -> None:
    words = ["dogs", "cats", "film"]
    columns = ["question", "first", "second", "answer"]
    rows = [(f"what of {w}", f"the {w}", "the house", "A") for w in words]
    rows += [(f"what of {w}", "the house", f"the {w}", "B") for w in words]
    rows += [("what of both", "the dogs", "", "A")]  # an option without words
    for name in ("train.csv", "dev.csv"):
        write_rows(tmp_path / name, columns, rows)
    (tmp_path / "own" / "task").mkdir(parents=True)
    (tmp_path / "own" / "task" / "pick.yaml").write_text(
        "name: pick\nkind: multiple_choice\ntext: [question]\noptions: [first, second]\n"
        f"labels: [A, B]\nmetrics: [accuracy]\nlocal:\n  train: {tmp_path}/train.csv\n"
        f"  report: {{validation: {tmp_path}/dev.csv}}\n  columns: {{label: answer}}\n"
    )
    small = [a for a in tiny(tiny_folder("bert"), "task=pick", "save=delta") if "data" not in a]
    done = cli("--config-dir", str(tmp_path / "own"), *small)
    assert done.code == 0, done.err
    [record] = read_all(tmp_path / "runs")
    out = tmp_path / "out.csv"
    run = tmp_path / "runs" / f"{record.run}.json"
    done = cli(f"predict={run}", f"text={tmp_path / 'dev.csv'}", f"out={out}", "device=cpu")
    assert done.code == 0, done.err
    answered = read_rows(out)
    expected = record.predictions["validation"]["predictions"]
    assert [row["prediction"] for row in answered] == ["AB"[int(n)] for n in expected]
    assert list(answered[0])[-3:] == ["prediction", "probability_A", "probability_B"]
