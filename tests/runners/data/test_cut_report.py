"""A part of a single labelled file is cut off to report on."""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from results.errors import UserError
from results.record import read_all
from runners.config.check import RunConfig
from runners.jobs.job import Job
from tests.conftest import Cli, configure

Folder = Callable[[str], Path]
Own = Callable[..., RunConfig]
ROWS = [(f"text {i} of the film", "warm" if i % 4 else "dull") for i in range(80)]
CLASSES = "labels: [dull, warm]\nmetrics: [accuracy]"
SCORES = "kind: regression\nrange: [0, 9]\nmetrics: [pearson]"


def _write(folder: Path, rows: list[tuple[str, str]], answers: str, name: str = "mine") -> Path:
    with (folder / f"{name}.csv").open("w", newline="") as stream:
        csv.writer(stream).writerows([("text", "label"), *rows])
    (folder / "own" / "task").mkdir(parents=True, exist_ok=True)
    text = f"name: {name}\ntext: [text]\n{answers}\nlocal: {{train: {folder}/{name}.csv}}\n"
    (folder / "own" / "task" / f"{name}.yaml").write_text(text)
    return folder / "own"


@pytest.fixture
def own(tmp_path: Path) -> Own:
    """Return a function that configures a run on rows of one's own."""

    def configured(
        *typed: str, rows: list[tuple[str, str]] | None = None, answers: str = CLASSES
    ) -> RunConfig:
        folder = _write(tmp_path, ROWS if rows is None else rows, answers)
        return configure("task=mine", "data=local", *typed, config_dir=folder)

    return configured


def test_each_class_gives_its_share_by_the_datas_seed_and_no_row_is_lost(own: Own) -> None:
    data = Job(own("task.local.split=0.1")).data
    dev = data.report["validation"]
    assert Counter(dev.labels or ()) == {0: 2, 1: 6}
    texts = [*data.train.texts, *dev.texts]
    assert sorted(texts) == sorted((text,) for text, _ in ROWS)
    labels = dict(zip(texts, [*(data.train.labels or ()), *(dev.labels or ())], strict=True))
    assert labels == {(text,): int(answer == "warm") for text, answer in ROWS}
    assert data.complete == {"train": True, "validation": True}
    again = Job(own("task.local.split=0.1", "seed=7")).data
    assert again.splits()["validation"].sha256 == dev.sha256
    by_run = Job(own("task.local.split=0.1", "seed=7", "data.seed=seed", "data.train_size=20"))
    assert by_run.data.report["validation"].sha256 == dev.sha256
    names = {
        Job(own(f"task.local.split={share}", f"data.seed={seed}")).name
        for share, seed in ((0.1, 0), (0.2, 0), (0.1, 1))
    }
    assert len(names) == 3


def test_scores_are_cut_by_chance_and_selection_is_cut_from_the_rest(own: Own) -> None:
    rows = [(text, str(i % 10)) for i, (text, _) in enumerate(ROWS)]
    typed = ("task.local.split=0.25", "protocol=select", "protocol.fraction=0.5")
    data = Job(own(*typed, rows=rows, answers=SCORES)).data
    assert data.selection is not None
    sizes = [len(split) for split in (data.train, data.selection, data.report["validation"])]
    assert sizes == [30, 30, 20]
    assert len({t for split in data.splits().values() for t in split.texts}) == 80


@pytest.mark.parametrize(
    ("typed", "rows", "said"),
    [
        ((), ROWS, "report names no file; name one, or cut a part from train by split=0.1"),
        (("task.local.split=0",), ROWS, "task.local.split=0 (must be > 0)"),
        (("task.local.split=1",), ROWS, "task.local.split=1 (must be < 1)"),
        (
            ("task.local.split=0.1", "+task.local.report.dev=dev.csv"),
            ROWS,
            "split=0.1 and report (dev) are two ways to have rows to report on",
        ),
        (
            ("task.local.split=0.1", "+task.local.where_present.validation=dev.csv"),
            ROWS,
            "split calls the part that it cuts validation",
        ),
        (
            ("task.local.split=0.1",),
            [*ROWS[1:4], ("one", "dull")],
            "task.local.split=0.1: of mine's 4 rows only 1 dull: each class needs a row to train",
        ),
        (("task.local.split=0.9",), ROWS[:6], "only 2 dull, 4 warm: each class needs a row"),
    ],
)
def test_what_cannot_be_cut_is_refused(
    typed: tuple[str, ...], rows: list[tuple[str, str]], said: str, own: Own
) -> None:
    with pytest.raises(UserError) as refused:
        _ = Job(own(*typed, rows=rows)).data
    assert said in str(refused.value), refused.value


def test_too_few_scores_are_refused(own: Own) -> None:
    rows = [("a", "1"), ("b", "2"), ("c", "3")]
    with pytest.raises(UserError, match=r"1 would be reported on and 2 trained on; each needs two"):
        _ = Job(own("task.local.split=0.1", rows=rows, answers=SCORES)).data


def test_masked_text_is_that_to_train_on_and_another_task_cannot_report_the_part(
    tmp_path: Path,
) -> None:
    folder = _write(tmp_path, ROWS, CLASSES)
    path = folder / "task" / "mine.yaml"
    path.write_text(path.read_text().replace("}", ", split: 0.1}"))
    dev = Job(configure("task=mine", "data=local", config_dir=folder)).data.report["validation"]
    masked = configure("task=mlm", "mlm.on=[mine]", "data=local", config_dir=folder)
    lines = [t for split in Job(masked).data.splits().values() for t in split.texts]
    assert len(lines) == len(ROWS) - len(dev)
    assert not {*lines} & {*dev.texts}
    _write(tmp_path, ROWS, CLASSES, "other")
    given = ("task=other", "data=local", "task.local.split=0.1", "+task.further.mine.task=mine")
    with pytest.raises(UserError, match=r"task=mine cuts its report rows from train"):
        configure(*given, config_dir=folder)


def test_a_user_with_one_file_can_train(tmp_path: Path, tiny_folder: Folder, cli: Cli) -> None:
    folder = _write(tmp_path, ROWS, CLASSES)
    typed = ["--config-dir", str(folder), "task=mine", "data=local", "task.local.split=0.1"]
    typed += ["budget=smoke", "device=cpu", f"model.name_or_path={tiny_folder('bert')}"]
    done = cli(*typed, "budget.max_length=24")
    assert done.code == 0, done.err
    [record] = read_all(tmp_path / "runs")
    assert record.data["splits"]["validation"]["rows"] == 8
    assert record.config["task"]["local"]["split"] == 0.1
    assert " task.local.split=0.1 " in record.command  # as it was typed
    assert record.data["doctor"]["splits"]["validation"]["classes"] == {"dull": 2, "warm": 6}
