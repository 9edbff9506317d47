"""Private training reaches every parameter that the loss depends on, segments' included."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from runners.contract.parts import SMALL, configure
from runners.jobs.job import Job
from tests.methods.test_dp import REFUSED, _dp, _loop
from tests.tiny import ARCHITECTURES

Folders = Callable[[str], Path]


@pytest.mark.parametrize("part", [1, 3])
@pytest.mark.parametrize("architecture", list(ARCHITECTURES))
def test_all_that_a_batch_has_gradients_of_is_trained_with_noise(
    architecture: str, part: int, tiny_folder: Folders
) -> None:
    """XLNet's parameters of segments are read only where segments are given, as in any batch."""
    beside = "linear" if part > 1 and "full" in REFUSED.get(architecture, ()) else "full"
    loop = _loop(tiny_folder(architecture), beside, f"method.dp.part={part}")
    loop.forward(loop.batch(np.arange(3))).loss.backward()
    reached = {id(p) for p in _dp(loop).clipping.reached}
    moved = [n for n, p in loop.model.named_parameters() if p.grad is not None and p.grad.any()]
    lost = [n for n in moved if id(loop.model.get_parameter(n)) not in reached]
    assert (len(moved) > 1, lost) == (True, [])


def test_runs_of_xlnet_that_left_its_segments_as_they_were_have_an_older_version(
    tiny_folder: Folders,
) -> None:
    for architecture, beside, version in (
        ("xlnet", "method=[dp,full]", 2), ("xlnet", "method=[dp,topk]", 2),
        ("xlnet", "method=[dp,bitfit]", 1), ("xlnet", "method=[dp,linear]", 1),
        ("bert", "method=[dp,full]", 1), ("xlnet", "method=dp", 2),
    ):  # fmt: skip
        given = ["task=rte", beside, "method.dp.part=1", "method.dp.noise=1"]
        job = Job(configure(f"model.name_or_path={tiny_folder(architecture)}", *given, *SMALL))
        assert job.weights.architecture == architecture
        assert job.config.method_options()[0]["version"] == version, beside
