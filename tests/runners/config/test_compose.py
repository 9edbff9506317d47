"""A board's compositions, which runs share, against one composition of Hydra's for each run."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from pathlib import Path

import hydra
import pytest
import yaml
from hydra._internal import config_loader_impl
from hydra._internal.defaults_list import create_defaults_list
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException
from omegaconf import OmegaConf

from results.errors import UserError
from runners.config.compose import Composer, compose, composing
from runners.config.explain import known_keys
from runners.root import CONFIGS
from runners.runs.doctor import doctor
from tests import composing as memory
from tests.methods.shake import shake_installed


@pytest.fixture
def composer() -> Iterator[Composer]:
    with hydra.initialize_config_dir(str(CONFIGS), version_base="1.3"):
        yield Composer()


def alone(overrides: list[str]) -> object:
    return OmegaConf.to_container(hydra.compose("config", overrides=overrides), resolve=True)


ASKED = [
    ["method=full", "task=rte", "seed=1"],
    ["method=full", "task=rte", "seed=2"],
    ["method=full", "task=rte", "seed=2", "lr=1e-3"],
    ["method=full", "task=rte", "seed=1", "lr=5e-3"],
    ["method=full", "task=rte", "seed=1", "lr=null"],
    ["method=full", "task=rte"],
    ["method=[hype,bitfit]", "task=rte", "seed=3"],
    ["method=full", "task=rte", "seed=3", "seed=4"],  # the last word counts
    ["method=full", "seed=3", "++seed=4"],
    ["method=full", "++seed=4", "seed=3"],
    ["method=full", "seed=3", "+of_seed=${seed}", "budget.dropout=${lr}", "lr=0.25"],
    ["method=full", "seed=5", "+of_seed=${seed}", "budget.dropout=${lr}", "lr=0.5"],
]


def test_what_is_shared_is_what_hydra_composes_alone(composer: Composer) -> None:
    for overrides in [*ASKED, *reversed(ASKED)]:  # whatever was composed before
        assert composer(overrides) == alone(overrides), overrides
    last = composer(ASKED[-1])
    assert (last["of_seed"], last["budget"]["dropout"]) == (5, 0.5)


def test_seeds_and_rates_are_composed_once(
    composer: Composer, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = []
    compose = hydra.compose
    monkeypatch.setattr(hydra, "compose", lambda *a, **k: calls.append(k) or compose(*a, **k))
    for seed in range(5):
        for rate in ("1e-4", "1e-3"):
            composer(["method=full", "task=rte", f"seed={seed}", f"lr={rate}"])
    assert len(calls) == 1
    composer(["method=bitfit", "task=rte", "seed=1", "lr=1e-4"])
    assert len(calls) == 2


def test_what_one_caller_changes_reaches_no_other(composer: Composer) -> None:
    first = composer(["method=full", "seed=1"])
    first["budget"]["epochs"] = 99
    assert composer(["method=full", "seed=1"])["budget"]["epochs"] != 99


@pytest.mark.parametrize("wrong", [["seed=1", "sed=2"], ["seed=1,2"], ["lr=[", "seed=1"]])
def test_hydra_refuses_what_it_refuses_alone(composer: Composer, wrong: list[str]) -> None:
    with pytest.raises(HydraException) as alone_error:
        alone(wrong)
    with pytest.raises(HydraException) as shared_error:
        composer(wrong)
    assert str(shared_error.value) == str(alone_error.value)


def test_a_method_without_yaml_composes_wherever_something_composes() -> None:
    with shake_installed():
        assert compose(["method=shake"])["method"] == {"shake": {"lr": None, "strength": 0.1}}
        with composing():
            assert Composer()(["method=[shake,bitfit]"])["method"]["shake"]["strength"] == 0.1
        assert "method.shake.strength" in known_keys(["method=shake"])
    with pytest.raises(HydraException):  # it is gone with its package
        compose(["method=shake"])


def test_yaml_of_a_folder_beside_the_shipped_ones_counts(tmp_path: Path) -> None:
    folder = tmp_path / "with a space" / "method"
    folder.mkdir(parents=True)
    (folder / "shake.yaml").write_text("# @package method.shake\nlr: 0.5\nstrength: 0.25\n")
    with shake_installed(), warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)  # Hydra's, where both offer the method
        composed = compose(["method=shake", "lr=0.1"], folder.parent)
    assert composed["method"] == {"shake": {"lr": 0.5, "strength": 0.25}}
    assert composed["lr"] == 0.1


def test_a_task_that_another_one_reads_is_read_anew_after_a_change(tmp_path: Path) -> None:
    """A notebook's process kept the first reading for its life."""
    (tmp_path / "task").mkdir()
    place = tmp_path / "task" / "topics.yaml"
    definition = yaml.safe_load((CONFIGS / "task" / "rte.yaml").read_text()) | {"name": "topics"}
    labels = []
    for names in (["no", "yes"], ["off", "on"]):
        place.write_text(yaml.safe_dump({**definition, "labels": names}))
        composed = compose(["task=mix", "mix.of=[topics,cola]"], tmp_path)
        labels.append(composed["task"]["mixture"]["tasks"]["topics"]["labels"])
    assert labels == [["no", "yes"], ["off", "on"]]


def test_a_file_that_is_never_read_is_refused_in_python_too(tmp_path: Path) -> None:
    (tmp_path / "task").mkdir()
    (tmp_path / "task" / "rte.yaml").write_text("name: rte\n")
    with pytest.raises(UserError, match="is not read: there is a shipped task of that name"):
        doctor("task=rte", config_dir=tmp_path)


@pytest.mark.parametrize("overrides", [*ASKED, ["board=smoke", "board.seeds=[3]"], ["~task.hub"]])
def test_what_tests_compose_by_memory_is_what_hydra_composes(
    overrides: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    remembered = [compose(overrides) for _ in range(2)]  # by memory the second time at the latest
    monkeypatch.setattr(config_loader_impl, "create_defaults_list", create_defaults_list)
    monkeypatch.setattr(
        config_loader_impl.ConfigLoaderImpl, "_compose_config_from_defaults_list", memory._compose
    )
    monkeypatch.setattr(OverridesParser, "parse_rule", memory._parse)
    assert remembered == [compose(overrides)] * 2
