"""Where data come from, and what is said where they cannot."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from results.errors import UserError
from runners.config.settings import Data
from runners.config.task import Task
from runners.data.sources import _source_of_pairs, local_folder
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


def test_pairs_that_are_not_generated_are_not_promised() -> None:
    task = configure("task=sts", "method=embedding").settings.task
    assert _source_of_pairs(task, Data(source="embedded"))[0] == "embedded"
    other = task.model_copy(update={"pairs": {"MINE": next(iter(task.pairs.values()))}})
    with pytest.raises(UserError, match="data=embedded: task sts has none of the sets"):
        _source_of_pairs(other, Data(source="embedded"))


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
