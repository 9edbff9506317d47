"""Only starts that lost some of what was trained have another name than before."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from runners.jobs.identity import identity, inputs_of
from runners.jobs.job import Job
from runners.jobs.start_version import start_version
from runners.models.predecessor import Predecessor
from tests.conftest import configure, tiny

FREEZE = "start.freeze=true"


def _version(
    folder: Path, before: list[str], after: list[str], architecture: str | None = None
) -> int:
    own = [*tiny(folder), *([] if any("task=" in a for a in before) else ["task=rte"])]
    config = configure(*own, *before)
    stored = {
        **config.settings.model_dump(),
        **{"method": config.method_options(), "lr": config.lr, "precision": config.precision},
    }
    second = configure(*tiny(folder, "task=rte"), *after)
    weights = Job(second).weights
    weights = weights if architecture is None else replace(weights, architecture=architecture)
    return start_version(second, weights, Predecessor("R", "0", (), Path(), stored, {}))


@pytest.mark.parametrize(
    ("before", "after", "version"),
    [
        (["method=pissa"], ["method=pissa"], 2),
        (["method=lora"], ["method=olora"], 2),
        (["method=dora"], ["method=dora", "method.dora.options.init_lora_weights=pissa"], 2),
        (["method=pissa"], ["method=lora"], 1),
        (["method=full"], ["method=pissa"], 1),
        (["method=vera"], ["method=vera"], 1),
        (["method=unipelt"], ["method=unipelt", FREEZE], 2),
        (["method=unipelt"], ["method=unipelt"], 1),  # refused
        (["method=prefix"], ["method=prefix", FREEZE], 1),
        (["method=prefix"], ["method=prefix", "method.prefix.projection=true", FREEZE], 2),
        (["method=raft"], ["method=raft"], 2),
        (["method=raft"], ["method=raft", "method.raft.pooler=keep"], 1),
        (["method=full"], ["method=raft"], 1),
        (["method=raft", "task=mlm", "mlm.on=[rte]"], ["method=raft"], 1),
        (["method=full"], ["method=full", FREEZE], 1),
    ],
)
def test_version_is_2_where_a_start_was_wrong_before(
    before: list[str], after: list[str], version: int, tiny_folder: Callable[[str], Path]
) -> None:
    assert _version(tiny_folder("bert"), before, after) == version


def test_other_models_have_no_activation_in_a_pooler_that_was_lost(
    tiny_folder: Callable[[str], Path],
) -> None:
    raft = ["method=raft"]
    assert _version(tiny_folder("bert"), raft, raft, architecture="roberta") == 1


def test_a_name_has_the_version_only_where_it_is_2(tiny_folder: Callable[[str], Path]) -> None:
    job = Job(configure(*tiny(tiny_folder("bert"), "task=rte")))
    inputs = inputs_of(job.config.settings.task, job.data, job.weights)
    starts = [
        identity(job.config, replace(inputs, start=("R", "0"), start_version=version))["start"]
        for version in (1, 2)
    ]
    plain = {"run": "R", "sha256": "0", "head": "drawn"}
    assert starts == [plain, {**plain, "version": 2}]
