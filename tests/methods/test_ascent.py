"""SAM and ASAM, written out with a second gradient taken by hand."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from methods.asam import Asam
from methods.method import Batch, Method
from methods.registry import method_class
from methods.sam import Sam
from results.errors import UserError
from runners.contract.guard import AS_ON_A_GPU, hindrances
from runners.contract.parts import prepared as of_config
from runners.models.build import trained_sha256
from runners.speed.operations import written_down
from runners.training.loop import Loop
from runners.training.repeating import hindrance
from tests.conftest import configure, tiny
from tests.methods.reference import (
    Model,
    largest_difference,
    plain_loss,
    prepared,
    prepared_run,
    train,
    trained,
)

Folder = Callable[[str], Path]


def _rdrop(model: Model, batch: Batch) -> torch.Tensor:
    first, second = model(**batch), model(**batch)
    p, q = first.logits.softmax(-1), second.logits.softmax(-1)
    apart = ((p - q) * (p / q).log()).sum(-1).mean() / 2
    return 0.5 * (first.loss + second.loss) + 0.5 * apart


def _moved(name: str, rho: float, names: list[str], weights: Any, gradients: Any) -> list[Any]:
    """Return what each weight is moved by, entry by entry in float64 as the papers have it."""
    sizes = [
        (w.double().abs() + 0.01) if name == "asam" and "weight" in n else torch.ones(w.shape)
        for n, w in zip(names, weights, strict=True)
    ]
    scaled = [t * g.double() for t, g in zip(sizes, gradients, strict=True)]
    length = sum(float((s * s).sum()) for s in scaled) ** 0.5
    return [rho * t * s / length for t, s in zip(sizes, scaled, strict=True)]


@pytest.mark.parametrize(
    ("name", "rho", "task", "beside"),
    [
        ("sam", 0.3, "mrpc", ""),
        ("sam", 0.3, "stsb", ""),
        ("sam", 0.3, "mrpc", "rdrop"),
        ("sam", 0.3, "mrpc", "bitfit"),
        ("asam", 2.0, "mrpc", ""),
    ],
)
def test_step_is_by_the_gradient_at_the_moved_weights(
    name: str, rho: float, task: str, beside: str, tiny_folder: Folder
) -> None:
    """Both passes draw the same dropout in SAM, and one after the other in ASAM."""
    folder, kept = tiny_folder("bert"), dict[str, Any]()
    loss = _rdrop if beside == "rdrop" else plain_loss

    def loss_of(model: Model, batch: Batch) -> torch.Tensor:
        kept.update(batch=batch, stream=torch.get_rng_state())
        return loss(model, batch)

    def after_backward(model: Model, step: int, lr: float) -> None:
        named = [(n, p) for n, p in model.named_parameters() if p.requires_grad]
        names, weights = [n for n, _ in named], [p.detach().clone() for _, p in named]
        moves = _moved(name, rho, names, weights, [p.grad for _, p in named])
        for (_, parameter), weight, move in zip(named, weights, moves, strict=True):
            parameter.data = (weight.double() + move).float()
        if name == "sam":
            torch.set_rng_state(kept["stream"])
        gradients = torch.autograd.grad(loss(model, kept["batch"]), [p for _, p in named])
        for (_, parameter), weight, gradient in zip(named, weights, gradients, strict=True):
            parameter.data, parameter.grad = weight, gradient

    def freeze(model: Model, loaded: Any) -> None:
        if beside == "bitfit":
            for n, parameter in model.named_parameters():
                parameter.requires_grad_(n.endswith(".bias") or n in loaded.head)

    methods = f"method=[{name}{',' + beside if beside else ''}]"
    ours = trained(folder, methods, f"method.{name}.rho={rho}", task=task)
    theirs = train(folder, task=task, start=freeze, loss_of=loss_of, after_backward=after_backward)
    assert largest_difference(ours, theirs) < 2e-5
    plain = train(folder, task=task, start=freeze, loss_of=loss)
    assert largest_difference(ours, plain) > 2e-4


@pytest.mark.parametrize("name", ["sam", "asam"])
def test_move_is_as_long_as_rho_in_its_own_measure(name: str) -> None:
    draws = torch.Generator().manual_seed(0)
    names = ["layer.weight", "layer.bias", "gate"]
    named = [(n, torch.nn.Parameter(torch.randn(4, 3, generator=draws))) for n in names]
    for _, parameter in named:
        parameter.grad = torch.randn(4, 3, generator=draws)
    method: Any = {"sam": Sam(rho=0.7), "asam": Asam(rho=0.7, eta=0.1)}[name]
    moves = method.climb(named)
    wide = [p.abs() + 0.1 if name == "asam" and "weight" in n else 1.0 for n, p in named]
    lengths = torch.cat([(m / t).detach().flatten() for m, t in zip(moves, wide, strict=True)])
    assert float(lengths.norm()) == pytest.approx(0.7, rel=1e-6)
    for _, parameter in named:
        parameter.grad = torch.zeros(4, 3)
    assert all(torch.equal(move, torch.zeros(4, 3)) for move in method.climb(named))


class _Probe(Method):
    """Looks at gradients and weights where other methods do."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[tuple[str, int, float, str]] = []

    def _see(self, hook: str, model: torch.nn.Module, step: int) -> None:
        squares = [p.grad.square().sum() for p in model.parameters() if p.grad is not None]
        norm = float(torch.stack(squares).sum().sqrt())
        self.seen.append((hook, step, norm, trained_sha256(model)))

    def after_backward(self, model: torch.nn.Module, step: int) -> None:
        self._see("backward", model, step)

    def after_clipping(self, model: torch.nn.Module, step: int) -> None:
        self._see("clipping", model, step)


def _probed(loop: Loop, steps: int = 1) -> list[tuple[str, int, float, str]]:
    probe = _Probe()
    loop.methods = [*loop.methods, probe]  # type: ignore[assignment]
    loop.run(steps)
    return probe.seen


@pytest.mark.parametrize("name", ["sam", "asam"])
def test_other_methods_see_the_second_gradient_once_and_the_weights_to_the_bit(
    name: str, tiny_folder: Folder
) -> None:
    loop, _ = prepared(tiny_folder("bert"), f"method={name}", "budget.max_grad_norm=0.01")
    before = trained_sha256(loop.model)
    (first, step, norm, weights), (second, _, clipped, same) = _probed(loop)
    assert (first, second, step) == ("backward", "clipping", 0)
    assert weights == same == before
    assert norm > 0.02
    assert clipped == pytest.approx(0.01, rel=1e-3)
    plain, _ = prepared(tiny_folder("bert"), "budget.max_grad_norm=0.01")
    assert _probed(plain)[0][2] != norm
    assert plain.progress.losses == loop.progress.losses  # of the first pass


def test_batch_in_parts_is_moved_by_its_whole_gradient(tiny_folder: Folder) -> None:
    norms = []
    for rows in (None, 3):
        loop, _ = prepared(tiny_folder("bert"), "method=sam", "budget.dropout=0")
        loop.micro_batch = rows
        norms.append(_probed(loop)[0][2])
    assert norms[0] == pytest.approx(norms[1], rel=1e-4)


def test_memory_that_runs_out_in_the_second_pass_halves_it_and_leaves_the_weights(
    tiny_folder: Folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    loop, _ = prepared(tiny_folder("bert"), "method=sam", "budget.dropout=0")
    whole, _ = prepared(tiny_folder("bert"), "method=sam", "budget.dropout=0")
    forward, calls = loop.forward, list[int]()

    def short(batch: Batch) -> Any:
        calls.append(len(batch["input_ids"]))
        if len(calls) == 2:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return forward(batch)

    monkeypatch.setattr(loop, "forward", short)
    norm = _probed(loop)[0][2]
    assert calls == [8, 8, 4, 4]
    assert loop.micro_batch == 4
    assert norm == pytest.approx(_probed(whole)[0][2], rel=1e-4)

    def broken(batch: Batch) -> Any:
        calls.append(0)
        if len(calls) % 2 == 0:
            raise RuntimeError("broken")
        return forward(batch)

    loop.micro_batch, before = None, trained_sha256(loop.model)
    calls.clear()
    monkeypatch.setattr(loop, "forward", broken)
    with pytest.raises(RuntimeError, match="broken"):
        loop.run(2)
    assert trained_sha256(loop.model) == before


def test_dropout_that_differs_between_passes_is_another_run(tiny_folder: Folder) -> None:
    for name in ("sam", "asam"):
        same, other = (
            trained(tiny_folder("bert"), f"method={name}", f"method.{name}.same_dropout={v}")
            for v in ("true", "false")
        )
        assert largest_difference(same, other) > 1e-5


@pytest.mark.parametrize(
    ("typed", "said"),
    [
        (["method=sam", "method.sam.rho=-1"], "method.sam.rho=-1"),
        (["method=sam", "method.sam.rho=wide"], "method.sam.rho='wide'"),
        (["method=sam", "method.sam.rho=.inf"], "method.sam.rho"),
        (["method=sam", "method.sam.same_dropout=2"], "method.sam.same_dropout=2"),
        (["method=asam", "method.asam.rho=-0.5"], "method.asam.rho=-0.5"),
        (["method=asam", "method.asam.eta=-1"], "method.asam.eta=-1"),
        (["method=[sam,asam]"], "sam and asam both compute the gradients"),
        (["method=[sam,dp]"], "sam and dp both compute the gradients"),
        (
            ["method=[setfit,asam]"],
            "asam takes a batch several times, and setfit draws other pairs",
        ),
        (
            ["method=sam", "optimizer=super_adam", "optimizer.tau=1"],
            "optimizer=super_adam optimizer.tau=1 with method=sam",
        ),
    ],
)
def test_what_cannot_be_is_refused_in_a_sentence(
    typed: list[str], said: str, tiny_folder: Folder
) -> None:
    with pytest.raises(UserError) as refused:
        configure(*tiny(tiny_folder("bert"), "task=mrpc"), *typed)
    assert said in str(refused.value)


@pytest.mark.parametrize("same_dropout", ["true", "false"])
@pytest.mark.parametrize("name", ["sam", "asam"])
def test_steps_are_captured_where_no_stream_is_set_back(
    name: str, same_dropout: str, tiny_folder: Folder
) -> None:
    given = [f"method={name}", f"method.{name}.same_dropout={same_dropout}", *AS_ON_A_GPU]
    loop, _ = prepared(tiny_folder("bert"), *given)
    [method] = loop.methods
    with torch.random.fork_rng():
        shown = hindrances(loop, next(iter(loop._batches(0, 1))))
    assert bool(shown) == bool(method.hindrance) == (same_dropout == "true"), shown
    assert hindrance([method], _Kind(), None) == (  # type: ignore[arg-type]
        f"{name}: it sets dropout's stream back for its second pass" if shown else ""
    )


def test_second_pass_in_bf16_casts_the_moved_weights_also_while_it_is_watched(
    tiny_folder: Folder,
) -> None:
    """Copies of weights are made once a step, and are not those of the second pass."""
    hashes = []
    for copies, watched in (("true", True), ("true", False), ("false", False)):
        given = ["method=asam", "precision=bf16", f"speed.bf16_copy={copies}", "budget.warmup=0"]
        ready = prepared_run(tiny_folder("bert"), *given, *AS_ON_A_GPU)
        ready.loop.start(ready.encoded)
        with written_down([]) if watched else contextlib.nullcontext():
            ready.loop.run(1)
        hashes.append(trained_sha256(ready.loop.model))
    assert hashes[0] == hashes[1] == hashes[2]


class _Kind:
    hinders_capture = ""


def test_super_adam_that_looks_once_goes_with_both(tiny_folder: Folder) -> None:
    for name in ("sam", "asam"):
        assert method_class(name).owns == {"gradient"}
        given = [*tiny(tiny_folder("bert"), "task=mrpc"), f"method={name}", "optimizer=super_adam"]
        loop, _ = of_config(configure(*given, "optimizer.tau=0"))
        loop.run(2)
        assert len(loop.progress.losses) == 2
