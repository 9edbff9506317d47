"""SAGE against AdamW-SAGE written out, with moments of its own."""

from __future__ import annotations

import copy
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from methods.sage import Sage
from results.errors import UserError
from tests.conftest import configure
from tests.methods.reference import Model, largest_difference, prepared, train, trained
from tests.shapes import setting_of
from tests.tiny import ARCHITECTURES, tiny_model

Folder = Callable[[str], Path]
# As in the authors' code.
INSIDE = ("attention.self", "attention.output.dense", "output.dense", "intermediate.dense")


@pytest.mark.parametrize(("beta", "decay"), [(0.75, 0.0), (0.85, 0.1)])
def test_sage_equals_its_adam_written_out(beta: float, decay: float, tiny_folder: Folder) -> None:
    folder = tiny_folder("bert")
    state: dict[str, list[torch.Tensor]] = {}
    now: dict[str, torch.Tensor] = {}
    scales: list[float] = []

    def covered(model: Model) -> dict[str, Any]:
        return {n: p for n, p in model.named_parameters() if any(part in n for part in INSIDE)}

    def compute(model: Model, step: int, lr: float) -> None:
        t = step + 1
        for name, parameter in covered(model).items():
            w, g = parameter.detach().double(), parameter.grad.double()
            m, v, u = state.get(name, [torch.zeros_like(w)] * 3)
            m = 0.9 * m + 0.1 * g
            v = 0.999 * v + 0.001 * g * g
            u = beta * u + (1 - beta) * (w * g).abs()
            state[name] = [m, v, u]
            mean = u / (1 - beta**t)
            scale = ((w * g).abs() - mean).abs() / (mean + 1e-12)
            scales.append(float(scale.max()))
            adam = (m / (1 - 0.9**t)) / ((v / (1 - 0.999**t)).sqrt() + 1e-8)
            now[name] = w * (1 - lr * (decay if w.ndim > 1 else 0)) - lr * scale * adam

    def put(model: Model, step: int, lr: float) -> None:
        with torch.no_grad():
            for name, parameter in covered(model).items():
                parameter.copy_(now[name])

    given = ["method=sage", f"method.sage.beta={beta}", f"budget.weight_decay={decay}"]
    ours = trained(folder, *given)
    theirs = train(folder, after_clipping=compute, after_step=put, decay=decay)
    assert largest_difference(ours, theirs) < 2e-6
    assert largest_difference(ours, train(folder, decay=decay)) > 1e-3
    assert scales[0] < 1e-6  # nothing to compare with in the first step
    assert 1 < max(scales) < beta / (1 - beta) + 1e-6


def test_a_weight_of_zero_keeps_its_place(tiny_folder: Folder) -> None:
    loop, _ = prepared(tiny_folder("bert"), "method=sage")
    weight: Any = loop.model.get_parameter("bert.encoder.layer.0.output.dense.weight")
    with torch.no_grad():
        weight[0] = 0.0
    before = weight.detach().clone()
    loop.run(3)
    assert weight[0].abs().max() == 0
    assert (weight[1] != before[1]).all()


def test_sage_goes_on_from_a_file_wherever_the_weights_are() -> None:
    model = nn.Linear(3, 2, bias=False, device="meta")
    model.weight.grad = torch.empty_like(model.weight)
    method = Sage()
    method.covered, method.factors = {"weight"}, {}
    method.load_state_dict({"average": {"weight": torch.ones(2, 3)}, "power": torch.tensor(0.5)})
    method.optimizer_built(torch.optim.SGD(model.parameters(), lr=0.1))
    method.after_clipping(model, 5)
    method.after_step(model, 5)
    kept = method.state_dict()
    assert {kept["average"]["weight"].device.type, kept["power"].device.type} == {"meta"}


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_sage_covers_the_pretrained_linear_layers_of_every_layer(
    architecture: str, tiny_folder: Folder
) -> None:
    model: Any = tiny_model(tiny_folder(architecture))
    setting = copy.copy(setting_of(model))
    pretrained = {n: p.detach() for n, p in model.named_parameters()}
    object.__setattr__(setting, "pretrained", pretrained)
    inserted = next(m for n, m in model.named_modules() if n.endswith(("layer.0", "layers.0")))
    inserted.adapter = nn.Linear(4, 4)
    method = Sage()
    method.prepare(model, setting)
    inside = {
        f"{n}.{part}"
        for n, m in model.named_modules()
        if isinstance(m, nn.Linear) and (".layer" in n or ".albert_layer_groups" in n)
        for part, _ in m.named_parameters()
    }
    inside = {n for n in inside if not n.endswith("relative_attention_bias.weight")}
    inside |= {n for n in pretrained if re.search(r"\.rel_attn\.\w+$", n)}  # XLNet's matrices
    assert method.covered == {n for n in inside if "adapter" not in n}
    if architecture == "bert":
        named = {n for n in pretrained if any(part in n for part in INSIDE)}
        assert method.covered == {n for n in named if "LayerNorm" not in n}


@pytest.mark.parametrize(
    "option", ["beta=0", "beta=1", "beta=half", "eps=0", "eps=-1e-6", "gamma=1"]
)
def test_wrong_options_of_sage_are_named(option: str) -> None:
    with pytest.raises(UserError, match=rf"method\.sage\.{option.partition('=')[0]}"):
        configure("method=sage", f"++method.sage.{option}")
