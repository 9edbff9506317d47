"""Optimizers against closed forms, torch's own and loops written out here."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from runners.config.settings import AdamWOptions, SuperAdamOptions
from runners.optimizers.build import build_optimizer
from runners.optimizers.rates import as_numbers, capture_hindrance, keep_rates
from runners.optimizers.super_adam import SuperAdam
from runners.speed.operations import written_down
from tests.conftest import Cli, configure, tiny
from tests.methods.reference import STEPS, largest_difference, prepared, trained

Tensors = dict[str, torch.Tensor]
CONSTANTS: dict[str, Any] = {
    "name": "super_adam",
    "tau": 0,
    "k": 1.0,
    "m": 100.0,
    "c": 40.0,
    "beta": 0.999,
    "lam": 1e-3,
    "matrix": "coordinate",
    "bias_correction": False,
    "decay": "own",
}


def super_adam(parameters: list[torch.Tensor], lr: float = 0.1, **changes: Any) -> SuperAdam:
    return SuperAdam(parameters, lr, SuperAdamOptions(**{**CONSTANTS, **changes}))


def one(value: list[float]) -> torch.nn.Parameter:
    return torch.nn.Parameter(torch.tensor(value, dtype=torch.float64))


def test_step_without_bias_correction_is_larger_by_rho() -> None:
    """Constant gradient, eps → 0: the ratio of the steps is (1-β1^t)/√(1-β2^t), to t = 1000."""
    plain, corrected = one([0.0]), one([0.0])
    nobc = build_optimizer(
        [{"params": [plain]}], 1e-3, AdamWOptions(name="adamw_nobc", betas=[0.9, 0.999], eps=1e-30)
    )
    adamw = torch.optim.AdamW([corrected], lr=1e-3, eps=1e-30, weight_decay=0)
    published = {1: 3.162, 2: 4.250, 5: 5.797, 10: 6.528, 100: 3.241, 1000: 1.258}
    for t in range(1, 1001):
        before = plain.item(), corrected.item()
        for parameter, optimizer in ((plain, nobc), (corrected, adamw)):
            parameter.grad = torch.full_like(parameter, 0.3)
            optimizer.step()
        ratio = (plain.item() - before[0]) / (corrected.item() - before[1])
        assert ratio == pytest.approx((1 - 0.9**t) / (1 - 0.999**t) ** 0.5, rel=1e-6)
        if t in published:
            assert ratio == pytest.approx(published[t], abs=5e-4)


def _by_hand(folder: Path, loop: Any, step: Callable[..., None]) -> Tensors:
    """Train ten steps with gradients from the loop's model, clipped, and `step` on every tensor."""
    from runners.seeds import derive

    named = {n: p for n, p in loop.model.named_parameters() if p.requires_grad}
    torch.manual_seed(derive(42, "dropout"))
    loop.model.train()
    for t, indices in enumerate(loop.order.batches(0, STEPS), 1):
        batch = loop.collate(indices)

        def gradients(batch: Any = batch) -> Tensors:
            for parameter in named.values():
                parameter.grad = None
            loop.model(**batch).loss.backward()
            found = {n: p.grad.clone() for n, p in named.items() if p.grad is not None}
            norm = torch.stack([g.norm() for g in found.values()]).norm()
            return {n: g * min(1.0, float(1 / (norm + 1e-6))) for n, g in found.items()}

        step(t, named, gradients)
    return {n: p.detach().clone() for n, p in named.items()}


def _linear_rate(t: int) -> float:
    """Return the rate of step t of ten, from 1: three steps of warm-up from 0, linear decay."""
    return 1e-3 * ((t - 1) / 3 if t <= 3 else (STEPS - t + 1) / 7)


def test_ten_steps_of_bert_code_optimizer(tiny_folder: Callable[[str], Path]) -> None:
    mean: Tensors = {}
    squares: Tensors = {}

    @torch.no_grad()
    def step(t: int, named: Tensors, gradients: Callable[[], Tensors]) -> None:
        with torch.enable_grad():
            found = gradients()
        for name, g in found.items():
            mean[name] = 0.9 * mean.get(name, torch.zeros_like(g)) + 0.1 * g
            squares[name] = 0.999 * squares.get(name, torch.zeros_like(g)) + 0.001 * g**2
            decay = 0.01 * named[name] if named[name].ndim > 1 else 0
            move = mean[name] / (squares[name].sqrt() + 1e-6) + decay
            named[name].sub_(_linear_rate(t) * move)

    folder = tiny_folder("bert")
    options = ("optimizer=adamw_nobc", "budget.weight_decay=0.01")
    loop, _ = prepared(folder, "method=full", *options)
    expected = _by_hand(folder, loop, step)
    ours = trained(folder, "method=full", *options)
    assert largest_difference(ours, expected) < 2e-6
    assert largest_difference(ours, trained(folder, "method=full", options[1])) > 1e-3


@pytest.mark.parametrize("tau", [0, 1])
def test_ten_steps_of_super_adam(tau: int, tiny_folder: Callable[[str], Path]) -> None:
    """The loop's steps, written out; with tau=1 both gradients share dropout's masks."""
    average: Tensors = {}
    squares: Tensors = {}
    before: Tensors = {}
    exponent, c = (1 / 3, 10.0) if tau else (1 / 2, 1000**0.5 / 10)

    @torch.no_grad()
    def step(t: int, named: Tensors, gradients: Callable[[], Tensors]) -> None:
        stream = torch.get_rng_state()
        with torch.enable_grad():
            new = gradients()
        alpha = min(1.0, c * (1 / (1000 + t - 1) ** exponent) ** (1 + tau))
        if t == 1:
            average.update(new)
        elif tau:
            after, now = torch.get_rng_state(), {n: p.clone() for n, p in named.items()}
            for name, parameter in named.items():
                parameter.copy_(before[name])
            torch.set_rng_state(stream)
            with torch.enable_grad():
                old = gradients()
            torch.set_rng_state(after)
            for name, parameter in named.items():
                parameter.copy_(now[name])
            average.update({n: new[n] + (1 - alpha) * (average[n] - old[n]) for n in new})
        else:
            average.update({n: alpha * new[n] + (1 - alpha) * average[n] for n in new})
        before.update({n: p.clone() for n, p in named.items()})
        rate = 1e-3 * (1000 / (1000 + t)) ** exponent
        for name, g in new.items():
            squares[name] = 0.999 * squares.get(name, torch.zeros_like(g)) + 0.001 * g**2
            named[name].sub_(rate * average[name] / (squares[name].sqrt() + 1e-3))

    folder = tiny_folder("bert")
    options = ("method=full", "optimizer=super_adam", f"optimizer.tau={tau}")
    loop, _ = prepared(folder, *options)
    assert any(isinstance(m, torch.nn.Dropout) and m.p > 0 for m in loop.model.modules())
    expected = _by_hand(folder, loop, step)
    ours = trained(folder, *options)
    assert largest_difference(ours, expected) < 2e-5
    other = trained(folder, *options[:2], f"optimizer.tau={1 - tau}")
    assert largest_difference(ours, other) > 1e-3


def _quadratic() -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    half = torch.randn(6, 6, generator=generator, dtype=torch.float64)
    return half @ half.T + torch.eye(6), torch.randn(6, generator=generator, dtype=torch.float64)


@pytest.mark.parametrize(
    "matrix", ["coordinate", "amsgrad", "norm", "coordinate_norm", "barzilai_borwein"]
)
def test_variance_reduction_on_the_full_batch_is_the_true_gradient(matrix: str) -> None:
    """STORM's correction is exact without noise, whatever α; the moving average is not."""
    curvature, target = _quadratic()
    largest = {}
    for tau in (1, 0) if matrix != "barzilai_borwein" else (1,):
        x = one([1.0, -2.0, 0.5, 3.0, 0.0, 1.5])
        optimizer = super_adam([x], 1e-3, tau=tau, c=0.5, matrix=matrix)

        def closure(x: Any = x) -> None:
            x.grad = (curvature @ (x - target)).detach()

        differences = []
        for _ in range(50):
            closure()
            truth = x.grad.clone()
            optimizer.step(closure)
            differences.append(float((optimizer.state[x]["average"] - truth).abs().max()))
        largest[tau] = max(differences)
    assert largest[1] < 1e-11
    assert largest.get(0, 1.0) > 1e-2


def test_variance_falls_under_shared_noise_and_rises_under_different_noise() -> None:
    """Noisy quadratic, α = .05: error of g_t with tau=1 < tau=0 < one batch < noise not shared."""

    def error(tau: int, shared: bool) -> float:
        rng = np.random.Generator(np.random.PCG64(3))
        scale = one(list(rng.uniform(0.5, 2, 20)))
        x = one(list(rng.normal(size=20)))
        optimizer = super_adam([x], 1e-3, tau=tau, c=1.0, lam=1.0, decay="budget")
        optimizer.c = 0.05 / optimizer.mu(1) ** (1 + tau)
        errors = []
        for _ in range(400):
            noise = torch.from_numpy(rng.normal(size=20))
            truth = (scale * x).detach()
            x.grad = truth + noise
            other = noise if shared else torch.from_numpy(rng.normal(size=20))

            def closure(other: torch.Tensor = other) -> None:
                x.grad = (scale * x).detach() + other

            optimizer.step(closure)
            errors.append(float((optimizer.state[x]["average"] - truth).square().mean()))
        return float(np.mean(errors[100:]))

    reduced, averaged, unshared = error(1, True), error(0, True), error(1, False)
    assert reduced < averaged < 0.1
    assert unshared > 5


def test_alpha_is_clipped_and_schedules_are_the_published_numbers() -> None:
    """k=1, m=100, c=40 at t = 1, 10, 1000; the first α would be 1.84 and 3.98."""
    numbers = {
        1: {1: (0.2147, 1.844), 10: (0.2087, 1.742), 1000: (0.0969, 0.375)},
        0: {1: (0.0995, 3.980), 10: (0.0953, 3.814), 1000: (0.0302, 1.206)},
    }
    for tau, at in numbers.items():
        optimizer = super_adam([one([0.0])], tau=tau)
        for t, (mu, unclipped) in at.items():
            assert optimizer.mu(t) == pytest.approx(mu, abs=6e-5)
            assert optimizer.c * optimizer.mu(t) ** (1 + tau) == pytest.approx(unclipped, abs=6e-3)
            assert optimizer.alpha(t + 1) == pytest.approx(min(unclipped, 1.0), abs=6e-3)
            assert optimizer.rate_factor(t - 1) == pytest.approx(
                mu * 100**optimizer.exponent, rel=3e-3
            )
        assert max(optimizer.alpha(t) for t in range(2, 3000)) <= 1.0
        start = super_adam([one([0.0])], tau=tau, c=None, m=1000.0)
        assert start.alpha(2) == pytest.approx(0.1, rel=2e-3)


def random_gradients() -> Iterator[torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    for _ in range(100):
        yield torch.randn(4, generator=generator, dtype=torch.float64)


def test_limits_are_known_optimizers() -> None:
    """λ = 1e6 is SGD at rate η/λ; α = 1 is one trajectory for both tau; AMSGrad's v is torch's."""

    def path(optimizer: Any, x: torch.nn.Parameter) -> torch.Tensor:
        for gradient in random_gradients():
            x.grad = gradient.clone()

            def closure(gradient: torch.Tensor = gradient) -> None:
                x.grad = gradient.clone()

            optimizer.step(closure) if isinstance(optimizer, SuperAdam) else optimizer.step()
        return x.detach()

    start = [1.0, 2.0, -1.0, 0.5]
    x, y = one(start), one(start)
    ours = path(super_adam([x], 1e4, lam=1e6, c=1e9), x) - torch.tensor(start)
    sgd = path(torch.optim.SGD([y], lr=1e-2), y) - torch.tensor(start)
    torch.testing.assert_close(ours, sgd, rtol=1e-5, atol=0)
    x, y = one(start), one(start)
    first, second = (path(super_adam([v], tau=t, c=1e9), v) for t, v in ((0, x), (1, y)))
    torch.testing.assert_close(first, second, rtol=0, atol=1e-12)
    x, y = one(start), one(start)
    for bias_correction in (True, False):
        x = one(start)
        path(super_adam([x], matrix="amsgrad", bias_correction=bias_correction), x)
    amsgrad = torch.optim.Adam([y], lr=0.1, betas=(0.0, 0.999), amsgrad=True)
    path(amsgrad, y)
    x = one(start)
    optimizer = super_adam([x], 0.1, matrix="amsgrad", c=1e9, lam=1e-8)
    path(optimizer, x)
    torch.testing.assert_close(optimizer.state[x]["highest"], amsgrad.state[y]["max_exp_avg_sq"])


def test_norm_matrices_are_of_all_tensors_with_lambda_once() -> None:
    x, y = one([1.0, 2.0]), one([3.0])
    for matrix in ("norm", "coordinate_norm"):
        optimizer = super_adam([x, y], 0.1, matrix=matrix, lam=0.5)
        before = x.detach().clone(), y.detach().clone()
        x.grad, y.grad = torch.tensor([3.0, 4.0]).double(), torch.tensor([12.0]).double()
        optimizer.step()
        divisor = (0.001**0.5) * 13 + 0.5
        torch.testing.assert_close(before[0] - x.detach(), 0.1 * x.grad / divisor)
        torch.testing.assert_close(before[1] - y.detach(), 0.1 * y.grad / divisor)


@pytest.mark.parametrize(
    "options",
    [
        ("optimizer=adamw_nobc",),
        ("optimizer=super_adam",),
        ("optimizer=super_adam", "optimizer.average=code"),
        ("optimizer=super_adam", "optimizer.tau=1"),
        ("optimizer=super_adam", "optimizer.tau=1", "optimizer.matrix=barzilai_borwein"),
        ("optimizer=super_adam", "optimizer.matrix=amsgrad", "method=[hype,bitfit]"),
        ("optimizer=super_adam", "optimizer.tau=1", "method=[llrd,lora]"),
    ],
)
def test_optimizer_goes_on_from_a_saved_state(
    options: tuple[str, ...], tiny_folder: Callable[[str], Path]
) -> None:
    folder = tiny_folder("bert")
    whole = trained(folder, *options)
    first, _ = prepared(folder, *options)
    first.run(4)
    state = first.state_dict()
    second, _ = prepared(folder, *options)
    second.load_state_dict(state)
    second.run(STEPS)
    resumed = {n: p.detach() for n, p in second.model.named_parameters() if p.requires_grad}
    assert largest_difference(whole, resumed) == 0.0


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["optimizer=sgd"], "no optimizer called 'sgd'"),
        (["optimizer.betas=[0.9,1.0]"], "optimizer.betas.1=1.0 (must be < 1)"),
        (["optimizer=super_adam", "optimizer.tau=2"], "optimizer.tau=2"),
        (["optimizer=super_adam", "optimizer.lam=0"], "optimizer.lam=0"),
        (["optimizer=super_adam", "optimizer.matrix=barzilai_borwein"], "use tau=1"),
        (["optimizer=super_adam", "optimizer.tau=1", "optimizer.average=code"], "use tau=0"),
        (["optimizer=super_adam", "optimizer.average=cod"], "optimizer.average='cod'"),
        (
            ["optimizer=super_adam", "optimizer.tau=1", "method=[rdrop,bitfit]"],
            "with method=rdrop",
        ),
        (["optimizer=super_adam", "optimizer.tau=1", "method=hype"], "with method=hype"),
    ],
)
def test_wrong_requests_get_one_line(
    arguments: list[str], sentence: str, cli: Cli, tiny_folder: Callable[[str], Path]
) -> None:
    outcome = cli(*tiny(tiny_folder("bert"), *arguments))
    assert outcome.code == 2
    assert sentence in outcome.err
    assert outcome.err.count("\n") == 1


def test_optimizer_is_part_of_the_name_and_of_the_table(
    cli: Cli, tiny_folder: Callable[[str], Path], tmp_path: Path
) -> None:
    from results.record import read_all
    from results.tables.collect import tables

    for name in ("adamw", "adamw_nobc", "super_adam"):
        assert cli(*tiny(tiny_folder("bert"), f"optimizer={name}")).code == 0
    records = read_all(tmp_path / "runs")
    assert len({r.run for r in records}) == 3
    [table] = tables(records)
    assert [row.method for row in table.rows] == ["full", "full, adamw_nobc", "full, super_adam"]
    assert configure().settings.optimizer.name == "adamw"


@pytest.mark.parametrize("name", ["adamw", "adamw_nobc"])
def test_rates_on_the_device_give_the_steps_of_rates_as_numbers(name: str) -> None:
    """And nothing reads them there: a step that is repeated asks for the same operations."""
    ended = []
    for on_device in (False, True):
        tensors = [torch.nn.Parameter(torch.tensor(values)) for values in ([0.3, -2.0], [1.5])]
        groups = [
            {"params": tensors[:1], "lr": 0.1, "weight_decay": 0.01},
            {"params": tensors[1:], "lr": 0.02, "weight_decay": 0.0},
        ]
        options = AdamWOptions(name=name, betas=[0.9, 0.999], eps=1e-8)
        optimizer = build_optimizer(groups, 0.1, options)
        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1 / (1 + step))
        written = []
        if on_device:
            keep_rates(optimizer, torch.device("cpu"))
        for _ in range(6):
            for parameter in tensors:
                parameter.grad = parameter.detach().clone()
            with written_down([]) as operations:
                optimizer.step()
            written.append(operations)
            schedule.step()
        ended.append([parameter.detach().clone() for parameter in tensors])
        rates = [float(group["lr"]) for group in optimizer.param_groups]
        assert rates == pytest.approx([0.1 / 7, 0.02 / 7])
        if on_device:
            assert not any(operations.forbidden for operations in written)
    for number, tensor in zip(*ended, strict=True):
        torch.testing.assert_close(number, tensor, rtol=1e-6, atol=1e-7)


def test_state_with_rates_on_the_device_is_kept_as_numbers() -> None:
    parameter = one([1.0])
    optimizer = torch.optim.AdamW([parameter], lr=0.25)
    plain = optimizer.state_dict()["param_groups"]
    keep_rates(optimizer, torch.device("cpu"))
    keep_rates(optimizer, torch.device("cpu"))
    assert isinstance(optimizer.param_groups[0]["lr"], torch.Tensor)
    kept = as_numbers(optimizer.state_dict(), "param_groups")["param_groups"]
    assert kept == [{**plain[0], "capturable": True}]
    assert capture_hindrance(optimizer) == ""
    assert capture_hindrance(super_adam([parameter])) == ""
    twice = super_adam([parameter], tau=1)
    assert capture_hindrance(twice) == "super_adam computes two gradients a step"
    keep_rates(twice, torch.device("cpu"))
    assert twice.param_groups[0]["lr"] == 0.1
    assert "SGD" in capture_hindrance(torch.optim.SGD([parameter], lr=0.1))
