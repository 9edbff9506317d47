"""Where data come from, and what is said where they cannot."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from results.errors import UserError
from runners.config.settings import Data
from runners.config.task import Further, Task
from runners.data.corpus import read_training_text
from runners.data.further import read_further
from runners.data.load import load_task_data
from runners.data.sources import _source_of_pairs, choose_source, local_folder
from runners.data.split import Split, cut_selection
from tests.conftest import configure

OWN = Task.model_validate(
    {
        "name": "topics",
        "kind": "classification",
        "text": ["title"],
        "labels": ["a", "b"],
        "metrics": ["accuracy"],
        "local": {"train": "train.csv", "report": {"validation": "dev.csv"}},
    }
)


def test_files_of_ones_own_are_sought_here_whatever_the_environment_says_of_glue(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GLUE_DIR", str(tmp_path))
    assert local_folder(OWN, Data(source="local")) == Path.cwd()
    assert local_folder(OWN, Data(source="local", dir=str(tmp_path))) == tmp_path
    assert local_folder(configure("task=rte").settings.task, Data(source="local")) == tmp_path


def test_whole_paths_are_files_of_ones_own_whatever_else_a_task_has(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A task that lies on the hub too was read from there, or generated, without a word."""
    monkeypatch.delenv("GLUE_DIR", raising=False)
    mine = f"{tmp_path}/mine.tsv"
    typed = (f"task.local.train={mine}", f"task.local.report.validation={mine}")
    task = configure("task=rte", *typed).settings.task
    assert choose_source(task, Data(source="auto")) == ("local", "local files are configured")
    assert local_folder(task, Data(source="local")) == Path.cwd()
    half = configure("task=rte", typed[0]).settings.task
    assert choose_source(half, Data(source="auto"))[0] != "local"


def test_pairs_that_are_not_generated_are_not_promised() -> None:
    task = configure("task=sts", "method=embedding").settings.task
    assert _source_of_pairs(task, Data(source="embedded"))[0] == "embedded"
    other = task.model_copy(update={"pairs": {"MINE": next(iter(task.pairs.values()))}})
    with pytest.raises(UserError, match="data=embedded: task sts has none of the sets"):
        _source_of_pairs(other, Data(source="embedded"))


def test_no_source_is_chosen_that_has_none_of_the_sets(monkeypatch: pytest.MonkeyPatch) -> None:
    """The run failed inside its first evaluation."""
    monkeypatch.delenv("STS_DIR", raising=False)
    task = configure("task=sts", "method=embedding", "~task.pairs.STS-B").settings.task
    with pytest.raises(
        UserError, match=r"task=sts: no data: data\.dir is not set and HF_HUB_OFFLI"
    ):
        _source_of_pairs(task, Data(source="auto"))


def test_a_folder_that_is_not_there_is_named_as_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever named it, data.dir was blamed."""
    gone = tmp_path / "none"
    for name in ("GLUE_DIR", "STS_DIR"):
        monkeypatch.setenv(name, str(gone))
    for given, variable in (
        (["task=rte"], "GLUE_DIR"),
        (["task=sts", "method=embedding"], "STS_DIR"),
    ):
        settings = configure(*given, "data=local").settings
        with pytest.raises(UserError, match=f"^{variable}={gone}: no such folder"):
            load_task_data(settings.task, settings.data, settings.protocol)
    settings = configure("task=sts", "method=simcse", "data=embedded").settings
    with pytest.raises(UserError, match=f"{gone} holds no training set of GLUE"):
        read_training_text(settings.data, "local", "sentences", set())
    further = Further(task="rte", dir=str(gone), definition=configure("task=rte").settings.task)
    with pytest.raises(UserError, match=f"^task.further.other.dir={gone}: no such folder"):
        read_further("other", further, Data(source="local"), "local")
    monkeypatch.setenv("GLUE_DIR", "")
    with pytest.raises(UserError, match=r"needs data\.dir=FOLDER or the environment's GLUE_DIR"):
        local_folder(configure("task=rte").settings.task, Data(source="local"))


def test_rows_that_were_left_out_count_once() -> None:
    train = Split("train", tuple((f"t{i}",) for i in range(20)), (0, 1) * 10, skipped_rows=3)
    rest, part = cut_selection(train, 0.2, 0, OWN)
    assert (rest.skipped_rows, part.skipped_rows) == (3, 0)


def test_a_cache_that_may_not_be_read_costs_only_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tiny_folder: Callable[[str], Path]
) -> None:
    from transformers import AutoTokenizer

    from runners.models.weights import find_weights
    from runners.tasks.tokens import tokenize
    from tests.conftest import tiny

    monkeypatch.setenv("TUNEBENCH_CACHE", str(tmp_path))

    def refused(self: Path, **more: object) -> bool:
        if self.name.startswith("tokens-"):
            raise PermissionError(13, "Permission denied")
        return self.stat_exists(**more)  # type: ignore[attr-defined, no-any-return]

    monkeypatch.setattr(Path, "stat_exists", Path.exists, raising=False)
    monkeypatch.setattr(Path, "exists", refused)
    folder = tiny_folder("bert")
    weights = find_weights(configure(*tiny(folder)).settings.model)
    split = Split("train", (("a film",), ("a good film",)), None)
    tokens = tokenize(split, AutoTokenizer.from_pretrained(folder), weights, 16)
    assert len(tokens) == 2
