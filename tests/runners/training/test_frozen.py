"""Under start.freeze=true every method trains the head alone, or says why it cannot."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from methods.method import Method
from results.errors import UserError
from runners.contract.parts import prepared, task_of
from runners.training import prepare
from runners.training.start import build_model, left_in
from tests.conftest import EACH_KIND, SOAK, configure, narrow, tiny

# What acts on what lies below the head and says that nothing there trains, or has no drawn head.
REFUSED = {"child_tuning_d", "gradual_unfreezing", "llrd", "setfit", "unimc"}
# Where a method may look for parameters that now do not train.
HOOKS = (
    *("parameter_groups", "optimizer_built", "before_training", "gradients", "backward_passes"),
    *("after_backward", "after_clipping", "after_step", "hold_weights", "see_weights", "loss"),
)


def _looks(cls: type[Method]) -> bool:
    return any(getattr(cls, hook) is not getattr(Method, hook) for hook in HOOKS)


TRIED = [(name, []) for name, cls in EACH_KIND.items() if SOAK or _looks(cls)]


@pytest.mark.parametrize(
    ("method", "options"), [*TRIED, ("attributes", ["method.attributes.base=compacter"])]
)
def test_what_another_run_left_stays_and_the_head_moves(
    method: str,
    options: list[str],
    tiny_folder: Callable[[str], Path],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    task = task_of(method, "rte")
    given = [*tiny(tiny_folder("bert"), f"task={task}"), *narrow(method), *options]
    given += ["budget.warmup=0"]
    config = configure(*given)
    _, first = prepared(config)
    left = left_in(first, "the run before", config.methods)
    monkeypatch.setattr(prepare, "build_model", lambda job, steps: build_model(job, steps, left))
    refused = None
    try:
        loop, loaded = prepared(configure(*given, "start.freeze=true"))
        before = {n: p.detach().clone() for n, p in loop.model.named_parameters()}
        loop.run(2)
    except UserError as error:
        refused = str(error)
    if method in REFUSED:
        assert refused
        assert re.search("trains|below the rest|head would train|full rate", refused)
        return
    assert refused is None
    moved = {n for n, p in loop.model.named_parameters() if not torch.equal(p, before[n])}
    assert moved
    assert moved <= loaded.head
