"""Sets of other tasks: read with their own columns and labels, reported, and no part of a score."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from results.record import read, read_all
from results.tables.collect import tables
from runners.config.settings import Data
from runners.config.task import Task
from runners.data import further as module
from runners.data.further import read_further, translation
from runners.data.local import read_local
from runners.data.split import Split
from runners.jobs import identity
from runners.tasks.metrics import score_split
from tests.conftest import Cli, configure, tiny
from tests.runners.boards.test_board import Folder

MERGE = "merge: {neutral: not_entailment, contradiction: not_entailment}"
RTE = f"+task.further.rte={{task: rte, {MERGE}}}"


def test_labels_are_led_to_the_other_tasks() -> None:
    task = configure("task=mnli", RTE).settings.task
    assert task.labels == ["entailment", "neutral", "contradiction"]
    assert translation(task, task.further["rte"]) == [0, 1, 1]
    assert task.further["rte"].definition is not None
    assert task.further["rte"].definition.labels == ["entailment", "not_entailment"]


def test_a_revision_is_of_the_sets_that_lie_in_the_same_place(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """They were read as they are now, whatever revision of them was asked for."""
    task = configure("task=mnli", RTE).settings.task
    asked: list[str | None] = []

    def read(theirs: Task, revision: str | None) -> tuple[Split, dict[str, Split], None]:
        asked.append(revision)
        split = Split("validation", (("a", "b"),), (0,))
        return split, {"validation": split}, None

    monkeypatch.setattr(module, "read_hub", read)
    data = Data(source="hub", revision="0123abc")
    for path in ("nyu-mll/glue", "other/set", None):
        assert read_further("rte", task.further["rte"], data, "hub", path).name == "rte"
    assert asked == ["0123abc", None, None]


def test_a_diagnostic_set_has_its_own_metric_whatever_the_run_calls_it() -> None:
    """The name was looked up among the other task's splits: another name, another metric."""
    names = set()
    for name in ("ax", "glue_ax"):
        given = (
            f"+task.further.{name}={{task: mnli, split: ax, merge: {{not_entailment: neutral}}}}"
        )
        task = configure("task=rte", given).settings.task
        scores, _ = score_split(*task.of_split(name), np.array([0.0, 1, 2, 2]), [0, 1, 2, 1])
        assert list(scores) == ["matthews_correlation"]
        names.add("own_metrics" in identity._further(task)[name])
    assert names == {True, False}  # what had that metric before keeps its name
    merge = "merge: {not_entailment: neutral}"
    given = f"+task.further.ax={{task: mnli, split: validation_mismatched, {merge}}}"
    task = configure("task=rte", given).settings.task
    scores, _ = score_split(*task.of_split("ax"), np.array([0.0, 1, 2, 2]), [0, 1, 2, 1])
    assert scores == {"accuracy": 0.75}


def test_a_run_reports_them_beside_its_own_score(
    cli: Cli, tiny_folder: Folder, tmp_path: Path
) -> None:
    given = [a for a in tiny(tiny_folder("bert"), "threads=1") if not a.startswith("task=")]
    assert cli(*given, "task=mnli", RTE, "save=delta").code == 0
    assert cli(*given, "task=mnli").code == 0
    own, plain = sorted(read_all(tmp_path / "runs"), key=lambda r: -len(r.scores))
    assert own.run != plain.run
    assert own.score == plain.score  # nothing but the report differs
    assert own.trained_sha256 == plain.trained_sha256
    kept = own.predictions["rte"]
    again = sum(map(int.__eq__, kept["predictions"], kept["references"])) / len(kept["references"])
    assert own.scores["rte"] == {"accuracy": pytest.approx(again)}
    assert set(kept["predictions"]) <= {0, 1}
    assert own.score != pytest.approx((own.score or 0) / 2 + again / 2)
    [table] = tables([own, plain])
    assert table.tasks == ("mnli", "rte by mnli")
    scored = cli(f"eval={tmp_path / 'runs' / own.run}.delta")
    assert scored.code == 0, scored.err
    assert f"rte: accuracy {100 * again:.2f}" in scored.out
    verified = cli(f"verify={own.run}", "threads=1")
    assert verified.code == 0, verified.err


def test_a_record_whose_further_score_is_another_is_damaged(
    cli: Cli, tiny_folder: Folder, tmp_path: Path
) -> None:
    given = [a for a in tiny(tiny_folder("bert")) if not a.startswith("task=")]
    assert cli(*given, "task=mnli", RTE).code == 0
    [path] = (tmp_path / "runs").glob("*.json")
    content = json.loads(path.read_text())
    content["scores"]["rte"]["accuracy"] = 1.0
    content.pop("sha256", None)
    path.write_text(json.dumps(content))
    with pytest.raises(Exception, match="damaged"):
        read(path)


def test_sick_is_read_with_its_own_names_from_a_folder_of_its_own(real_sts: Path) -> None:
    task = configure("task=sick").settings.task
    train, report = read_local(task, real_sts, skip_malformed=False)
    rows = (real_sts / "SICK" / "SICK_test_annotated.txt").read_text().splitlines()[1:]
    assert (len(train), len(rows), len(report["test"])) == (4500, 4927, 4927)
    for row, texts, label in zip(
        rows, report["test"].texts, report["test"].labels or (), strict=True
    ):
        _, one, other, _, judgement = row.split("\t")
        assert texts == (one, other)
        assert task.labels[int(label)] == judgement.lower()


@pytest.mark.parametrize(
    ("typed", "said"),
    [
        ("+task.further.rte={task: rte}", "label neutral has no counterpart"),
        ("+task.further.rte={task: rtee}", "did you mean rte?"),
        ("+task.further.x={task: stsb}", "is of kind=regression"),
        ("+task.further.x={task: cola}", "has 1 texts, this 2"),
        ("+task.further.x={task: sts}", "has no text of its own"),
        ("+task.further.x={task: qnli, split: test}", "no such report split"),
        ("+task.further.train={task: mnli}", "a run calls a split of its own train"),
        ("+task.further.validation_matched={task: mnli}", "a split of its own validation_matched"),
        (f"+task.further.rte={{task: rte, {MERGE[:-1]}, no: entailment}}}}", "no is no label"),
        ("+task.further.x={tusk: mnli}", "tusk"),
        ("+task.further=[rte]", "further"),
    ],
)
def test_wrong_further_sets_are_one_line(typed: str, said: str, cli: Cli) -> None:
    done = cli("task=mnli", "data=embedded", typed)
    assert (done.code, done.err.count("\n")) == (2, 1), done.err
    assert said in done.err
