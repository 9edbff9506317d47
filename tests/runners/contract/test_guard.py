"""The guard of captures names what a CUDA graph forbids, and what a replay would miss."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from methods.method import Method
from methods.registry import method_class
from runners.contract.guard import AS_ON_A_GPU, hindrances
from runners.contract.parts import prepared, typed
from tests.conftest import configure, tiny

Folder = Callable[[str], Path]
COMPOSITIONS = (
    *("child_tuning_f,adapter", "hype,bitfit", "hype,child_tuning_d", "hype,noisytune"),
    *(
        "hype,rdrop",
        "rdrop,lora",
        "mixout,llrd",
        "smart,wd_pre",
        "sift,reinit",
        "topk,rdrop",
        "hype,r3f",
        "freelb,lora",
        "hype,recadam",
        "sage,wd_pre",
    ),
    *("hype,pats_provisional", "rdrop,pats_provisional"),
    *("sam,bitfit", "asam,hype", "asam,rdrop", "ema,lora", "swa,mixout", "label_smoothing,asam"),
)


def _hindrances(folder: Path, *given: str, beside: Method | None = None) -> list[str]:
    loop, _ = prepared(configure(*tiny(folder, *given, *AS_ON_A_GPU)))
    loop.methods = [*loop.methods, *([beside] if beside else [])]
    with torch.random.fork_rng():
        return hindrances(loop, next(iter(loop._batches(0, 1))))


class Faulty(Method):
    """Edits a gradient in a way that a capture or a replay forbids."""

    def __init__(self, act: Callable[[Faulty, torch.Tensor, int], object]) -> None:
        super().__init__()
        self.act, self.kept = act, torch.zeros(2)
        self.generator = torch.Generator().manual_seed(5)
        self.count = 0

    def after_backward(self, model: torch.nn.Module, step: int) -> None:
        [gradient] = [p.grad for n, p in model.named_parameters() if n == "classifier.bias"]
        assert gradient is not None
        self.act(self, gradient, step)


def _count(method: Faulty, gradient: torch.Tensor, step: int) -> None:
    method.count += 1
    gradient.mul_(method.count)


def _replace(method: Faulty, gradient: torch.Tensor, step: int) -> None:
    gradient.add_(method.kept)
    method.kept = gradient.clone()


@pytest.mark.parametrize(
    ("act", "named"),
    [
        (lambda m, g, s: g.mul_(g.sum().item()), "reads a number from the device (_local_scalar"),
        (lambda m, g, s: g.mul_(2) if g.sum() > 0 else g, "reads a number from the device"),
        (lambda m, g, s: sum(g.tolist()), "reads a number from the device (tolist)"),
        (lambda m, g, s: g.cpu(), "reads a number from the device (cpu)"),
        (lambda m, g, s: g.numpy().sum(), "reads a number from the device (numpy)"),
        (lambda m, g, s: torch.linalg.inv(torch.eye(2)), "from the device (_linalg_check_errors)"),
        (lambda m, g, s: g.nonzero(), "shape depends on numbers (nonzero)"),
        (lambda m, g, s: g[g > 0], "shape depends on numbers (index by a mask)"),
        (lambda m, g, s: torch.unique(g), "shape depends on numbers (_unique2)"),
        (lambda m, g, s: g.add_(torch.tensor([1.0, 2.0])), "a tensor of numbers of the host"),
        (lambda m, g, s: g.add_(torch.randn(2, generator=m.generator)), "generator of the host"),
        (lambda m, g, s: g.mul_(1 / (1 + s)), "gives aten::mul_ another argument in each step"),
        (_count, "gives aten::mul_ another argument in each step"),
        (_replace, "gives aten::add_ another argument in each step"),
        (lambda m, g, s: g.mul_(2) if s % 2 else g, "aten::"),
        (lambda m, g, s: g.add_(torch.as_tensor([1.0, 2.0])), "a tensor of numbers of the host"),
        (lambda m, g, s: torch.set_rng_state(torch.get_rng_state()), "stream (get_rng_state)"),
    ],
)
def test_each_fault_is_named(
    act: Callable[[Faulty, torch.Tensor, int], object], named: str, tiny_folder: Folder
) -> None:
    shown = _hindrances(tiny_folder("bert"), "task=rte", beside=Faulty(act))
    assert any(named in one for one in shown), shown


@pytest.mark.parametrize(
    "act",
    [
        lambda m, g, s: g.mul_(2.5),
        lambda m, g, s: g.add_(m.kept),
        lambda m, g, s: m.kept.lerp_(g, 0.1),
        lambda m, g, s: g.add_(torch.randn_like(g)),
        lambda m, g, s: g.add_(torch.zeros(2, device=g.device)),
        lambda m, g, s: torch.where(g > 0, g, 0 * g),
    ],
)
def test_what_a_replay_repeats_is_allowed(
    act: Callable[[Faulty, torch.Tensor, int], object], tiny_folder: Folder
) -> None:
    assert _hindrances(tiny_folder("bert"), "task=rte", beside=Faulty(act)) == []


@pytest.mark.parametrize("methods", COMPOSITIONS)
def test_a_composition_is_captured_where_each_of_its_methods_is(
    methods: str, tiny_folder: Folder
) -> None:
    options = [a for m in methods.split(",") for a in typed(m, method_class(m).narrow)]
    shown = _hindrances(tiny_folder("bert"), "task=rte", f"method=[{methods}]", *options)
    hindered = [m for m in methods.split(",") if method_class(m).hinders_capture]
    assert bool(shown) == bool(hindered), shown


@pytest.mark.parametrize(
    ("task", "named"),
    [
        (["task=stsb"], None),
        (["task=mnli"], None),
        (["task=rte", "task.class_weights=balanced"], None),
        (["task=rte", "task.class_weights=balanced", "method=label_smoothing"], None),
        (["task=rte", "precision=bf16"], None),
        (["task=mlm", "mlm.on=[rte]"], "index by a mask"),
        (["mix=[mnli,stsb]"], "reads a number from the device"),
    ],
)
def test_steps_of_other_tasks_are_told_apart(
    task: list[str], named: str | None, tiny_folder: Folder
) -> None:
    shown = _hindrances(tiny_folder("bert"), *task)
    assert (shown == []) == (named is None), shown
    assert named is None or any(named in one for one in shown)
