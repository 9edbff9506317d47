"""Scored pairs are read as SentEval reads them, and scored over a year or by its subsets."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import scipy.stats

from results.errors import UserError
from runners.config.task import Pairs, Task
from runners.data.load import load_task_data
from runners.data.pairs import read_hub_pairs, read_pairs
from runners.tasks.metrics import score_split
from tests.conftest import Cli, configure, tiny

TASK: Task = configure("method=embedding", "task=sts").settings.task
# Published counts of scored pairs, and of the files of a year.
COUNTS = {
    "STS12": (3108, 5),
    "STS13": (1500, 3),
    "STS14": (3750, 6),
    "STS15": (3000, 5),
    "STS16": (1186, 5),
    "STS-B": (1379, 0),
    "SICK-R": (4927, 0),
}


@pytest.mark.real_data
def test_every_set_has_the_published_number_of_pairs(real_sts: Path) -> None:
    assert set(TASK.pairs) == set(COUNTS)
    for name, files in TASK.pairs.items():
        split = read_pairs(TASK, name, files, real_sts)
        assert (len(split), len(set(split.subsets or ()))) == COUNTS[name]
        assert TASK.rows[name] == len(split)
    lines = sum(
        len(p.read_text().splitlines()) for p in (real_sts / "STS15-en-test").glob("STS.input*")
    )
    assert lines == 8500


@pytest.mark.real_data
def test_selection_is_the_development_set(real_sts: Path) -> None:
    given = ("method=embedding", "task=sts", "data=local", f"data.dir={real_sts}")
    settings = configure(*given, "protocol=select").settings
    data = load_task_data(settings.task, settings.data, settings.protocol, "nothing")
    assert data.selection is not None
    assert len(data.selection) == 1500
    assert list(data.report) == list(COUNTS)
    assert len(data.train) == 0


def _year(folder: Path, parts: dict[str, tuple[str, str]]) -> Path:
    year = folder / "STS12-en-test"
    year.mkdir(parents=True)
    for name, (pairs, golds) in parts.items():
        (year / f"STS.input.{name}.txt").write_text(pairs, encoding="utf-8")
        (year / f"STS.gs.{name}.txt").write_text(golds, encoding="utf-8")
    return folder


def test_pairs_without_a_score_are_left_out(tmp_path: Path) -> None:
    folder = _year(
        tmp_path, {"a": ("A  b\tc\td\ne\tf\ng\th\u2028i\n", "1.5\n\n5\n"), "b": ("j\tk\n", "0\n")}
    )
    split = read_pairs(TASK, "STS12", TASK.pairs["STS12"], folder)
    assert split.texts == (("A b", "c"), ("g", "h i"), ("j", "k"))
    assert split.labels == (1.5, 5.0, 0.0)
    assert split.subsets == ("a", "a", "b")
    assert split.take([2]).subsets == ("b",)


@pytest.mark.parametrize(
    ("pairs", "golds", "sentence"),
    [
        ("a\tb\nc\td\n", "1\n", "STS.input.x.txt has 2 lines and STS.gs.x.txt 1"),
        ("a\tb\nc\td\n", "1\n6\n", r"STS.gs.x.txt line 2: '6' is not a score from 0 to 5"),
        ("a\tb\nc\td\n", "1\nnan\n", "'nan' is not a score"),
        ("a\tb\nc\td\n", "1\nhigh\n", "'high' is not a score"),
        ("a\tb\nc\n", "1\n2\n", r"STS.input.x.txt line 2 has one field"),
        ("a\tb\n \td\n", "1\n2\n", r"STS.input.x.txt line 2 has an empty sentence"),
        ("a\tb\n", "1\n", "1 scored pairs"),
    ],
)
def test_faults_are_named_with_file_and_line(
    pairs: str, golds: str, sentence: str, tmp_path: Path
) -> None:
    folder = _year(tmp_path, {"x": (pairs, golds)})
    with pytest.raises(UserError, match=sentence):
        read_pairs(TASK, "STS12", TASK.pairs["STS12"], folder)


def test_missing_year_and_missing_file(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="STS13-en-test is missing: STS13 lies there"):
        read_pairs(TASK, "STS13", TASK.pairs["STS13"], tmp_path)
    with pytest.raises(UserError, match=r"sts-test.csv is missing"):
        read_pairs(TASK, "STS-B", TASK.pairs["STS-B"], tmp_path)
    (tmp_path / "STSBenchmark").mkdir()
    path = tmp_path / "STSBenchmark" / "sts-test.csv"
    path.write_text("g\tf\ty\t1\t2.5\tone\n")
    with pytest.raises(UserError, match=r"sts-test.csv line 1 has 6 fields, expected 7"):
        read_pairs(TASK, "STS-B", TASK.pairs["STS-B"], tmp_path)
    path.write_bytes(b"g\tf\ty\t1\t2.5\tone\t\xff\n")
    with pytest.raises(UserError, match="not UTF-8 at byte"):
        read_pairs(TASK, "STS-B", TASK.pairs["STS-B"], tmp_path)


def test_a_year_is_scored_over_all_its_pairs_or_by_its_subsets() -> None:
    """Two subsets of opposite offsets: each ranked well alone, badly together."""
    rng = np.random.default_rng(0)
    gold = np.concatenate([rng.uniform(0, 2, 40), rng.uniform(3, 5, 40)])
    predicted = gold + rng.normal(0, 0.3, 80) + np.repeat([5.0, 0.0], 40)
    subsets = ["a"] * 40 + ["b"] * 40
    task = TASK.model_copy(update={"metrics": ["spearmanr", "spearmanr_subsets"]})
    found, undefined = score_split(task, "STS12", predicted, gold.tolist(), subsets)
    whole = scipy.stats.spearmanr(predicted, gold)[0]
    parts = [scipy.stats.spearmanr(predicted[i : i + 40], gold[i : i + 40])[0] for i in (0, 40)]
    assert found["spearmanr"] == pytest.approx(whole)
    assert found["spearmanr_subsets"] == pytest.approx(np.mean(parts))
    assert whole < 0 < 0.8 < np.mean(parts)
    assert undefined == []


def test_a_constant_subset_is_undefined() -> None:
    task = TASK.model_copy(update={"metrics": ["spearmanr_subsets"]})
    predicted = np.array([0.1, 0.2, 0.5, 0.5])
    found, undefined = score_split(task, "x", predicted, [1, 2, 3, 4], ["a", "a", "b", "b"])
    assert found == pytest.approx({"spearmanr_subsets": 0.5})
    assert undefined == ["spearmanr_subsets"]


def test_a_mean_over_subsets_is_refused_where_the_hub_tells_none() -> None:
    """It was the correlation over all pairs, under the name of the mean."""
    task = TASK.model_copy(update={"metrics": ["spearmanr_subsets"]})
    files = Pairs(folder="STS12-en-test", hub="mteb/sts12-sts")
    with pytest.raises(UserError, match="mteb/sts12-sts does not tell the subsets of STS12"):
        read_hub_pairs(task, "STS12", files, None)


def test_subsets_metric_is_asked_for_on_the_command_line(
    cli: Cli, tiny_folder: object, tmp_path: Path
) -> None:
    folder = tiny_folder("bert")  # type: ignore[operator]
    given = tiny(folder, "method=embedding", "task=sts", "task.metrics=[spearmanr_subsets]")
    done = cli(*given)
    assert done.code == 0, done.err
    assert "STS-B: spearmanr_subsets" in done.out
    assert cli("task=sst2", "task.metrics=[spearmanr_subsets]").code == 2
