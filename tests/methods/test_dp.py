"""Differentially private fine-tuning, against loops over single examples and against Opacus."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from methods.dp import Dp
from methods.method import Batch
from methods.registry import method_class
from methods.surgery import accountant, clipping
from results.errors import UserError
from results.record import read
from runners.contract.parts import SMALL, configure, typed
from runners.contract.parts import prepared as of_config
from runners.models.build import trained_sha256
from runners.training.loop import Loop
from runners.training.poisson_order import PoissonOrder
from tests.conftest import SOAK, Cli, architectures, tiny
from tests.methods.reference import inner_stream, prepared

Folders = Callable[[str], Path]
Rows = NDArray[np.int64]
PRIVATE = ("full", "bitfit", "ln_tuning", "adapter", "lora", "compacter", "topk", "linear")
SOME = ("full", "lora", "compacter")
CLIP = 0.4
# Where an architecture, or a method on it, has layers whose examples cannot be told apart.
REFUSED = {
    "deberta-v2": ("full", "bitfit", "ln_tuning", "adapter", "lora", "compacter", "topk"),
    "albert": ("topk",),
    "modernbert": ("bitfit",),
    "mpnet": ("full",),
    "xlnet": tuple(name for name in PRIVATE if name != "linear"),
    "t5": ("full", "bitfit", "ln_tuning", "adapter", "compacter", "topk"),
}


def _loop(folder: Path, beside: str, *more: str, noise: float = 0.0) -> Loop:
    options = typed(beside, method_class(beside).narrow)
    loop, _ = prepared(
        folder, f"method=[dp,{beside}]", *options, f"method.dp.noise={noise}",
        f"method.dp.clip={CLIP}", "budget.warmup=0", *more,
    )  # fmt: skip
    loop.model.train()
    return loop


def _dp(loop: Loop) -> Dp:
    method = loop.methods[0]
    assert isinstance(method, Dp)
    return method


def _trained(loop: Loop) -> list[torch.nn.Parameter]:
    return [p for p in loop.model.parameters() if p.requires_grad]


def _one_by_one(loop: Loop, rows: Rows) -> tuple[list[torch.Tensor], list[float]]:
    """Return the clipped sum of gradients of the run's loss of one row each, and the norms."""
    parameters = _trained(loop)
    total, norms = [torch.zeros_like(p) for p in parameters], []
    for row in rows:
        loss = loop.forward(loop.batch(np.asarray([row]))).loss
        gradients = torch.autograd.grad(loss, parameters, materialize_grads=True)
        norm = math.sqrt(sum(float(g.double().square().sum()) for g in gradients))
        norms.append(norm)
        for one, gradient in zip(total, gradients, strict=True):
            one += gradient * min(1.0, CLIP / (norm + 1e-6))
    return total, norms


def _gradients(loop: Loop) -> list[torch.Tensor]:
    return [torch.zeros_like(p) if p.grad is None else p.grad for p in _trained(loop)]


@pytest.mark.parametrize("architecture", architectures("mpnet"))
def test_clipped_sums_equal_a_loop_over_single_examples_or_are_refused(
    architecture: str, tiny_folder: Folders
) -> None:
    folder, rows = tiny_folder(architecture), np.arange(7)
    for beside in PRIVATE if SOAK or architecture == "bert" else SOME:
        if beside in REFUSED.get(architecture, ()):
            with pytest.raises(UserError, match=r"method=(dp: .*\.\w+ is|\w+[\w =]*: )"):
                _loop(folder, beside, "budget.dropout=0")
            continue
        loop = _loop(folder, beside, "budget.dropout=0", "method.dp.part=3")
        dp, batch = _dp(loop), loop.batch(rows)
        expected, norms = _one_by_one(loop, rows)
        assert max(norms) > CLIP, beside
        rules = dp.clipping.rules
        assert rules is not None
        _, squares = rules.squared_norms(lambda: loop._losses(batch))  # noqa: B023
        ours = torch.stack(list(squares.values())).sum(0).sqrt()
        torch.testing.assert_close(ours, torch.tensor(norms), rtol=1e-5, atol=1e-5)
        loss = dp.clipping(batch, loop._losses, CLIP)
        for gradient, sums in zip(_gradients(loop), expected, strict=True):
            torch.testing.assert_close(gradient, sums, rtol=1e-5, atol=1e-5)
        mean = loop.forward(batch).loss * len(rows)
        torch.testing.assert_close(loss, mean.detach(), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    "beside", ["full", "prefix", "prompt", "ia3", "unipelt", "raft", "mixout", "wd_pre", "hype"]
)
def test_one_by_one_is_right_for_every_layer(beside: str, tiny_folder: Folders) -> None:
    folder, rows = tiny_folder("deberta-v2" if beside == "full" else "bert"), np.arange(3)
    if beside in ("ia3", "mixout", "prefix", "prompt", "raft", "unipelt"):
        with pytest.raises(UserError, match=f"dp and {beside} both in one run: .*part=1"):
            _loop(folder, beside)
    loop = _loop(folder, beside, "budget.dropout=0", "method.dp.part=1")
    loop.model.eval()  # where mixout mixes nothing, and hype adds nothing
    expected, _ = _one_by_one(loop, rows)
    _dp(loop).clipping(loop.batch(rows), loop._losses, CLIP)
    for gradient, sums in zip(_gradients(loop), expected, strict=True):
        torch.testing.assert_close(gradient, sums, rtol=1e-5, atol=1e-5)


def test_a_pretrained_model_is_not_refused_for_gradients_that_are_zero() -> None:
    """A key's bias changes no attention: what is computed of its gradient is rounding."""
    loop, _ = of_config(configure("method=[dp,full]", "method.dp.noise=0", "task=rte", *SMALL))
    assert len(_dp(loop).clipping.reached) == len(_trained(loop))


def _compare(loop: Loop, rows: Rows) -> None:
    expected, _ = _one_by_one(loop, rows)
    _dp(loop).clipping(loop.batch(rows), loop._losses, CLIP)
    for gradient, sums in zip(_gradients(loop), expected, strict=True):
        torch.testing.assert_close(gradient, sums, rtol=1e-5, atol=1e-5)


def test_scores_and_second_layers_of_a_method_are_clipped_alike(tiny_folder: Folders) -> None:
    folder = tiny_folder("bert")
    _compare(_loop(folder, "bitfit", "budget.dropout=0", "task=stsb"), np.arange(5))
    norms = ("method.adapter.placement=pfeiffer_postln", "method.adapter.layer_norms=true")
    _compare(_loop(folder, "adapter", "budget.dropout=0", *norms), np.arange(5))
    every = ("method.lora.targets=all_linear", "speed.first_token=false")
    _compare(_loop(folder, "lora", "budget.dropout=0", *every), np.arange(5))
    with pytest.raises(UserError, match=r"LayerNorm\.\w+ is used in a way"):  # twice, once unseen
        _loop(folder, "adapter", "method.adapter.placement=pfeiffer", norms[1])


def test_both_passes_see_the_same_dropout(tiny_folder: Folders) -> None:
    loop = _loop(tiny_folder("bert"), "full", "budget.dropout=0.2")
    batch = next(clipping.parts(loop.batch(np.arange(6)), 6))
    torch.manual_seed(3)
    losses, expected = loop._losses(batch), [torch.zeros_like(p) for p in _trained(loop)]
    for loss in losses:
        gradients = torch.autograd.grad(
            loss, _trained(loop), retain_graph=True, materialize_grads=True
        )
        norm = math.sqrt(sum(float(g.square().sum()) for g in gradients))
        for one, gradient in zip(expected, gradients, strict=True):
            one += gradient * min(1.0, CLIP / (norm + 1e-6))
    torch.manual_seed(3)
    _dp(loop).clipping(batch, loop._losses, CLIP)
    for gradient, sums in zip(_gradients(loop), expected, strict=True):
        torch.testing.assert_close(gradient, sums, rtol=1e-5, atol=1e-5)


def test_no_example_counts_for_more_than_the_clipping_norm(tiny_folder: Folders) -> None:
    loop = _loop(tiny_folder("bert"), "full", "method.dp.clip=0.01")
    for row in range(4):
        loop.model.zero_grad()
        _dp(loop).clipping(loop.batch(np.asarray([row])), loop._losses, 0.01)
        norm = math.sqrt(sum(float(g.double().square().sum()) for g in _gradients(loop)))
        assert 0.0099 < norm <= 0.01 * (1 + 1e-6)


def test_a_batch_without_examples_is_noise_of_the_right_width(tiny_folder: Folders) -> None:
    loop = _loop(tiny_folder("bert"), "linear", "method.dp.clip=0.5", noise=2.0)
    batch = loop.batch(np.zeros(0, dtype=np.int64))
    draws = []
    for _ in range(1000):
        assert float(_dp(loop).gradients(loop.model, batch, loop._losses)) == 0
        draws.append(torch.cat([g.flatten() for g in _gradients(loop)]))
        loop.optimizer.zero_grad()
    values = torch.stack(draws)
    width = 2.0 * 0.5 / 8  # σ C / B
    assert abs(float(values.std()) / width - 1) < 0.03
    assert abs(float(values.mean())) < 5 * width / math.sqrt(values.numel())
    loss = _dp(loop).gradients(loop.model, loop.batch(np.arange(8)), lambda b: 0 * loop._losses(b))
    assert float(loss) == 0
    assert abs(float(torch.cat([g.flatten() for g in _gradients(loop)]).std()) / width - 1) < 0.2


def test_without_noise_and_clipping_it_is_plain_training(tiny_folder: Folders) -> None:
    given = ("budget.dropout=0", "budget.length_bucket=1", "budget.max_grad_norm=1e9")
    rates = ("optimizer=super_adam", "budget.warmup=0")
    plain, _ = prepared(tiny_folder("bert"), *given, *rates)
    ours = _loop(
        tiny_folder("bert"), "full", *given, *rates, "method.dp.clip=1e9",
        "method.dp.sampling=shuffled", "method.dp.part=3",
    )  # fmt: skip
    for loop in (plain, ours):
        loop.run(5)
    torch.testing.assert_close(ours.progress.losses, plain.progress.losses, rtol=1e-5, atol=1e-5)
    for one, other in zip(_trained(ours), _trained(plain), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=2e-5)


def test_ten_steps_are_those_of_opacus(tiny_folder: Folders) -> None:
    """Same batches, same noise; its engine makes every example's gradient."""
    from opacus import GradSampleModule
    from opacus.optimizers import DPOptimizer

    loop = _loop(
        tiny_folder("bert"), "full", "budget.dropout=0", "budget.schedule=constant",
        "speed.first_token=false", "method.dp.part=3", noise=0.7,
    )  # fmt: skip
    _dp(loop).clipping.rules.close()  # type: ignore[union-attr]
    theirs = copy.deepcopy(loop.model)
    loop.methods[0].parameter_groups(loop.model, [])
    steps = list(loop.order.batches(0, 10))
    sampled = GradSampleModule(theirs, loss_reduction="sum")
    optimizer = DPOptimizer(
        torch.optim.AdamW(theirs.parameters(), lr=1e-3, weight_decay=0.0),
        noise_multiplier=0.7,
        max_grad_norm=CLIP,
        expected_batch_size=8,
        loss_reduction="mean",
        generator=inner_stream("dp"),
    )
    for rows in steps:
        batch = loop.collate(rows)
        labels, places = batch.pop("labels"), torch.arange(batch["input_ids"].shape[1])
        logits = sampled(**batch, position_ids=places.expand(len(rows), -1)).logits
        torch.nn.functional.cross_entropy(logits, labels, reduction="sum").backward()
        optimizer.step()
        optimizer.zero_grad()
    loop.run(10)
    for (name, one), other in zip(loop.model.named_parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-6, msg=name)


def test_epsilon_and_noise_are_those_of_the_papers_settings() -> None:
    spent = accountant.epsilon_of
    assert spent("rdp", 1.0, 0.01, 1000, 1e-5) == pytest.approx(2.101365, abs=1e-6)
    assert spent("prv", 1.0, 0.01, 1000, 1e-5) == pytest.approx(1.838372, abs=1e-6)
    sizes = {"mnli": 392_702, "qqp": 363_849, "qnli": 104_743, "sst2": 67_349}
    table = [
        ("mnli", 2000, 1e-5, 8, 9800, 0.6805, 7.19),
        ("qqp", 2000, 1e-5, 8, 9050, 0.6900, 7.19),
        ("qnli", 2000, 1e-5, 8, 2600, 0.9186, 7.32),
        ("sst2", 2000, 1e-5, 8, 1650, 1.0437, 7.34),
        ("sst2", 1000, None, 3, 202, 0.8221, 2.41),
        ("sst2", 1000, None, 8, 202, 0.5783, 6.69),
    ]
    for task, size, given, epsilon, steps, sigma, prv in table if SOAK else table[3:]:
        rows = sizes[task]
        delta = 1 / (2 * rows) if given is None else given
        noise = accountant.noise_for("rdp", float(epsilon), size / rows, steps, delta)
        assert noise == pytest.approx(sigma, abs=1e-3), task
        assert 0 <= epsilon - spent("rdp", noise or 0, size / rows, steps, delta) < 2e-3
        assert spent("prv", sigma, size / rows, steps, delta) == pytest.approx(prv, abs=0.02)


def test_the_noise_for_an_epsilon_does_not_exceed_it() -> None:
    for accounted in accountant.ACCOUNTANTS:
        noise = accountant.noise_for(accounted, 3.0, 0.1, 20, 1e-3)
        assert noise is not None
        assert 0 <= 3 - accountant.epsilon_of(accounted, noise, 0.1, 20, 1e-3) <= 2e-3
    assert accountant.epsilon_of("prv", 0.0, 0.1, 20, 1e-3) == math.inf
    assert accountant.epsilon_of("prv", 1.0, 0.1, 0, 1e-3) == 0


def test_rows_enter_batches_by_themselves_and_a_step_has_its_batch_wherever_it_is_begun() -> None:
    rows, size = 200, 5
    order = PoissonOrder(3, np.ones(rows, dtype=np.int64), size)
    batches = list(order.batches(0, 2000))
    assert order.steps_per_epoch == 40
    assert [b.tolist() for b in order.batches(95, 130)] == [b.tolist() for b in batches[95:130]]
    present = np.zeros((2000, rows))
    for step, batch in enumerate(batches):
        present[step, batch] = 1
    counts = present.sum(axis=1)
    assert abs(counts.mean() / size - 1) < 0.05
    assert abs(counts.var() / (size * (1 - size / rows)) - 1) < 0.15
    assert (counts == 0).sum() == pytest.approx(2000 * (1 - size / rows) ** rows, abs=15)
    assert np.abs(present.mean(axis=0) - size / rows).max() < 0.025
    both = present.T @ present / 2000  # two rows are no more often together than by chance
    np.fill_diagonal(both, (size / rows) ** 2)
    assert abs(both.mean() - (size / rows) ** 2) < 5e-5


def test_a_record_says_what_was_spent_and_a_run_with_empty_batches_ends(
    tiny_folder: Folders, cli: Cli, tmp_path: Path
) -> None:
    from opacus.accountants import RDPAccountant

    given = tiny(tiny_folder("bert"), "task=mrpc", "method=[dp,bitfit]", "budget.batch_size=1")
    dp = ("method.dp.noise=0.9", "method.dp.accountant=rdp", "method.dp.sampling=")
    reports = {}
    for sampling in ("poisson", "shuffled"):
        done = cli(*given, *dp[:2], f"{dp[2]}{sampling}", "budget.steps=9")
        assert done.code == 0, done.err
        assert ("approximate accounting" in done.err) == (sampling == "shuffled")
        assert "48 rows are few" in done.err
    records = [read(path) for path in sorted((tmp_path / "runs").glob("*.json"))]
    for record in records:
        report = record.method_reports["dp"]
        fresh = RDPAccountant()
        fresh.history = [(0.9, 1 / 48, 9)]
        assert report["epsilon"] == fresh.get_epsilon(delta=1 / 96)
        assert record.steps == report["steps"] == 9
        assert report["epsilon_by"]["prv"] < report["epsilon"] == report["epsilon_by"]["rdp"]
        assert (report["noise_multiplier"], report["sample_rate"]) == (0.9, 1 / 48)
        assert "dev, which is scored, counts as public" in report["not_charged"]
        reports[report["sampling"]] = report["accounting"], record.losses
    assert reports["poisson"][0] == "exact"
    assert reports["shuffled"][0] == "approximate"
    assert 0.0 in reports["poisson"][1]  # an empty batch
    assert 0.0 not in reports["shuffled"][1]


def test_what_was_spent_goes_on_in_a_resumed_run(tiny_folder: Folders) -> None:
    first = _loop(tiny_folder("bert"), "bitfit", noise=1.0)
    first.run(3)
    state = first.state_dict()
    first.run(5)
    second = _loop(tiny_folder("bert"), "bitfit", noise=1.0)
    second.load_state_dict(state)
    second.run(5)
    assert _dp(second).report() == _dp(first).report()
    assert _dp(second).report()["steps"] == 5
    assert trained_sha256(second.model) == trained_sha256(first.model)


def test_parts_shrink_where_memory_runs_out(
    tiny_folder: Folders, monkeypatch: pytest.MonkeyPatch
) -> None:
    loop, rows = _loop(tiny_folder("bert"), "bitfit", "budget.dropout=0"), np.arange(7)
    expected, _ = _one_by_one(loop, rows)
    fits, losses = [], loop._losses

    def scarce(batch: Batch) -> torch.Tensor:
        if len(batch["labels"]) > 2:
            raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate")
        fits.append(len(batch["labels"]))
        return losses(batch)

    dp = _dp(loop)
    dp.clipping(loop.batch(rows), scarce, CLIP)
    assert dp.clipping.part == 2
    assert fits == [2, 2, 2, 1]
    for gradient, sums in zip(_gradients(loop), expected, strict=True):
        torch.testing.assert_close(gradient, sums, rtol=1e-5, atol=1e-5)
    assert dp.state_dict()["part"] == 2


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (["method.dp.epsilon=0"], "method.dp.epsilon=0 (must be > 0"),
        (["method.dp.epsilon=3", "method.dp.noise=1"], "one follows from the other"),
        (["method.dp.delta=0.1"], "method.dp.delta=0.1 must be below 1/48"),
        (["budget.batch_size=49"], "budget.batch_size=49 is more than the 48 rows"),
        (["optimizer=super_adam", "optimizer.tau=1"], "a step computes two gradients of a batch"),
        (["protocol=select"], "does not account for a step that training rows select"),
        (["speed.gradient_checkpointing=true"], "computes layers again there"),
        (["task.class_weights=balanced"], "task.class_weights follow from all"),
        (["method.dp.epsilon=1e-9", "method.dp.delta=1e-12"], "no amount of noise reaches it"),
        (["method=[dp,rdrop]"], "dp and rdrop both define the loss"),
        (["method=[dp,sift]"], "dp and sift both define the loss"),
        (["method=[dp,smart]"], "dp and smart both define the loss"),
        (["method=[dp,child_tuning_d]"], "reads the training rows before the first step"),
        (["method=[dp,child_tuning_f]"], "scales the noisy gradient"),
        (["method=[dp,mixout]"], "mixout mixes weights inside a pass"),
    ],
)
def test_what_would_not_be_private_is_refused(
    given: list[str], said: str, tiny_folder: Folders, cli: Cli, tmp_path: Path
) -> None:
    done = cli(*tiny(tiny_folder("bert"), "task=mrpc", "method=dp", *given))
    assert done.code == 2
    last = done.err.splitlines()[-1]
    assert last.startswith("error: ") or len(done.err.splitlines()) == 1
    assert said in last
    assert list(tmp_path.rglob("*.json")) == []


def test_what_is_missing_is_named(
    tiny_folder: Folders, cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(accountant, "is_installed", lambda: False)
    done = cli(*tiny(tiny_folder("bert"), "task=mrpc", "method=dp"))
    assert done.code == 2
    said = "method=dp accounts with opacus, which is not installed; type pip install"
    assert done.err.endswith(f"error: {said} 'tunebench[dp]'\n")


def test_an_epsilon_that_promises_nothing_is_said(tiny_folder: Folders, cli: Cli) -> None:
    weak = ("method.dp.noise=0.2", "method.dp.accountant=rdp")
    done = cli(*tiny(tiny_folder("bert"), "task=mrpc", "method=[dp,linear]", *weak))
    assert done.code == 0
    assert "promises next to nothing" in done.err
