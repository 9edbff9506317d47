"""The loop does what a dozen plain lines of torch do, and calls each hook when it should."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch
from transformers import get_linear_schedule_with_warmup

from methods.full import Full
from methods.method import Batch, Forward, Method
from methods.registry import composition_problems
from results.record import read_all
from runners.config.settings import Budget
from runners.jobs.job import Job
from runners.machine.device import make_accelerator
from runners.seeds import derive
from runners.training.edits import edit_weights
from runners.training.loop import Loop
from runners.training.order import Order
from runners.training.prepare import prepare
from runners.training.schedule import (
    evaluation_steps,
    idle_line,
    learning_rate_factor,
    total_steps,
)
from tests.conftest import Cli, configure, tiny


def _loop(folder: Path, *more: str, methods: tuple[Method, ...] = ()) -> Loop:
    config = configure(*tiny(folder, "task=mrpc", *more))
    object.__setattr__(config, "methods", (*config.methods, *methods))
    return prepare(Job(config), make_accelerator("cpu", config)).loop


def test_training_equals_plain_torch_line_by_line(tiny_folder: Callable[[str], Path]) -> None:
    """An independent loop: unfused optimizer, transformers' schedule, torch's clipping."""
    options = ("budget.steps=6", "budget.weight_decay=0.1", "budget.max_grad_norm=0.05", "lr=1e-3")
    ours, plain = (_loop(tiny_folder("bert"), *options) for _ in range(2))
    model = plain.model.train()
    no_decay = [p for n, p in model.named_parameters() if n.endswith("bias") or "LayerNorm" in n]
    decay = [p for p in model.parameters() if all(p is not q for q in no_decay)]
    optimizer = torch.optim.AdamW(
        [{"params": decay, "weight_decay": 0.1}, {"params": no_decay, "weight_decay": 0.0}],
        lr=1e-3,
        foreach=False,
    )
    schedule = get_linear_schedule_with_warmup(optimizer, 2, 6)  # 0.25 of 6 steps, rounded up
    torch.manual_seed(derive(42, "dropout"))
    losses = []
    for indices in plain.order.batches(0, 6):
        loss = model(**plain.collate(indices)).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 0.05)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
        losses.append(loss.item())
    torch.manual_seed(derive(42, "dropout"))
    ours.run(6)
    assert ours.progress.losses == pytest.approx(losses, abs=1e-6)
    theirs = dict(model.named_parameters())
    for name, parameter in ours.model.named_parameters():
        if "key.bias" not in name:  # its gradient is rounding noise, which Adam blows up
            assert torch.allclose(parameter, theirs[name], atol=2e-5), name


@dataclass(kw_only=True)
class Probe(Method):
    """Writes down what it sees at each hook; owns the loss and doubles it."""

    name: ClassVar[str] = "probe"
    owns: ClassVar[frozenset[str]] = frozenset({"loss"})
    seen: list[tuple[str, Any]] = field(default_factory=list)

    def _norm(self, model: torch.nn.Module) -> float:
        grads = [p.grad for p in model.parameters() if p.grad is not None]
        return (
            float(torch.linalg.vector_norm(torch.stack([g.norm() for g in grads])))
            if grads
            else 0.0
        )

    def before_training(
        self, model: torch.nn.Module, batches: Iterable[Batch], forward: Forward
    ) -> None:
        first = next(iter(batches))
        forward(first).loss.backward()
        self.seen.append(("before_training", first["labels"].shape[0]))

    def parameter_groups(
        self, model: torch.nn.Module, groups: list[dict[str, Any]]
    ) -> list[dict[str, Any]]:
        return [{**group, "lr": 0.5} for group in groups]

    def loss(self, model: torch.nn.Module, batch: Batch, forward: Forward) -> torch.Tensor:
        self.seen.append(("loss", self._norm(model)))
        return 2 * forward(batch).loss

    def after_backward(self, model: torch.nn.Module, step: int) -> None:
        self.seen.append(("after_backward", self._norm(model)))

    def after_clipping(self, model: torch.nn.Module, step: int) -> None:
        self.seen.append(("after_clipping", self._norm(model)))
        for parameter in model.parameters():
            if parameter.grad is not None:
                parameter.grad.zero_()

    def after_step(self, model: torch.nn.Module, step: int) -> None:
        self.seen.append(("after_step", step))

    def hold_weights(self, model: torch.nn.Module, step: int) -> None:
        self.seen.append(("hold_weights", step))

    def see_weights(self, model: torch.nn.Module, step: int) -> None:
        self.seen.append(("see_weights", step))

    def report(self) -> dict[str, Any]:
        return {"hooks": len(self.seen)}


def test_hooks_are_called_in_order_and_act(tiny_folder: Callable[[str], Path]) -> None:
    probe = Probe()
    loop = _loop(tiny_folder("bert"), "budget.max_grad_norm=0.01", methods=(probe,))
    plain = _loop(tiny_folder("bert"))
    assert {group["lr"] for group in loop.optimizer.param_groups} <= {0.0, 0.5}
    before = {n: p.detach().clone() for n, p in loop.model.named_parameters()}
    torch.manual_seed(5)
    loop.run(2)
    names = [name for name, _ in probe.seen]
    step = ["loss", "after_backward", "after_clipping", "after_step", "hold_weights", "see_weights"]
    assert names == ["before_training", *step, *step]
    values = dict(probe.seen[1:5])
    assert values["loss"] == 0.0  # gradients of before_training are gone
    assert values["after_backward"] > 0.01
    assert values["after_clipping"] == pytest.approx(0.01, rel=1e-3)
    # The gradients were zeroed after clipping, before the moments: nothing may move.
    assert all(torch.equal(p, before[n]) for n, p in loop.model.named_parameters())
    torch.manual_seed(5)
    plain.run(1)
    assert loop.progress.losses[0] == pytest.approx(2 * plain.progress.losses[0], rel=1e-6)


def test_all_methods_edit_weights_before_one_holds_or_sees_them() -> None:
    seen: list[tuple[str, Any]] = []
    edit_weights((Probe(seen=seen), Probe(seen=seen)), torch.nn.Linear(1, 1), 3)
    hooks = ("after_step", "hold_weights", "see_weights")
    assert seen == [(hook, 3) for hook in hooks for _ in range(2)]


def test_seeing_batches_before_training_leaves_dropout_as_it_was(
    tiny_folder: Callable[[str], Path],
) -> None:
    _loop(tiny_folder("bert"), methods=(Probe(),))
    state = torch.get_rng_state()
    _loop(tiny_folder("bert"))
    assert torch.equal(torch.get_rng_state(), state)


def _budget(**values: Any) -> Budget:
    plain = configure("budget=default").settings.budget
    return plain.model_copy(update=values)


def test_schedules_have_their_published_shape() -> None:
    linear = learning_rate_factor(_budget(warmup=0.1), 100)
    assert [linear(s) for s in (0, 5, 10, 55, 100)] == [0.0, 0.5, 1.0, 0.5, 0.0]
    constant = learning_rate_factor(_budget(warmup=0.0, schedule="constant"), 100)
    assert [constant(s) for s in (0, 50, 99)] == [1.0, 1.0, 1.0]
    slanted = learning_rate_factor(_budget(warmup=0.1, schedule="slanted_triangular"), 100)
    # Howard and Ruder's p is t/cut, then 1 - (t - cut) / (cut (1/f - 1)), with cut = 10, f = .1.
    expected = [(1 + p * 31) / 32 for p in (0, 0.5, 1, 0.5, 0)]
    assert [slanted(s) for s in (0, 5, 10, 55, 100)] == pytest.approx(expected)
    assert min(slanted(s) for s in range(101)) == pytest.approx(1 / 32)


@pytest.mark.parametrize(
    ("values", "steps", "due"),
    [
        ({"epochs": 3, "evaluate": "epoch"}, 30, [10, 20, 30]),
        ({"epochs": 3, "evaluate": "end"}, 30, [30]),
        ({"epochs": 1, "evaluate": 4}, 10, [4, 8, 10]),
        ({"steps": 25, "evaluate": "epoch"}, 25, [10, 20, 25]),
    ],
)
def test_steps_and_evaluations_follow_the_budget(
    values: dict[str, Any], steps: int, due: list[int]
) -> None:
    import numpy as np

    order = Order(0, np.ones(100, dtype=np.int64), 10)
    assert total_steps(_budget(**values), order) == steps
    assert evaluation_steps(_budget(**values), order) == due


@pytest.mark.parametrize(
    ("given", "steps", "idle"),
    [
        ({"warmup": 0.1}, 1, True),
        ({"warmup": 0.1, "schedule": "constant"}, 1, True),
        ({"warmup": 0.0}, 1, False),
        ({"warmup": 0.1, "schedule": "slanted_triangular"}, 1, False),
        ({"warmup": 0.95}, 2, False),  # all of it warm-up, and the second step trains
        ({"warmup": 0.1}, 2, False),
    ],
)
def test_a_schedule_without_a_rate_above_0_is_told(
    given: dict[str, Any], steps: int, idle: bool
) -> None:
    budget = _budget(**given)
    factor = learning_rate_factor(budget, steps)
    assert idle == (max(factor(step) for step in range(steps)) == 0)
    assert (idle_line(budget, factor, steps) is not None) == idle


@pytest.mark.parametrize(("warmup", "idle"), [("0.1", True), ("0", False)])
def test_a_run_that_trains_nothing_says_so(
    warmup: str, idle: bool, cli: Cli, tiny_folder: Callable[[str], Path], tmp_path: Path
) -> None:
    small = tiny(tiny_folder("bert"), "task=rte", "budget.steps=1", f"budget.warmup={warmup}")
    done = cli(*small)
    assert done.code == 0
    said = "budget.warmup=0.1 of 1 step: no step has a rate above 0, so that nothing is trained;"
    assert done.err.count(f"{said} use budget.warmup=0") == idle
    [record] = read_all(tmp_path / "runs")
    assert (record.trained_sha256 == record.initial_sha256) == idle


def test_weight_decay_spares_vectors(tiny_folder: Callable[[str], Path]) -> None:
    loop = _loop(tiny_folder("bert"), "budget.weight_decay=0.1")
    for group in loop.optimizer.param_groups:
        assert all((p.ndim > 1) == (group["weight_decay"] == 0.1) for p in group["params"])
    assert isinstance(loop.methods[0], Full)


_TOO_MUCH = torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB")
_TOO_LARGE = RuntimeError(
    "Function NativeLayerNormBackward0 returned an invalid gradient at index 2 - got [0] but"
    " expected shape compatible with [384]"
)


@pytest.mark.parametrize(("method", "error"), [("full", _TOO_MUCH), ("bitfit", _TOO_LARGE)])
def test_a_batch_that_does_not_fit_is_done_in_parts(
    method: str,
    error: RuntimeError,
    tiny_folder: Callable[[str], Path],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Room for three rows: parts of 8, 4, 2; the same steps as in one piece, without dropout."""
    given = (f"method={method}", "budget.dropout=0.0", "budget.steps=3")
    trained, losses, parts = [], [], []
    for rows_that_fit in (8, 3):
        loop = _loop(tiny_folder("bert"), *given)
        whole = loop.forward
        seen: list[int] = []

        def forward(
            batch: Batch, whole: Any = whole, seen: list[int] = seen, room: int = rows_that_fit
        ) -> Any:
            seen.append(batch["input_ids"].shape[0])
            if seen[-1] > room:
                raise error
            return whole(batch)

        monkeypatch.setattr(loop, "forward", forward)
        loop.run(3)
        trained.append({n: p.detach().clone() for n, p in loop.model.named_parameters()})
        losses.append(loop.progress.losses)
        parts.append((loop.micro_batch, seen[-1]))
    assert parts == [(None, 8), (2, 2)]
    assert losses[1] == pytest.approx(losses[0], abs=1e-6)
    for name, tensor in trained[0].items():
        if "key.bias" not in name:  # its gradient is rounding noise, which Adam blows up
            assert torch.allclose(tensor, trained[1][name], atol=2e-5), name


def test_a_loss_that_is_no_mean_is_not_done_in_parts(
    tiny_folder: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The sum over a half, weighted by its size, would be a quarter of the whole's."""
    loop = _loop(tiny_folder("bert"), "method=rdrop", "method.rdrop.reduction=sum")

    def forward(batch: Batch) -> Any:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB")

    monkeypatch.setattr(loop, "forward", forward)
    with pytest.raises(torch.OutOfMemoryError):
        loop.run(1)
    assert loop.micro_batch is None


def test_one_row_that_does_not_fit_is_an_error(
    tiny_folder: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    loop = _loop(tiny_folder("bert"))

    def forward(batch: Batch) -> Any:
        raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate")

    monkeypatch.setattr(loop, "forward", forward)
    with pytest.raises(RuntimeError, match="allocate"):
        loop.run(1)
    assert loop.micro_batch == 1


@dataclass(kw_only=True)
class _PerExample(Method):
    """Computes the gradient example by example, and clips nothing."""

    name: ClassVar[str] = "per_example"
    owns: ClassVar[frozenset[str]] = frozenset({"gradient"})

    def gradients(self, model: torch.nn.Module, batch: Batch, loss: Any) -> torch.Tensor:
        rows = len(batch["labels"])
        total = torch.zeros(())
        for row in range(rows):
            part = loss({k: v[row : row + 1] for k, v in batch.items()}) / rows
            part.backward()
            total += part.detach()
        return total


def test_a_method_that_owns_the_gradient_replaces_pass_and_clipping(
    tiny_folder: Callable[[str], Path],
) -> None:
    """The mean of the examples' gradients is the batch's; with clipping the two must differ."""
    weights = {}
    for norm in ("1e9", "0.01"):
        options = ("budget.dropout=0.0", f"budget.max_grad_norm={norm}", "optimizer=super_adam")
        for methods in ((), (_PerExample(),)):
            loop = _loop(tiny_folder("bert"), *options, methods=methods)
            loop.run(3)
            losses = torch.tensor(loop.progress.losses)
            tensors = torch.cat([p.detach().flatten() for p in loop.model.parameters()])
            weights[norm, len(methods)] = (losses, tensors)
    for ours, theirs in zip(weights["1e9", 1], weights["1e9", 0], strict=True):
        torch.testing.assert_close(ours, theirs, atol=2e-5, rtol=1e-4)
    assert torch.equal(weights["0.01", 1][1], weights["1e9", 1][1])
    assert not torch.allclose(weights["0.01", 0][1], weights["1e9", 0][1], atol=2e-5)


def test_two_methods_cannot_both_compute_the_gradient() -> None:
    problems = composition_problems([_PerExample(), _PerExample()])
    assert problems == [
        "method=[per_example,per_example]: per_example and per_example both compute the gradients;"
        " keep one of them"
    ]
