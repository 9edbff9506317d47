"""Copies of weights in bf16: autocast's numbers to the bit, and its casts where they are old."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from results.record import read_all
from runners.models.build import trained_sha256
from runners.speed.bf16_copy import CopiedLinear, Copies
from tests.conftest import EACH_KIND, SOAK, Cli, architectures, narrow, task_of, tiny
from tests.methods.reference import prepared_run

SIZE = ("precision=bf16", "data.train_size=16", "budget.batch_size=8", "budget.warmup=0")
STEPS = 2
TRAINING = [name for name, cls in EACH_KIND.items() if "training" not in cls.owns]
# What inserts modules, freezes, swaps weights, perturbs, or makes several passes.
SOME = ("full", "bitfit", "lora", "prefix", "child_tuning_f", "mixout", "hype", "rdrop", "smart")
TOGETHER = (("rdrop", "lora"), ("mixout", "hype"))
MORE = {  # less is lost in bf16
    "hype": ("method.hype.sigma=0.01",),
    "r3f": ("method.r3f.eps=0.01",),
    "smart": ("method.smart.radius=0.01",),
}
METHODS = [(m,) for m in (TRAINING if SOAK else SOME)] + list(TOGETHER)
Run = tuple[list[float], str, dict[str, Any]]


def _run(folder: Path, *arguments: str, task: str = "mrpc") -> Run:
    """Train a few steps; return losses, the hash of what was trained, and what the record says."""
    ready = prepared_run(folder, *SIZE, *arguments, task=task)
    ready.loop.start(ready.encoded)
    facts = ready.loop.levers.facts(ready.loop.model)
    ready.loop.run(STEPS)
    ready.loop.finish()
    assert not [m for m in ready.loop.model.modules() if isinstance(m, CopiedLinear)]
    return ready.loop.progress.losses, trained_sha256(ready.loop.model), facts


@pytest.fixture
def used(monkeypatch: pytest.MonkeyPatch) -> list[torch.Tensor]:
    """Return a list that grows with each copy that is taken, once it was seen to be a true one."""
    taken: list[torch.Tensor] = []
    current = Copies.current

    def checked(self: Copies, given: Any, copy: Any) -> Any:
        value = current(self, given, copy)
        if value is not given:
            assert torch.equal(value, given.detach().to(torch.bfloat16))
            taken.append(value)
        return value

    monkeypatch.setattr(Copies, "current", checked)
    return taken


@pytest.mark.parametrize("architecture", architectures("xlnet"))
def test_training_is_autocasts_to_the_bit(
    architecture: str, tiny_folder: Callable[[str], Path], used: list[torch.Tensor]
) -> None:
    plain = _run(tiny_folder(architecture), "speed.bf16_copy=false")
    assert not used
    ours = _run(tiny_folder(architecture))
    assert plain[:2] == ours[:2]
    assert ours[2]["bf16_copies"] >= 11
    assert len(used) >= STEPS * ours[2]["bf16_copies"]  # shared layers take theirs several times


@pytest.mark.parametrize("methods", METHODS, ids="+".join)
def test_every_method_trains_as_under_autocast(
    methods: tuple[str, ...], tiny_folder: Callable[[str], Path], used: list[torch.Tensor]
) -> None:
    """And with layers computed twice, whose second pass must draw and swap as the first did."""
    typed = [a for m in methods for a in (*narrow(m)[1:], *MORE.get(m, ()))]
    typed.append(f"method=[{','.join(methods)}]")
    task = task_of(methods[0], "mrpc")
    plain = _run(tiny_folder("bert"), *typed, "speed.bf16_copy=false", task=task)
    ours = _run(tiny_folder("bert"), *typed, "speed.gradient_checkpointing=true", task=task)
    assert plain[:2] == ours[:2]
    assert used
    left = ours[2].get("bf16_cast_each_pass")
    own_way = {"mixout computes the layer in its own way": 13}
    assert left == (own_way if "mixout" in methods else None)


def _layer() -> tuple[Any, Copies, torch.optim.Optimizer]:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(24, 16), nn.Linear(16, 8, bias=False))
    model[1].weight.requires_grad_(False)
    optimizer = torch.optim.AdamW(model[0].parameters(), lr=0.1, fused=True)
    return model, Copies(model, optimizer), optimizer


def _by_hand(model: Any, given: torch.Tensor) -> torch.Tensor:
    """Return what the two layers give, each operation rounded to bf16."""
    first, second = model
    narrow = torch.bfloat16
    hidden = nn.functional.linear(given.to(narrow), first.weight.to(narrow), first.bias.to(narrow))
    return nn.functional.linear(hidden, second.weight.to(narrow))


def _given(model: Any, given: torch.Tensor) -> torch.Tensor:
    with torch.autocast("cpu", torch.bfloat16):
        answer: torch.Tensor = model(given)
    return answer


def test_a_weight_that_is_not_what_was_copied_is_never_taken(used: list[torch.Tensor]) -> None:
    """Moved by the optimizer, written, swapped or handed in: the answer is of the weight as is."""
    model, copies, optimizer = _layer()
    given, weight = torch.randn(5, 24), model[0].weight
    assert torch.equal(_given(model, given), _by_hand(model, given))
    assert len(used) == 3
    _given(model, given).float().square().sum().backward()
    optimizer.step()  # fused: torch does not count it as a change
    used.clear()
    assert torch.equal(_given(model, given), _by_hand(model, given))
    assert len(used) == 1  # the frozen weight's
    copies.refresh()
    with torch.no_grad():
        weight.mul_(1.5)
    assert torch.equal(_given(model, given), _by_hand(model, given))
    copies.refresh()
    kept, weight.data = weight.data, weight.data * 2
    assert torch.equal(_given(model, given), _by_hand(model, given))
    weight.data = kept
    twice = torch.func.functional_call(model, {"0.weight": 2 * weight}, (given,))
    product = nn.functional.linear(given, weight) @ model[1].weight.t()
    assert torch.allclose(twice, model(given) + product, atol=1e-6)
    used.clear()
    assert torch.equal(_given(model, given), _by_hand(model, given))
    assert len(used) == 3


def test_gradients_of_two_passes_meet_in_float32() -> None:
    """In bf16 the small one would be lost beside the large one."""
    model, copies, _ = _layer()
    gradients = []
    for scale in (1.0, 2.0**-12):
        copies.begin_pass()
        _given(model, scale * torch.ones(1, 24)).float().sum().backward()
        gradients.append(model[0].weight.grad.clone())
    alone = gradients[1] - gradients[0]
    assert alone.abs().max() > 0
    torch.testing.assert_close(alone, gradients[0] * 2.0**-12, rtol=1e-2, atol=0)
    copies.begin_pass()
    answer = _given(model, torch.ones(1, 24)).float().square().sum()
    [first] = torch.autograd.grad(answer, model[0].weight, create_graph=True)
    first.square().sum().backward()  # a gradient of a gradient
    assert first.requires_grad
    assert first.dtype == torch.float32


def test_frozen_copies_are_written_once_and_trained_ones_stay_in_place() -> None:
    model, copies, optimizer = _layer()
    trained, _, frozen = copies.by_master.values()
    places, versions = trained.narrow.data_ptr(), frozen.narrow._version
    for _ in range(3):
        _given(model, torch.randn(5, 24)).float().sum().backward()
        optimizer.step()
        copies.refresh()
        assert torch.equal(trained.narrow, model[0].weight.to(torch.bfloat16))
    assert (trained.narrow.data_ptr(), frozen.narrow._version) == (places, versions)
    model[1].weight.requires_grad_(True)  # thawed: its gradient must find a way
    copies.refresh()
    _given(model, torch.randn(5, 24)).float().sum().backward()
    assert model[1].weight.grad is not None
    copies.release()
    assert type(model[0]) is nn.Linear
    assert "copies" not in vars(model[0])


def test_a_layer_outside_autocast_and_one_that_is_not_float32_are_left() -> None:
    model = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4).double())
    copies = Copies(model, torch.optim.SGD(model.parameters(), lr=0.1))
    assert dict(copies.left) == {"the weight is not a parameter in float32": 1}
    given = torch.randn(3, 4)
    wanted = nn.functional.linear(given, model[0].weight, model[0].bias)
    with torch.autocast("cpu", torch.bfloat16), torch.autocast("cpu", enabled=False):
        assert torch.equal(model[0](given), wanted)
    with torch.autocast("cpu", torch.float16):
        assert model[0](given).dtype == torch.float16


def test_a_loaded_state_is_copied_and_a_saved_one_holds_no_copy(
    tiny_folder: Callable[[str], Path], used: list[torch.Tensor]
) -> None:
    folder, states = tiny_folder("bert"), []
    for on in ("true", "false"):
        ready = prepared_run(folder, *SIZE, f"speed.bf16_copy={on}")
        ready.loop.start(ready.encoded)
        ready.loop.run(1)
        states.append(ready.loop.state_dict())
    assert states[0]["trained"].keys() == states[1]["trained"].keys()
    assert {t.dtype for t in states[0]["trained"].values()} == {torch.float32}
    ready = prepared_run(folder, *SIZE)
    ready.loop.start(ready.encoded)
    ready.loop.load_state_dict(states[0])
    used.clear()
    ready.loop.run(STEPS)
    assert used
    ready.loop.finish()
    assert trained_sha256(ready.loop.model) == _run(folder, "speed.bf16_copy=false")[1]


def test_a_run_says_so_and_keeps_its_name_and_its_scores(
    cli: Cli, tiny_folder: Callable[[str], Path], tmp_path: Path, used: list[torch.Tensor]
) -> None:
    records = []
    for setting in ("speed.bf16_copy=false", "speed.bf16_copy=true"):
        given = [*tiny(tiny_folder("bert"), setting, *SIZE), f"budget.steps={STEPS}", "force=true"]
        assert cli(*given).code == 0
        [record] = read_all(tmp_path / "runs")
        records.append(record)
    off, on = records
    assert used
    assert off.run == on.run
    assert (off.trained_sha256, off.predictions) == (on.trained_sha256, on.predictions)
    assert "bf16_copies" not in off.environment
    assert on.environment["bf16_copies"] == 28
    assert cli(*tiny(tiny_folder("bert"), "speed.bf16_copy=2")).code == 2


def test_fp32_has_no_copies(tiny_folder: Callable[[str], Path]) -> None:
    ready = prepared_run(tiny_folder("bert"), "precision=fp32")
    ready.loop.start(ready.encoded)
    assert not [m for m in ready.loop.model.modules() if isinstance(m, CopiedLinear)]
    assert "bf16_copies" not in ready.loop.levers.facts(ready.loop.model)
