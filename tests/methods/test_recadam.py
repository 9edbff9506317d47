"""RecAdam against its optimizer written out, with moments of its own."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from methods.recadam import RecAdam
from results.errors import UserError
from runners.contract.parts import prepared
from tests.conftest import configure, tiny
from tests.methods.reference import Model, largest_difference, train, trained

Folder = Callable[[str], Path]


def _lambda(schedule: str, k: float, t0: float, t: int) -> float:
    return 1 / (1 + math.exp(-k * (t - t0))) if schedule == "sigmoid" else min(1.0, t / t0)


@pytest.mark.parametrize(
    ("schedule", "k", "t0", "pull", "decay"),
    [
        ("sigmoid", 0.5, 4, 300, 0.0),
        ("sigmoid", 0.5, 4, 5000, 0.1),  # further than to the pretrained weights, had it no bound
        ("linear", 0.5, 8, 300, 0.0),
        ("sigmoid", 0.1, 0.3, 300, 0.1),  # a share of ten steps
    ],
)
def test_recadam_equals_its_optimizer_written_out(
    schedule: str, k: float, t0: float, pull: float, decay: float, tiny_folder: Folder
) -> None:
    folder = tiny_folder("bert")
    start: dict[str, torch.Tensor] = {}
    moments: dict[str, list[torch.Tensor]] = {}
    now: dict[str, torch.Tensor] = {}

    def remember(model: Model, loaded: Any) -> None:
        for name, parameter in model.named_parameters():
            if name.startswith("bert."):
                start[name] = parameter.detach().double().clone()

    def compute(model: Model, step: int, lr: float) -> None:
        t = step + 1
        share = _lambda(schedule, k, t0 if t0 >= 1 else 10 * t0, t)
        for name, parameter in model.named_parameters():
            if name not in start:
                continue
            w, g = parameter.detach().double(), parameter.grad.double()
            m, v = moments.get(name, [torch.zeros_like(w)] * 2)
            m, v = 0.9 * m + 0.1 * g, 0.999 * v + 0.001 * g * g
            moments[name] = [m, v]
            adam = (m / (1 - 0.9**t)) / ((v / (1 - 0.999**t)).sqrt() + 1e-8)
            w = w * (1 - lr * (decay if w.ndim > 1 else 0)) - share * lr * adam
            now[name] = w - min(lr * (1 - share) * pull, 1) * (w - start[name])

    def put(model: Model, step: int, lr: float) -> None:
        with torch.no_grad():
            for name in start:
                model.get_parameter(name).copy_(now[name])

    options = (f"schedule={schedule}", f"k={k}", f"t0={t0}", f"pull={pull}")
    given = ["method=recadam", *(f"method.recadam.{o}" for o in options)]
    ours = trained(folder, *given, f"budget.weight_decay={decay}")
    theirs = train(folder, start=remember, after_clipping=compute, after_step=put, decay=decay)
    assert largest_difference(ours, theirs) < 2e-6
    plain = train(folder, decay=decay)
    moved = [sum(float((t[n] - s).square().sum()) for n, s in start.items()) for t in (ours, plain)]
    assert moved[0] < 0.8 * moved[1]
    head = "classifier.weight"
    assert float((ours[head] - plain[head]).norm()) < float(plain[head].norm())


def test_recadam_goes_on_from_a_file_wherever_the_weights_are() -> None:
    model = torch.nn.Linear(3, 2, bias=False, device="meta")
    model.weight.grad = torch.empty_like(model.weight)
    method = RecAdam()
    method.pulled, method.total = {"weight": torch.ones(2, 3)}, 10
    method.load_state_dict({"taken": torch.tensor(5.0)})
    method.optimizer_built(torch.optim.SGD(model.parameters(), lr=0.1))
    method.after_clipping(model, 5)
    method.after_step(model, 5)
    assert method.state_dict()["taken"].device.type == "meta"


def test_a_run_that_ends_before_the_task_takes_over_is_told(
    tiny_folder: Folder, capsys: pytest.CaptureFixture[str]
) -> None:
    given = [*tiny(tiny_folder("bert"), "task=mrpc"), "method=recadam"]
    prepared(configure(*given, "method.recadam.t0=250"))
    assert "t0=250 is not before the end of the run, after 4 steps" in capsys.readouterr().err
    assert RecAdam(t0=250).data_known(1000, 32, 251) == []
    assert RecAdam().data_known(1000, 32, 4) == []
    assert RecAdam(schedule="constant", t0=250).data_known(1000, 32, 4) == []


@pytest.mark.parametrize(
    "option", ["pull=-1", "schedule=cosine", "k=0", "k=-0.5", "t0=0", "t0=-1", "w=1"]
)
def test_wrong_options_of_recadam_are_named(option: str) -> None:
    with pytest.raises(UserError, match=rf"method\.recadam\.{option.partition('=')[0]}"):
        configure("method=recadam", f"++method.recadam.{option}")
