"""Child-Tuning F and D against the papers' update written out, and against closed forms."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from methods.child_tuning_d import ChildTuningD, lowest
from methods.child_tuning_f import ChildTuningF
from methods.method import Output
from methods.surgery.streams import Streams
from results.errors import UserError
from runners.config.check import check
from runners.contract.parts import composed
from runners.contract.parts import prepared as of_config
from tests.conftest import Cli, narrow, tiny
from tests.methods.reference import (
    SIZE,
    Model,
    inner_stream,
    kept,
    largest_difference,
    prepared,
    train,
    trained,
)
from tests.shapes import BERT_BASE, BERT_LARGE, on_meta, setting_of
from tests.tiny import tiny_batch, tiny_model

Folder = Callable[[str], Path]


def test_reference_loop_is_plain_fine_tuning(tiny_folder: Folder) -> None:
    folder = tiny_folder("bert")
    assert largest_difference(train(folder), trained(folder, "method=full")) == 0


@pytest.mark.parametrize("exclude", ["none", "head"])
def test_f_equals_masked_gradients_written_out(exclude: str, tiny_folder: Folder) -> None:
    folder, draws = tiny_folder("bert"), inner_stream("child_tuning_f")

    def edit(model: Model, step: int, lr: float) -> None:
        for name, parameter in model.named_parameters():
            if exclude == "head" and name.startswith("classifier"):
                continue
            g = parameter.grad
            if "embeddings" in name and g.ndim == 2:  # tokens not in the batch have no draw
                rows = [i for i, row in enumerate(g.tolist()) if any(row)]
                mask = torch.zeros_like(g)
                mask[rows] = kept((len(rows), g.shape[1]), 0.3, draws)
            else:
                mask = kept(g.shape, 0.3, draws)
            parameter.grad = torch.where(mask == 1, g / 0.3, 0.0)

    ours = trained(folder, "method=child_tuning_f", f"method.child_tuning_f.exclude={exclude}")
    assert largest_difference(ours, train(folder, after_clipping=edit)) < 1e-5
    assert largest_difference(ours, train(folder)) > 1e-4


def _entries(p: float, steps: int, rule: str = "adam", size: int = 20_000) -> torch.Tensor:
    """Return a vector after steps of unit gradients under F."""
    module = torch.nn.Module()
    module.w = torch.nn.Parameter(torch.zeros(size))
    method = ChildTuningF(p=p)
    method.prepare(module, setting=_Setting())  # type: ignore[arg-type]
    rates = {"adam": 1e-3, "sgd": 1.0}
    kind = torch.optim.Adam if rule == "adam" else torch.optim.SGD
    optimizer = kind(module.parameters(), lr=rates[rule])
    for step in range(steps):
        module.w.grad = torch.ones(size)
        method.after_clipping(module, step)
        optimizer.step()
    return module.w.detach()


class _Setting:
    generator = torch.Generator().manual_seed(0)
    head = frozenset[str]()


@pytest.mark.parametrize("steps", [1, 2, 3, 4])
def test_share_never_moved_decays_geometrically(steps: int) -> None:
    share = float((_entries(0.3, steps) == 0).float().mean())
    expected = 0.7**steps
    assert share == pytest.approx(expected, abs=4 * (expected * (1 - expected) / 20_000) ** 0.5)


def test_mask_is_unbiased_under_sgd() -> None:
    moved = -_entries(0.3, 1, rule="sgd")
    assert sorted(moved.unique().tolist()) == [0.0, pytest.approx(1 / 0.3)]
    assert float(moved.mean()) == pytest.approx(1.0, abs=4 * (0.7 / 0.3 / 20_000) ** 0.5)


def test_mean_step_under_adam_shrinks_by_the_root_of_p() -> None:
    moved = -_entries(0.3, 3000, size=400).mean() / 3000 / 1e-3
    assert float(moved) == pytest.approx(0.3**0.5, abs=0.02)


def _scores_by_loop(model: Model, batch: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    names = [n for n, _ in model.named_parameters() if ".layer." in n]
    parameters = [dict(model.named_parameters())[n] for n in names]
    sums = [torch.zeros_like(p) for p in parameters]
    count = len(batch["labels"])
    for i in range(count):
        logits = model(**{k: v[i : i + 1] for k, v in batch.items() if k != "labels"}).logits
        log_p = logits.log_softmax(-1)[0, batch["labels"][i]]
        for total, gradient in zip(sums, torch.autograd.grad(log_p, parameters), strict=True):
            total += gradient**2
    return {n: s / count for n, s in zip(names, sums, strict=True)}


def test_per_example_fisher_equals_a_loop_and_one_threshold_serves_all(
    tiny_folder: Folder,
) -> None:
    folder = tiny_folder("bert")
    model, batch = tiny_model(folder).double(), tiny_batch(folder)
    method = ChildTuningD(p=0.3, fisher="example")
    method.prepare(model, setting_of(model))

    def forward(given: dict[str, torch.Tensor]) -> Output:
        output = model(**given)
        return Output(output.loss, output.logits)

    method.before_training(model, [batch], forward)
    scores = _scores_by_loop(model.eval(), batch)
    everything = torch.cat([s.flatten() for s in scores.values()])
    kept = torch.cat([method.masks[n].flatten() for n in scores])
    assert set(method.masks) == set(scores)
    assert int(kept.sum()) == round(0.3 * len(everything))
    assert everything[kept].min() >= everything[~kept].max()
    report = method.report()
    assert report["kept_entries"] == int(kept.sum())


def test_batch_fisher_squares_clipped_batch_gradients(tiny_folder: Folder) -> None:
    folder = tiny_folder("bert")
    model, batch = tiny_model(folder), tiny_batch(folder)
    halves = [{k: v[:2] for k, v in batch.items()}, {k: v[2:] for k, v in batch.items()}]
    method = ChildTuningD(p=0.2, max_norm=1e-3)
    method.prepare(model, setting_of(model))
    names = [n for n, _ in model.named_parameters() if ".layer." in n]
    parameters = [dict(model.named_parameters())[n] for n in names]
    sums = [torch.zeros_like(p) for p in parameters]
    for half in halves:
        for total, g in zip(sums, torch.autograd.grad(model(**half).loss, parameters), strict=True):
            total += (g * min(1.0, 1e-3 / (float(g.norm()) + 1e-6))) ** 2 / 2
    everything = torch.cat([s.flatten() for s in sums])
    threshold = everything.sort(descending=True).values[round(0.2 * len(everything)) - 1]

    def forward(given: dict[str, torch.Tensor]) -> Output:
        output = model(**given)
        return Output(output.loss, output.logits)

    method.before_training(model, halves, forward)
    agree = [
        ((s >= threshold) == method.masks[n]).float().mean()
        for n, s in zip(names, sums, strict=True)
    ]
    assert min(agree) > 0.99  # rounding may move entries at the threshold
    assert sum(int(m.sum()) for m in method.masks.values()) == round(0.2 * len(everything))


@pytest.mark.parametrize("freeze", [False, True])
def test_d_equals_a_fixed_mask_written_out(freeze: bool, tiny_folder: Folder) -> None:
    folder = tiny_folder("bert")
    arguments = ["method=child_tuning_d", f"method.child_tuning_d.freeze={freeze}"]
    arguments += ["budget.weight_decay=0.5"]
    loop, _ = prepared(folder, *arguments)
    masks = {n: m.clone() for n, m in loop.methods[0].masks.items()}  # type: ignore[attr-defined]
    before = {n: p.detach().clone() for n, p in loop.model.named_parameters()}
    loop.run(10)
    ours = {n: p.detach().clone() for n, p in loop.model.named_parameters()}

    def mask(model: Model, step: int, lr: float) -> None:
        for name, parameter in model.named_parameters():
            if name in masks:
                parameter.grad *= masks[name]

    def restore(model: Model, step: int, lr: float) -> None:
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                if freeze and name in masks:
                    parameter[~masks[name]] = before[name][~masks[name]]

    theirs = train(folder, after_clipping=mask, after_step=restore, decay=0.5)
    assert largest_difference(ours, theirs) == 0
    frozen = [torch.equal(ours[n][~m], before[n][~m]) for n, m in masks.items() if ours[n].ndim > 1]
    assert all(frozen) is freeze
    assert all(not torch.equal(ours[n], before[n]) for n in ours if n not in masks)


def _child(folder: Path, seed: int = 0, **options: Any) -> tuple[Model, ChildTuningD]:
    """Return a model and the method after its look at a batch, with p = 0.3."""
    model = tiny_model(folder)
    method = ChildTuningD(p=0.3, fisher="example", **options)
    stream = torch.Generator().manual_seed(seed)
    method.prepare(model, replace(setting_of(model), generator=stream))
    looked_at: list[int] = []

    def forward(given: dict[str, torch.Tensor]) -> Output:
        looked_at.append(1)
        output = model(**given)
        return Output(output.loss, output.logits)

    method.before_training(model, [tiny_batch(folder)], forward)
    assert bool(looked_at) is (options.get("select") != "random")
    return model, method


def test_lowest_child_is_that_of_the_smallest_scores_and_as_large(tiny_folder: Folder) -> None:
    folder = tiny_folder("bert")
    _, method = _child(folder, select="lowest")
    plain = tiny_model(folder)
    scores = _scores_by_loop(plain.eval(), tiny_batch(folder))
    everything = torch.cat([s.flatten() for s in scores.values()]).double()
    chosen = torch.cat([method.masks[n].flatten() for n in scores])
    assert int(chosen.sum()) == round(0.3 * len(everything))
    order = everything.argsort()[: int(chosen.sum())]
    agree = torch.zeros_like(chosen)
    agree[order] = True
    assert float((agree == chosen).float().mean()) > 0.99  # rounding at the threshold, and ties
    assert set(method.masks) == set(scores)


def test_of_equal_scores_the_first_are_the_lowest() -> None:
    scores = torch.tensor([0.0, 2.0, 0.0, 1.0, 0.0])
    assert lowest(scores, 2).tolist() == [True, False, True, False, False]
    assert lowest(scores, 4).tolist() == [True, False, True, True, True]


def test_random_child_is_the_seeds_own_of_the_same_size(tiny_folder: Folder) -> None:
    folder = tiny_folder("bert")
    masks = [
        torch.cat([m.flatten() for m in _child(folder, seed, select="random")[1].masks.values()])
        for seed in (0, 0, 1)
    ]
    size = len(masks[0])
    assert torch.equal(masks[0], masks[1])
    assert [int(m.sum()) for m in masks] == [round(0.3 * size)] * 3
    both = float((masks[0] & masks[2]).float().mean())
    assert both == pytest.approx(0.09, abs=5 * (0.09 * 0.91 / size) ** 0.5)


@pytest.mark.parametrize("select", ["highest", "random"])
def test_weights_outside_the_child_are_zero_and_stay_so(select: str, tiny_folder: Folder) -> None:
    folder = tiny_folder("bert")
    arguments = ["method=child_tuning_d", "method.child_tuning_d.outside=zero"]
    arguments += [f"method.child_tuning_d.select={select}", "budget.weight_decay=0.5"]
    loop, _ = prepared(folder, *arguments)
    masks = {n: m.clone() for n, m in loop.methods[0].masks.items()}  # type: ignore[attr-defined]
    pretrained = dict(prepared(folder, "method=full")[0].model.named_parameters())
    for name, parameter in loop.model.named_parameters():
        expected = pretrained[name].detach() * masks.get(name, 1)
        assert torch.equal(parameter, expected), name
    loop.run(3)
    assert not any(p[~masks[n]].any() for n, p in loop.model.named_parameters() if n in masks)
    moved = {n: p.detach().clone() for n, p in loop.model.named_parameters()}

    def cut(model: Model, loaded: object) -> None:
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                parameter.copy_(
                    torch.where(masks[name], parameter, 0) if name in masks else parameter
                )

    def mask(model: Model, step: int, lr: float) -> None:
        for name, parameter in model.named_parameters():
            if name in masks:
                parameter.grad *= masks[name]

    loop.run(10)
    ours = {n: p.detach().clone() for n, p in loop.model.named_parameters()}
    theirs = train(folder, start=cut, after_clipping=mask, decay=0.5)
    assert largest_difference(ours, theirs) == 0
    assert largest_difference(ours, moved) > 0


@pytest.mark.parametrize(
    ("name", "own"),
    [
        *((name, narrow(name)[1:]) for name in ("adalora", "loha", "randlora")),
        ("peft", ["method.peft.tuner=loha"]),
        ("peft", ["method.peft.tuner=randlora", "+method.peft.options.r=4"]),
    ],
)
def test_too_few_entries_with_fisher_information_are_refused_and_may_be_drawn(
    name: str, own: list[str], tiny_folder: Folder
) -> None:
    given = [f"method=[child_tuning_d,{name}]", *own]
    refusal = (
        rf"^method=\[child_tuning_d,{name}\]: too few entries have any Fisher information before"
        r" the first step \([\d,]+ of [\d,]+, fewer than method.child_tuning_d.p=0.3 keeps\); use"
        " method.child_tuning_d.select=random or leave it out$"
    )
    with pytest.raises(UserError, match=refusal):
        prepared(tiny_folder("bert"), *given)
    loop, _ = prepared(tiny_folder("bert"), *given, "method.child_tuning_d.select=random")
    assert loop.methods[0].report()["kept_share"] == pytest.approx(0.3, abs=1e-3)
    loop.run(1)


def test_a_quarter_of_loha_has_fisher_information_before_the_first_step(
    tiny_folder: Folder,
) -> None:
    """ΔW = (A₁B₁) ∘ (A₂B₂) with B₂ = 0 at first, so that B₂ alone has a gradient."""
    folder = tiny_folder("bert")
    given = ["method=[child_tuning_d,loha]", *narrow("loha")[1:]]
    with pytest.raises(UserError, match=r"\(1,024 of 4,096, fewer than"):
        prepared(folder, *given, "method.child_tuning_d.p=0.26")
    loop, _ = prepared(folder, *given, "method.child_tuning_d.p=0.25")
    masks = loop.methods[0].masks  # type: ignore[attr-defined]
    assert all(bool(m.all()) is ("hada_w2_b" in n) is bool(m.any()) for n, m in masks.items())
    config = check(composed((*tiny(folder, "task=mrpc", *SIZE), *given)), stored=True)
    stored, _ = of_config(config)  # such a run was made, and is done again as it was
    assert stored.methods[0].report()["kept_share"] == 1


def test_controls_go_on_from_a_saved_state(tiny_folder: Folder) -> None:
    controls = ("select=random", "outside=zero")
    given = ["method=child_tuning_d", *(f"method.child_tuning_d.{o}" for o in controls)]
    whole = trained(tiny_folder("bert"), *given)
    first, _ = prepared(tiny_folder("bert"), *given)
    first.run(4)
    state = first.state_dict()
    second, _ = prepared(tiny_folder("bert"), *given)
    second.load_state_dict(state)
    second.run(10)
    resumed = {n: p.detach() for n, p in second.model.named_parameters() if p.requires_grad}
    assert largest_difference(whole, resumed) == 0


@pytest.mark.parametrize(
    ("option", "sentence"),
    [
        ("select=highst", "did you mean highest"),
        ("outside=none", "method.child_tuning_d.outside='none'"),
    ],
)
def test_wrong_controls_are_named(
    option: str, sentence: str, cli: Cli, tiny_folder: Folder
) -> None:
    given = ("method=child_tuning_d", f"method.child_tuning_d.{option}")
    done = cli(*tiny(tiny_folder("bert"), *given))
    assert done.code == 2
    assert sentence in done.err


@pytest.mark.parametrize(("config", "percent"), [(BERT_BASE, 45.0), (BERT_LARGE, 36.6)])
def test_share_that_trains_is_not_p(config: object, percent: float) -> None:
    model = on_meta(config)  # type: ignore[arg-type]
    method = ChildTuningD(p=0.3)
    method.prepare(model, setting_of(model))
    sizes = {n: p.numel() for n, p in model.named_parameters()}
    inside = sum(size for name, size in sizes.items() if method.in_scope(name))
    total = sum(sizes.values())
    # The published shares are of the cased models, whose vocabulary has 28,996 entries.
    total -= (30_522 - 28_996) * model.config.hidden_size
    assert 100 * (0.3 * inside + total - inside) / total == pytest.approx(percent, abs=0.05)


@pytest.mark.parametrize("p", [0.3, 0.9])
def test_draws_keep_their_share_and_neighbours_are_independent(p: float) -> None:
    streams = Streams(torch.Generator().manual_seed(0))
    first, second = (streams.keep(torch.empty(1000, 400), p) for _ in range(2))
    assert set(first.unique().tolist()) <= {0.0, 1.0}
    error = 5 * (p * (1 - p) / first.numel()) ** 0.5
    for one, other in [(first[:, :-1], first[:, 1:]), (first, second)]:
        assert float(one.mean()) == pytest.approx(p, abs=error)
        assert float((one * other).mean()) == pytest.approx(p * p, abs=2 * error)


def test_probabilities_below_one_in_two_to_the_seventeenth_are_not_rounded_to_none() -> None:
    streams = Streams(torch.Generator().manual_seed(0))
    ones = int(streams.keep(torch.empty(4000, 5000), 7e-6).sum())
    assert ones == pytest.approx(140, abs=5 * 140**0.5)
