"""GLUE's TSV layout is read with its traps, and a user's own files with no code."""

from __future__ import annotations

from pathlib import Path

import pytest

from results import record as records
from results.errors import UserError
from runners.config.task import Task
from runners.data.local import read_file, read_local
from runners.data.split import Split
from tests.conftest import Cli, configure


def _task(name: str) -> Task:
    return configure(f"task={name}").settings.task


def test_quotes_separators_and_a_byte_order_mark_are_text(tmp_path: Path) -> None:
    folder = tmp_path / "MRPC"
    folder.mkdir()
    header = "\ufeffQuality\t#1 ID\t#2 ID\t#1 String\t#2 String\n"
    rows = ['1\t1\t2\t"Open quote\tline\u2028 separator\n', "0\t3\t4\tnext\x85line\tform\x0cfeed\n"]
    for name in ("train.tsv", "dev.tsv"):
        (folder / name).write_text(header + "".join(rows), encoding="utf-8")
    train, _ = read_local(_task("mrpc"), tmp_path, skip_malformed=False)
    assert train.texts == (
        ('"Open quote', "line\u2028 separator"),
        ("next\x85line", "form\x0cfeed"),
    )
    assert train.labels == (1, 0)


def test_windows_line_ends_and_a_missing_last_newline(tmp_path: Path) -> None:
    path = tmp_path / "train.tsv"
    path.write_bytes(b"sentence\tlabel\r\ngood\t1\r\nbad\t0")
    task = _task("sst2")
    assert task.local is not None
    split = read_file(task, task.local, path, "train", False)
    assert split.texts == (("good",), ("bad",))
    assert split.labels == (1, 0)


def test_labels_go_by_name_whatever_their_order_in_the_file(tmp_path: Path) -> None:
    path = tmp_path / "train.tsv"
    path.write_text(
        "label\tx\tsentence2\tsentence1\nnot_entailment\t-\tb\ta\nentailment\t-\td\tc\n"
    )
    task = _task("rte")
    assert task.local is not None
    split = read_file(task, task.local, path, "train", False)
    assert split.texts == (("a", "b"), ("c", "d"))
    assert split.labels == (1, 0)


def test_a_diagnostic_set_has_the_labels_of_its_column(tmp_path: Path) -> None:
    """CoLA's files have no header, and their columns are numbers."""
    folder = tmp_path / "CoLA"
    folder.mkdir()
    for name in ("train.tsv", "dev.tsv", "hard.tsv"):
        (folder / name).write_text("a\t1\t\tHe went .\nb\t0\t*\tWent he .\n")
    more = ("+task.local.report.hard=CoLA/hard.tsv", "+task.diagnostics={hard: [accuracy]}")
    task = configure("task=cola", *more).settings.task
    report = read_local(task, tmp_path, skip_malformed=False)[1]
    assert report["hard"].labels == (1, 0)


def test_malformed_rows_can_be_left_out_and_are_counted(tmp_path: Path) -> None:
    path = tmp_path / "train.tsv"
    path.write_text("sentence\tlabel\ngood\t1\nno label\nbad\t0\n")
    task = _task("sst2")
    assert task.local is not None
    split = read_file(task, task.local, path, "train", skip_malformed=True)
    assert (len(split), split.skipped_rows) == (2, 1)


def _read(task: Task, path: Path, text: str, **changes: object) -> Split:
    path.write_text(text)
    assert task.local is not None
    return read_file(task, task.local.model_copy(update=changes), path, "train", False)


@pytest.mark.parametrize("twice", ["sentence", "label"])
@pytest.mark.parametrize(("suffix", "between"), [("tsv", "\t"), ("csv", ",")])
def test_a_used_column_that_a_header_names_twice_is_not_chosen_by_chance(
    twice: str, suffix: str, between: str, tmp_path: Path
) -> None:
    task, path = _task("sst2"), tmp_path / f"train.{suffix}"
    header, first, second = ["sentence", "label", twice], ["a", "1", "0"], ["b", "0", "1"]
    text = "\n".join(between.join(row) for row in (header, first, second))
    with pytest.raises(UserError, match=rf"train.{suffix} has 2 columns called '{twice}'; rename"):
        _read(task, path, text)
    split = _read(task, path, text, columns={"sentence": 0, "label": 1})
    assert (split.texts, split.labels) == ((("a",), ("b",)), (1, 0))
    others = between.join(["x", "sentence", "x", "label"]) + "\n" + between.join("1a10")
    assert _read(task, path, others).texts == (("a",),)


def test_a_field_of_a_csv_may_be_longer_than_pythons_limit(tmp_path: Path) -> None:
    long = "word, " * 40_000
    split = _read(_task("sst2"), tmp_path / "a.csv", f'sentence,label\n"{long}",1\nshort,0\n')
    assert split.texts == ((long,), ("short",))


@pytest.mark.parametrize(
    ("name", "train", "report"),
    [
        ("cola", 8551, {"validation": 1043}),
        ("sst2", 67349, {"validation": 872}),
        ("stsb", 5749, {"validation": 1500}),
        ("rte", 2490, {"validation": 277}),
        ("wnli", 635, {"validation": 71}),
        ("qnli", 8999, {"validation": 5463}),
        ("qqp", 8999, {"validation": 1000}),
        ("mnli", 8999, {"validation_matched": 1000, "ax": 1104}),
    ],
)
@pytest.mark.real_data
def test_real_files_have_their_rows(
    name: str, train: int, report: dict[str, int], real_glue: Path
) -> None:
    found, splits = read_local(_task(name), real_glue, skip_malformed=False)
    assert len(found) == train
    assert {k: len(v) for k, v in splits.items()} == report
    assert all((v.labels is None) == (k == "ax") for k, v in splits.items())


_ROWS = [
    ("the match was won", "sport"),
    ("the goal, late", "sport"),
    ('he said "vote"', "politics"),
    ("a law", "politics"),
]


def _own_yaml(folder: Path, suffix: str) -> Path:
    configs = folder / "my_configs"
    (configs / "task").mkdir(parents=True)
    (configs / "task" / "topics.yaml").write_text(
        "name: topics\n"
        "text: [headline]\n"
        "labels: [politics, sport]\n"
        "metrics: [accuracy, macro_f1]\n"
        "local:\n"
        f"  train: {folder}/train.{suffix}\n"
        f"  report: {{validation: {folder}/dev.{suffix}}}\n"
        "  columns: {headline: title, label: topic}\n"
    )
    return configs


@pytest.mark.parametrize("suffix", ["tsv", "csv"])
def test_users_own_task_is_one_yaml_and_no_code(
    suffix: str, cli: Cli, tmp_path: Path, tiny_folder
) -> None:
    import csv

    for name in ("train", "dev"):
        with (tmp_path / f"{name}.{suffix}").open("w", newline="") as stream:
            if suffix == "csv":
                csv.writer(stream).writerows(
                    [("id", "title", "topic"), *((i, *r) for i, r in enumerate(_ROWS))]
                )
            else:
                stream.writelines("\t".join(r) + "\n" for r in [("title", "topic"), *_ROWS])
    configs = _own_yaml(tmp_path, suffix)
    done = cli(
        "--config-dir",
        str(configs),
        "task=topics",
        "budget=smoke",
        f"model.name_or_path={tiny_folder('bert')}",
    )
    assert done.code == 0, done.err
    [record] = records.read_all(tmp_path / "runs")
    assert set(record.scores["validation"]) == {"accuracy", "macro_f1"}
    assert record.data["source"] == "local"
    assert record.predictions["validation"]["references"] == [1, 1, 0, 0]
    assert record.data["splits"]["train"]["rows"] == 4
    assert record.data["splits"]["train"]["complete"] is True
    assert "subset" not in done.out
