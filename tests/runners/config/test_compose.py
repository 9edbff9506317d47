"""A board's compositions, which runs share, against one composition of Hydra's for each run."""

from __future__ import annotations

from collections.abc import Iterator

import hydra
import pytest
from hydra.errors import HydraException
from omegaconf import OmegaConf

from runners.config.compose import CONFIGS, Composer


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
