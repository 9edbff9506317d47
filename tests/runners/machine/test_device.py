"""What a run computes on is what was typed, whatever is said to accelerate."""

from __future__ import annotations

import pytest
import torch

from results.errors import UserError
from runners.machine.device import make_accelerator
from tests.conftest import configure


def test_the_environment_divides_no_loss(monkeypatch: pytest.MonkeyPatch) -> None:
    """As `accelerate launch` exports it, for loops that accumulate gradients."""
    monkeypatch.setenv("ACCELERATE_GRADIENT_ACCUMULATION_STEPS", "4")
    accelerator = make_accelerator("cpu", configure("method=full", "task=rte", "data=embedded"))
    weight = torch.ones(1, requires_grad=True)
    accelerator.backward((3 * weight).sum())
    assert weight.grad == 3


def test_another_device_than_was_typed_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ACCELERATE_TORCH_DEVICE", "meta")
    config = configure("method=full", "task=rte", "data=embedded")
    with pytest.raises(UserError, match="device=cpu: accelerate takes meta"):
        make_accelerator("cpu", config)
    monkeypatch.delenv("ACCELERATE_TORCH_DEVICE")
    assert make_accelerator("cpu", config).device.type == "cpu"
