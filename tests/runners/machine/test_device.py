"""What a run computes on is what was typed, whatever is said to accelerate."""

from __future__ import annotations

import pytest
import torch
from accelerate.state import AcceleratorState

from results.errors import UserError
from runners.machine.device import make_accelerator, put_in_place
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


def test_a_handle_that_is_put_in_place_computes_as_it_was_made() -> None:
    """Two models of other precision in one process: autocast asks what all handles share."""
    given = ("method=full", "task=rte", "data=embedded")
    first = make_accelerator("cpu", configure(*given, "precision=bf16"))
    second = make_accelerator("cpu", configure(*given))
    for handle, precision in ((first, "bf16"), (second, "no"), (first, "bf16")):
        put_in_place(handle)
        assert AcceleratorState().mixed_precision == handle.mixed_precision == precision
        assert handle.device.type == "cpu"
        with handle.autocast():
            assert torch.is_autocast_enabled("cpu") == (precision == "bf16")
