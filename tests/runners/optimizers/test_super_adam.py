"""SUPER-ADAM's moving average as its authors' code has it, in plain numbers."""

from __future__ import annotations

import pytest
import torch

from runners.config.settings import SuperAdamOptions
from tests.runners.optimizers.test_build import CONSTANTS, one, random_gradients, super_adam


def test_average_of_the_code_starts_at_zero_and_takes_its_own_steps_mu() -> None:
    """Against the authors' lines for the moving average, in plain numbers; α here is below 1."""
    constants = {"k": 3.0, "m": 2400.0, "c": 2.0, "lam": 1e-3, "bias_correction": True}
    paths = {}
    for average in ("paper", "code"):
        x = one([0.5, -1.0, 2.0, 0.0])
        optimizer = super_adam([x], 0.0, average=average, **constants)
        for t, gradient in enumerate(random_gradients(), 1):
            optimizer.param_groups[0]["lr"] = 0.03 * 3.0 / (2400.0 + t) ** 0.5
            x.grad = gradient.clone()
            optimizer.step()
        paths[average] = x.detach().tolist()
    expected = [0.5, -1.0, 2.0, 0.0]
    mean, squares = [0.0] * 4, [0.0] * 4
    for t, gradient in enumerate(random_gradients(), 1):
        eta = 3.0 / (2400.0 + t) ** 0.5
        for i, g in enumerate(gradient.tolist()):
            mean[i] = mean[i] * (1 - 2.0 * eta) + 2.0 * eta * g
            squares[i] = 0.999 * squares[i] + 0.001 * g * g
            divisor = (squares[i] / (1 - 0.999**t)) ** 0.5 + 1e-3
            expected[i] -= 0.03 * eta * mean[i] / divisor
    assert paths["code"] == pytest.approx(expected, abs=1e-12)
    assert paths["paper"] != pytest.approx(expected, abs=1e-3)


def test_average_of_the_code_with_numbers_on_the_device_is_the_same() -> None:
    paths = []
    for kept in (False, True):
        x = one([0.5, -1.0])
        optimizer = super_adam([x], average="code", c=5.0)
        if kept:
            optimizer.keep_numbers(torch.device("cpu"))
        for t in range(1, 6):
            x.grad = torch.tensor([1.0, -2.0 / t], dtype=torch.float64)
            if kept:
                optimizer.advance()
            optimizer.step()
        paths.append(x.detach())
    torch.testing.assert_close(*paths, rtol=1e-6, atol=1e-9)


def test_average_enters_a_runs_name_only_where_it_differs() -> None:
    options = [SuperAdamOptions(**CONSTANTS, **a) for a in ({}, {"average": "paper"})]
    assert [o.model_dump() for o in options] == [CONSTANTS, CONSTANTS]
    code = SuperAdamOptions(**CONSTANTS, average="code")
    assert code.model_dump() == {**CONSTANTS, "average": "code"}
