"""An option that nothing reads beside the others is refused: one run has one name."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path

import pytest

from methods.registry import registered
from results.errors import UserError
from runners.config.check import check
from runners.contract.parts import composed
from runners.contract.parts import prepared as of_config
from runners.models.build import trained_sha256
from tests.conftest import configure, narrow, tiny

CASES = [
    ("adapter", ["init=kaiming"], "init_std=0.5"),
    ("child_tuning_d", ["select=random"], "fisher=example"),
    ("child_tuning_d", ["select=random"], "max_norm=0.1"),
    ("child_tuning_d", ["fisher=example"], "max_norm=0.1"),
    ("prefix", [], "projection_size=16"),
    ("unipelt", ["variant=AP"], "rank=2"),
    ("unipelt", ["variant=AP"], "alpha=2"),
    ("unipelt", ["variant=AP"], "lora_gate=per_matrix"),
    ("unipelt", ["variant=AP"], "lora_scale=alpha"),
    ("unipelt", [], "alpha=2"),
    ("smart", [], "average=0.5"),
    ("smart", ["normalise=unit"], "radius=0.5"),
    ("simcse", [], "hard_negatives=false"),
    ("promptbert", [], "hard_negatives=false"),
]
UNTRAINED = {"embedding"}  # nothing trains, so that there is nothing to compare


@functools.cache
def _given(folder: Path, method: str, *options: str) -> tuple[str, ...]:
    task = "sts" if registered()[method].represents else "mrpc"
    typed = [f"method.{method}.{option}" for option in options]
    return (*tiny(folder, f"task={task}"), "budget.warmup=0", *narrow(method), *typed)


@functools.cache
def _sha256(folder: Path, method: str, *options: str) -> str:
    loop, _ = of_config(check(composed(_given(folder, method, *options)), stored=True))
    loop.run(2)
    return trained_sha256(loop.model)


@pytest.mark.parametrize(("method", "beside", "option"), CASES)
def test_an_option_that_nothing_reads_is_refused_and_changes_nothing(
    method: str, beside: list[str], option: str, tiny_folder: Callable[[str], Path]
) -> None:
    folder = tiny_folder("bert")
    with pytest.raises(UserError, match=rf"method\.{method}\.{option.partition('=')[0]}=.* reads"):
        configure(*_given(folder, method, *beside, option))
    assert _sha256(folder, method, *beside, option) == _sha256(folder, method, *beside)


def test_every_method_that_names_such_options_is_tried() -> None:
    naming = {name for name, cls in registered().items() if "unread" in vars(cls)}
    assert naming == {method for method, _, _ in CASES} | UNTRAINED
