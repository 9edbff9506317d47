"""What a checkpoint keeps comes back beside the parameters, on whatever device they are."""

from __future__ import annotations

import pytest
import torch

from methods.child_tuning_d import ChildTuningD
from methods.sage import Sage
from methods.smart import Smart
from methods.surgery.streams import Streams
from runners.training.states import beside, copied

NAME = "encoder.weight"


def test_a_copy_shares_no_memory_with_what_it_was_made_of() -> None:
    state = {"a": torch.zeros(2), "b": [torch.ones(1), {"c": (torch.ones(1), 3)}]}
    other = copied(state)
    other["a"] += 1
    other["b"][1]["c"][0].add_(1)
    assert torch.equal(state["a"], torch.zeros(2))
    assert state["b"][1]["c"][0].item() == 1
    assert other["b"][1]["c"][1] == 3


@pytest.mark.parametrize("cls", [ChildTuningD, Sage, Smart])
def test_what_belongs_to_a_parameter_is_put_where_it_lies(cls: type) -> None:
    """On a GPU a step would fail otherwise; here the parameter is on the device without values."""
    tensor, method = torch.zeros(2), cls()
    kept = {
        ChildTuningD: {"masks": {NAME: tensor.bool()}, "start": {NAME: tensor}},
        Sage: {"average": {NAME: tensor}, "power": None},
        Smart: {"mean": {NAME: tensor}, "streams": Streams(torch.Generator()).state_dict()},
    }[cls]
    if cls is Smart:
        method.streams = Streams(torch.Generator())
    method.load_state_dict(beside(kept, {NAME: torch.zeros(2, device="meta")}))
    held = [v for v in vars(method).values() if isinstance(v, dict) and NAME in v]
    assert len(held) == len([v for v in kept.values() if isinstance(v, dict) and NAME in v])
    assert {named[NAME].device.type for named in held} == {"meta"}
