"""On a GPU nobody looks whether a batch has padding; the mask is the same."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from runners.contract.parts import prepared
from runners.contract.replay import Replay
from runners.speed import repeat
from runners.speed.operations import written_down
from tests.conftest import configure, tiny


@pytest.mark.parametrize("dropout", ["true", "false"])
def test_a_batch_without_padding_is_masked_without_a_look(
    dropout: str, tiny_folder: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    logits, looked = [], []
    for on_gpu in (False, True):
        if on_gpu:
            monkeypatch.setitem(repeat.CAPTURES, "cpu", Replay)
        typed = ("task=rte", "budget.max_length=16", f"speed.fast_dropout={dropout}")
        loop, _ = prepared(configure(*tiny(tiny_folder("bert"), *typed)))
        loop.model.eval()
        batch = loop.batch(next(loop.order.batches(0, 1)))
        assert bool(batch["attention_mask"].all())
        with torch.no_grad(), written_down([]) as operations:
            logits.append(loop.forward(batch).logits)
        looked.append([fault for fault in operations.forbidden if "reads a number" in fault])
    assert [bool(faults) for faults in looked] == [True, False]
    torch.testing.assert_close(*logits)
