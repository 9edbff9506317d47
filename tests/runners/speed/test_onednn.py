"""Products through oneDNN: the same numbers, for forward, backward and every architecture."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from runners.speed import onednn as products
from tests.conftest import Cli, architectures, tiny
from tests.tiny import tiny_batch, tiny_model

needs_onednn = pytest.mark.skipif(
    not torch.backends.mkldnn.is_available(), reason="this torch has no oneDNN"
)
pytestmark = needs_onednn


@pytest.fixture
def route(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[bool], bool]]:
    """Turn the route on or off whatever the machine; off again at the end."""
    monkeypatch.setattr(products, "pays", lambda threads: True)
    monkeypatch.setattr(products, "SMALLEST", 1)
    calls = []

    def count(*given: Any) -> torch.Tensor:
        calls.append(given)
        return by_onednn(*given)

    by_onednn = products._by_onednn
    monkeypatch.setattr(products, "_by_onednn", count)

    def turn(on: bool) -> bool:
        return products.route_products(on, "cpu", "fp32")

    turn.calls = calls  # type: ignore[attr-defined]
    yield turn
    products.route_products(False, "cpu", "fp32")


def _product_and_gradients(layer: torch.nn.Module, given: torch.Tensor) -> list[torch.Tensor]:
    layer.zero_grad()
    given = given.clone().requires_grad_()
    out = layer(given)
    (out.sin() * torch.arange(out.shape[-1])).sum().backward()
    return [out.detach(), given.grad, *(p.grad.clone() for p in layer.parameters())]


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("shape", [(64, 48), (5, 13, 48)])
def test_a_layer_and_its_gradients_are_those_of_float64(
    bias: bool, shape: tuple[int, ...], route: Any
) -> None:
    torch.manual_seed(0)
    layer, given = torch.nn.Linear(48, 32, bias=bias), torch.randn(shape)
    assert route(True)
    ours = _product_and_gradients(layer, given)
    assert len(route.calls) == 3  # forward, and the gradients of input and weight
    exact = _product_and_gradients(layer.double(), given.double())
    assert len(route.calls) == 3  # float64 stays with torch
    for found, true in zip(ours, exact, strict=True):
        assert (found - true).abs().max() < 1e-6 * true.abs().max()


def test_every_form_of_product_is_torchs(route: Any) -> None:
    """Strides, scales, matrices added, vmap, second derivatives, empty and narrow tensors."""
    torch.manual_seed(1)
    a, b, c, v = torch.randn(40, 24), torch.randn(24, 56), torch.randn(40, 56), torch.randn(56)
    wide = torch.randn(40, 48)[:, ::2]

    def curved(x: torch.Tensor) -> torch.Tensor:
        return ((x @ b).tanh() @ b.t()).square().sum()

    forms: list[Callable[[], torch.Tensor]] = [
        lambda: a @ b,
        lambda: wide @ b,
        lambda: b.t() @ a.t(),
        lambda: torch.addmm(v, a, b),
        lambda: torch.addmm(c, a, b, beta=0.5, alpha=2.0),
        lambda: torch.addmm(v[:1], a, b),
        lambda: torch.addmm(torch.zeros(56), torch.zeros(0, 24), b),
        lambda: a[:, :0] @ b[:0],
        lambda: torch.func.vmap(lambda row: row @ b)(a),
        lambda: torch.func.vmap(torch.func.grad(curved))(torch.stack([a, 2 * a])),
        lambda: torch.autograd.functional.hvp(curved, a, torch.ones_like(a))[1],
    ]
    plain = [form() for form in forms]
    route(True)
    before = len(route.calls)
    for i, (form, expected) in enumerate(zip(forms, plain, strict=True)):
        torch.testing.assert_close(form(), expected, rtol=1e-4, atol=1e-4, msg=f"form {i}")
    assert len(route.calls) > before + 5
    route(False)
    before = len(route.calls)
    assert all(torch.equal(form(), expected) for form, expected in zip(forms, plain, strict=True))
    assert len(route.calls) == before


@pytest.mark.parametrize("architecture", architectures("t5"))
def test_logits_and_gradients_of_a_model_agree(
    architecture: str, tiny_folder: Callable[[str], Path], route: Any
) -> None:
    batch, model = tiny_batch(tiny_folder(architecture)), tiny_model(tiny_folder(architecture))
    found = []
    for on in (False, True):
        assert route(on) == on
        model.zero_grad()
        output = model.eval()(**batch)
        output.loss.backward()
        gradients = [p.grad.clone() for p in model.parameters() if p.grad is not None]
        found.append((output.logits.detach(), gradients))
    assert route.calls
    torch.testing.assert_close(found[1][0], found[0][0], rtol=0, atol=1e-5)
    for ours, theirs in zip(found[1][1], found[0][1], strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-7)


def test_it_is_off_for_bf16_for_a_gpu_and_where_it_does_not_pay(
    route: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert products.route_products(True, "cpu", "fp32")
    assert not products.route_products(True, "cpu", "bf16")
    assert not products.routed()
    assert not products.route_products(True, "cuda", "fp32")
    monkeypatch.setattr(products, "pays", lambda threads: False)
    assert not products.route_products(True, "cpu", "fp32")
    assert products.speed_ratio(rows=64) > 0


def test_what_other_processes_take_is_not_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    """A wait stands for another process on the same core."""

    def interrupted(left: torch.Tensor, right: torch.Tensor) -> torch.Tensor:
        time.sleep(0.02)
        return left @ right.t()

    monkeypatch.setattr(products, "_by_onednn", interrupted)
    monkeypatch.setattr(products, "_by_torch", lambda left, right: left @ right.t())
    assert products.speed_ratio(rows=64) > 0.2  # of the clock it would be .02 or less


def test_a_run_says_which_way_it_took_and_keeps_its_name(
    cli: Cli, tiny_folder: Callable[[str], Path], tmp_path: Path, route: Any
) -> None:
    from results.record import read_all

    names = set()
    for on in ("true", "false"):
        given = [*tiny(tiny_folder("bert"), f"speed.onednn={on}"), "force=true"]
        assert cli(*given).code == 0
        [record] = read_all(tmp_path / "runs")
        assert record.environment["onednn_products"] == (on == "true")
        assert bool(route.calls) == (on == "true")
        route.calls.clear()
        names.add(record.run)
    assert len(names) == 1
    assert cli(*tiny(tiny_folder("bert"), "speed.onednn=perhaps")).code == 2


@pytest.mark.parametrize(
    ("measured", "answer", "looks"),
    [([1.6, 1.6, 1.6], True, 3), ([1.6, 1.1], False, 2), ([1.1], False, 1)],
)
def test_one_disturbed_measurement_decides_nothing(
    measured: list[float], answer: bool, looks: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    left = list(measured)
    monkeypatch.setattr(products, "speed_ratio", lambda: left.pop(0))
    monkeypatch.setattr(products, "_intel", lambda: False)
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "AVX512")
    monkeypatch.setattr(torch.backends.mkl, "is_available", lambda: True)
    assert products.pays.__wrapped__(1) == answer
    assert len(measured) - len(left) == looks
