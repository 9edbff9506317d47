"""Which runs another may start from: none with a head of other questions, if that is to be kept."""

from __future__ import annotations

from pathlib import Path

import pytest

from results.errors import UserError
from runners.config.settings import Settings
from runners.models.predecessor import check_fits
from runners.models.weights import Weights
from tests.conftest import configure

WEIGHTS = Weights(Path("tiny"), "tiny", None, "0", "0", ())


def _settings(*typed: str) -> Settings:
    return configure("data=embedded", *typed).settings


def _keeps(theirs: Settings, *typed: str) -> None:
    """Check a run that keeps the head of another one."""
    own = _settings(*typed, "start=RUN", "start.head=keep")
    check_fits("start=RUN", WEIGHTS.facts, theirs.task.model_dump(), own, WEIGHTS)


@pytest.mark.parametrize(
    "other", ["mix=[qnli,sst2]", "mix=[mrpc,rte]", "mix=[rte,mrpc,cola]", "mix=[rte,qqp]"]
)
def test_a_head_of_other_tasks_is_not_kept_by_a_mixture(other: str) -> None:
    mixed = _settings("mix=[rte,mrpc]")
    _keeps(mixed, "mix=[rte,mrpc]")
    _keeps(mixed, "mix=[rte,mrpc]", "mix.draw=even")
    with pytest.raises(UserError, match=r"rte \['entailment', 'not_entailment'\], mrpc"):
        _keeps(mixed, other)


def test_a_head_of_other_labels_is_not_kept_by_a_mixture() -> None:
    mixed = _settings("mix=[rte,mrpc]")
    rte = mixed.task.mixture.tasks["rte"]  # type: ignore[union-attr]
    turned = rte.model_copy(update={"labels": rte.labels[::-1]})
    tasks = {**mixed.task.mixture.tasks, "rte": turned}  # type: ignore[union-attr]
    mixture = mixed.task.mixture.model_copy(update={"tasks": tasks})  # type: ignore[union-attr]
    task = mixed.task.model_copy(update={"mixture": mixture})
    with pytest.raises(UserError, match="leave start.head out"):
        _keeps(mixed.model_copy(update={"task": task}), "mix=[rte,mrpc]")


def test_a_head_of_other_scores_is_not_kept() -> None:
    scored = _settings("task=stsb")
    _keeps(scored, "task=stsb")
    with pytest.raises(UserError, match=r"its scores are from 0.0 to 5.0, those of task=stsb from"):
        _keeps(scored, "task=stsb", "task.range=[0,1]")


@pytest.mark.parametrize(
    ("theirs", "own"),
    [("task=rte", "task=qnli"), ("task=mlm mlm.on=[rte]", "task=mlm mlm.on=[cola]")],
)
def test_a_head_that_answers_alike_is_kept(theirs: str, own: str) -> None:
    _keeps(_settings(*theirs.split()), *own.split())
