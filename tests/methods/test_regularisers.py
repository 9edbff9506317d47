"""R-Drop, SMART, SiFT, Mixout and decay to the pretrained weights, each written out."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.nn import functional

from methods.sift import Sift
from methods.smart import Smart
from methods.surgery.divergences import (
    both_kl,
    both_kl_detached,
    cross_entropies,
    symmetric_kl,
)
from results.errors import UserError
from runners.config.check import check
from runners.contract.parts import composed
from runners.contract.parts import prepared as of_config
from runners.models.build import trained_sha256
from tests.conftest import configure, tiny
from tests.methods.reference import (
    Model,
    inner_stream,
    kept,
    largest_difference,
    train,
    trained,
)

Folder = Callable[[str], Path]
Batch = dict[str, torch.Tensor]


def _kl(p: torch.Tensor, q: torch.Tensor) -> torch.Tensor:
    return functional.kl_div(q.log_softmax(-1), p.log_softmax(-1), log_target=True, reduction="sum")


@pytest.mark.parametrize(
    ("task", "reduction", "task_loss"),
    [
        *(("mrpc", "mean", "mean"), ("stsb", "mean", "mean"), ("stsb", "sum", "mean")),
        *(("mrpc", "sum", "sum"), ("stsb", "mean", "sum")),  # the authors' for BERT
    ],
)
def test_rdrop_equals_its_loss_written_out(
    task: str, reduction: str, task_loss: str, tiny_folder: Folder
) -> None:
    folder = tiny_folder("bert")

    def loss_of(model: Model, batch: Batch) -> torch.Tensor:
        one, two = model(**batch), model(**batch)
        if task == "stsb":
            apart = ((one.logits - two.logits) ** 2).sum()
        else:
            apart = 0.5 * (_kl(one.logits, two.logits) + _kl(two.logits, one.logits))
        apart = apart / (len(batch["labels"]) if reduction == "mean" else 1)
        return (one.loss + two.loss) / (1 if task_loss == "sum" else 2) + 2.0 * apart

    given = ["method.rdrop.alpha=2", f"method.rdrop.reduction={reduction}"]
    given += [f"method.rdrop.task_loss={task_loss}"]
    ours = trained(folder, "method=rdrop", *given, task=task)
    theirs = train(folder, loss_of=loss_of, task=task)
    assert largest_difference(ours, theirs) < 1e-5
    assert largest_difference(ours, train(folder, task=task)) > 1e-4


NO_DROPOUT = "method.no_dropout.attention=true"


@pytest.mark.parametrize(
    ("methods", "more", "plain"),
    [
        ("rdrop", "budget.dropout=0", ["method=full", "budget.dropout=0"]),
        ("rdrop,no_dropout", NO_DROPOUT, ["method=no_dropout", NO_DROPOUT]),
        ("no_dropout,rdrop", NO_DROPOUT, ["method=no_dropout", NO_DROPOUT]),
    ],
)
def test_rdrop_without_dropout_is_refused_where_it_is_typed(
    methods: str, more: str, plain: list[str], tiny_folder: Folder
) -> None:
    """As a record says it, it is what it is without, at twice the cost."""
    given = [*tiny(tiny_folder("bert"), "task=mrpc"), "budget.warmup=0", "precision=fp32"]
    config = configure(*given, f"method=[{methods}]", more)
    with pytest.raises(UserError, match=rf"method=\[{methods}\]: the two passes of a batch are eq"):
        of_config(config)[0].run(5)
    loop, _ = of_config(replace(config, stored=True))
    loop.run(3)
    alone, _ = of_config(configure(*given, *plain))
    alone.run(3)
    assert trained_sha256(loop.model) == trained_sha256(alone.model)


@pytest.mark.parametrize("beside", [["hype", "method.hype.sigma=0.01"], ["mixout"]])
def test_rdrop_beside_other_noise_needs_no_dropout(beside: list[str], tiny_folder: Folder) -> None:
    trained(tiny_folder("bert"), f"method=[rdrop,{beside[0]}]", "budget.dropout=0", *beside[1:])


_WITH_AND_WITHOUT = (both_kl, both_kl_detached)


def test_divergences_equal_their_definitions_and_gradients() -> None:
    stream = torch.Generator().manual_seed(0)
    p, q = (
        torch.randn(4, 3, generator=stream, dtype=torch.float64).requires_grad_(True)
        for _ in range(2)
    )
    assert torch.allclose(symmetric_kl(p, q).sum(), 0.5 * (_kl(p, q) + _kl(q, p)))
    assert torch.equal(symmetric_kl(p, q), symmetric_kl(q, p))
    both = _kl(p, q.detach()) + _kl(q.detach(), p) + _kl(q, p.detach()) + _kl(p.detach(), q)
    assert torch.allclose(2 * both_kl(p, q).sum(), both)
    assert torch.allclose(both_kl_detached(p, q), both_kl(p, q))
    # As torch's own with the logits and the target's softmax, which is detached.
    theirs = functional.kl_div(p.log_softmax(-1), q.softmax(-1).detach(), reduction="sum")
    theirs += functional.kl_div(q.log_softmax(-1), p.softmax(-1).detach(), reduction="sum")
    mine = torch.autograd.grad(both_kl_detached(p, q).sum(), (p, q))
    for one, other in zip(mine, torch.autograd.grad(theirs, (p, q)), strict=True):
        assert torch.allclose(one, other)
    near = (p + 1e-5 * q).detach().requires_grad_(True)
    whole, half = (torch.autograd.grad(f(near, p).sum(), near)[0] for f in _WITH_AND_WITHOUT)
    assert float(half.norm() / whole.norm()) == pytest.approx(0.5, rel=1e-3)
    value = cross_entropies(p, q)
    a, b = p.softmax(-1), q.softmax(-1)
    entropy = -(a * a.log()).sum(-1) - (b * b.log()).sum(-1)
    assert torch.allclose(value, 2 * symmetric_kl(p, q) + entropy)
    for_p, for_q = torch.autograd.grad(value.sum(), (p, q))
    assert torch.allclose(for_p, (a - b).detach())
    assert torch.allclose(for_q, (b - a).detach())


def _from_embedded(model: Model, batch: Batch, embedded: torch.Tensor) -> torch.Tensor:
    """Return logits of the input of the embedding LayerNorm."""
    x = model.bert.embeddings.dropout(model.bert.embeddings.LayerNorm(embedded))
    visible = batch["attention_mask"].bool()[:, None, None, :]
    for layer in model.bert.encoder.layer:
        x = layer(x, visible.expand(-1, -1, x.shape[1], -1))
    logits: torch.Tensor = model.classifier(model.dropout(model.bert.pooler(x)))
    return logits


def _summed(model: Model, batch: Batch, words: torch.Tensor) -> torch.Tensor:
    e = model.bert.embeddings
    places = e.position_embeddings.weight[: words.shape[1]]
    summed: torch.Tensor = words + e.token_type_embeddings(batch["token_type_ids"]) + places
    return summed


def _task_loss(logits: torch.Tensor, labels: torch.Tensor, task: str) -> torch.Tensor:
    if task == "stsb":
        return functional.mse_loss(logits.squeeze(), labels)
    return functional.cross_entropy(logits, labels)


@pytest.mark.parametrize(
    ("task", "normalise", "detach"),
    [
        *(("mrpc", "project", False), ("mrpc", "unit", False), ("mrpc", "unit", True)),
        *(("stsb", "project", False), ("stsb", "unit", True)),
    ],
)
def test_smart_equals_one_step_of_ascent_written_out(
    task: str, normalise: str, detach: bool, tiny_folder: Folder
) -> None:
    """The paper's divergence is a sum; with detach, as the authors' code computes it."""
    folder, draws = tiny_folder("bert"), inner_stream("smart")

    def apart(a: torch.Tensor, b: torch.Tensor, detach: bool = False) -> torch.Tensor:
        if task == "stsb":
            return ((a - b) ** 2).sum()
        if detach:
            return _kl(a.detach(), b) + _kl(b.detach(), a)
        return _kl(a, b) + _kl(b, a)

    def loss_of(model: Model, batch: Batch) -> torch.Tensor:
        words = model.bert.embeddings.word_embeddings(batch["input_ids"])
        clean = _from_embedded(model, batch, _summed(model, batch, words))
        z = (1e-2 * torch.randn(words.shape, generator=draws)).requires_grad_(True)
        found = _from_embedded(model, batch, _summed(model, batch, words + z))
        [g] = torch.autograd.grad(apart(found, clean.detach()), z)
        if normalise == "project":
            moved = z.detach() + 0.5 * g / g.abs().amax(-1, keepdim=True).clamp_min(1e-30)
            moved = moved.clamp(-0.1, 0.1)
        else:
            moved = z.detach() + 0.5 * g
            moved = moved / (moved.abs().amax(-1, keepdim=True) + 1e-6)
        last = _from_embedded(model, batch, _summed(model, batch, words + moved))
        term = apart(last, clean, detach) / len(words)
        return _task_loss(clean, batch["labels"], task) + 3.0 * term

    options = ["weight=3", "sigma=1e-2", "step=0.5", f"normalise={normalise}"]
    options += ["radius=0.1"] if normalise == "project" else []
    options.append(f"detach={detach}")
    ours = trained(folder, "method=smart", *(f"method.smart.{o}" for o in options), task=task)
    theirs = train(folder, loss_of=loss_of, task=task)
    assert largest_difference(ours, theirs) < 2e-4  # the ascent magnifies rounding
    assert largest_difference(ours, train(folder, task=task)) > 1e-3


@pytest.mark.parametrize("task", ["mrpc", "stsb"])
def test_smarts_proximal_term_equals_a_second_model_that_is_averaged(
    task: str, tiny_folder: Folder
) -> None:
    """The average is a model of its own here, without dropout, and moved entry by entry."""
    folder, average = tiny_folder("bert"), {}

    def apart(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        if task == "stsb":
            return ((a - b) ** 2).mean()
        return (_kl(a, b) + _kl(b, a)) / len(a)

    def loss_of(model: Model, batch: Batch) -> torch.Tensor:
        if not average:
            average["model"] = copy.deepcopy(model).eval()
        with torch.no_grad():
            kept = average["model"](**batch).logits
        now = model(**batch)
        return now.loss + 2.0 * apart(now.logits, kept)

    def after_step(model: Model, step: int, lr: float) -> None:
        with torch.no_grad():
            pairs = zip(average["model"].parameters(), model.parameters(), strict=True)
            for mean, parameter in pairs:
                mean.copy_(0.6 * mean + 0.4 * parameter)

    options = ("weight=0", "proximal=2", "average=0.6")
    ours = trained(folder, "method=smart", *(f"method.smart.{o}" for o in options), task=task)
    theirs = train(folder, loss_of=loss_of, after_step=after_step, task=task)
    assert largest_difference(ours, theirs) < 1e-5
    assert largest_difference(ours, train(folder, task=task)) > 1e-4


def test_an_option_that_came_later_leaves_older_runs_their_names() -> None:
    [old] = configure("method=smart").method_options()
    assert set(old) == {"name", "version", "weight", "sigma", "step", "radius", "normalise"}
    [new] = configure("method=smart", "method.smart.proximal=1").method_options()
    assert new == {**old, "proximal": 1.0}
    assert old["version"] == 2
    for option, value in (
        ("rdrop.task_loss", "sum"),
        ("adapter.init", "normal"),
        ("compacter.before_dropout", True),
        ("child_tuning_d.select", "lowest"),
        ("child_tuning_d.outside", "zero"),
    ):
        name, _, key = option.partition(".")
        [old] = configure(f"method={name}").method_options()
        [new] = configure(f"method={name}", f"method.{option}={value}").method_options()
        assert key not in old
        assert new == {**old, key: value}


def test_a_radius_that_rounding_loses_is_refused_where_it_is_typed(tiny_folder: Folder) -> None:
    given = [*tiny(tiny_folder("bert"), "task=mrpc"), "method=smart", "precision=bf16"]
    with pytest.raises(UserError, match="method=smart: noise within radius=1e-05 is lost in bf16"):
        of_config(configure(*given))
    for passes in ("normalise=unit", "radius=0.001", "weight=0"):
        of_config(configure(*given, f"method.smart.{passes}"))
    of_config(check(composed(tuple(given)), stored=True))


def test_smart_stays_inside_its_radius() -> None:
    method = Smart(radius=0.05, step=0.5)
    stream = torch.Generator().manual_seed(0)
    z, g = (torch.randn(2, 3, 4, generator=stream) for _ in range(2))
    assert float(method.ascended(0.01 * z, g).abs().max()) <= 0.05 + 1e-7
    assert torch.equal(
        method.ascended(0.01 * z, torch.zeros_like(g)), (0.01 * z).clamp(-0.05, 0.05)
    )


@pytest.mark.parametrize("task", ["mrpc", "stsb"])
def test_sift_equals_its_three_passes_written_out(task: str, tiny_folder: Folder) -> None:
    folder, draws = tiny_folder("bert"), inner_stream("sift")

    def apart(q: torch.Tensor, p: torch.Tensor) -> torch.Tensor:
        if task == "stsb":
            return ((q - p) ** 2).sum()
        first = -(p.softmax(-1).detach() * q.log_softmax(-1)).sum()
        return first - (q.softmax(-1).detach() * p.log_softmax(-1)).sum()

    def loss_of(model: Model, batch: Batch) -> torch.Tensor:
        words = model.bert.embeddings.word_embeddings(batch["input_ids"])
        e = _summed(model, batch, words)
        u = (e - e.mean(-1, keepdim=True)) / (e.var(-1, unbiased=False, keepdim=True) + 1e-7).sqrt()
        clean = _from_embedded(model, batch, u)
        noise = (0.1 * torch.randn(u.shape, generator=draws)).clamp(-0.2, 0.2).requires_grad_(True)
        found = _from_embedded(model, batch, u.detach() + noise)
        [g] = torch.autograd.grad(apart(found, clean.detach()), noise)
        delta = noise.detach() + 0.05 * g / (g.abs().amax(-1, keepdim=True) + 1e-6)
        last = _from_embedded(model, batch, u.detach() + delta)
        term = apart(last, clean) / len(words)
        return _task_loss(clean, batch["labels"], task) + 5.0 * term

    options = ("start=0.1", "step=0.05")
    ours = trained(folder, "method=sift", *(f"method.sift.{o}" for o in options), task=task)
    theirs = train(folder, loss_of=loss_of, task=task)
    assert largest_difference(ours, theirs) < 2e-4
    assert largest_difference(ours, train(folder, task=task)) > 1e-3


def test_sifts_published_term_vanishes_in_regression(tiny_folder: Folder) -> None:
    folder = tiny_folder("bert")
    quiet = ["budget.dropout=0"]  # three passes draw dropout otherwise
    plain = train(folder, *quiet, task="stsb")
    published = trained(
        folder, "method=sift", "method.sift.regression=published", *quiet, task="stsb"
    )
    working = trained(folder, "method=sift", "method.sift.start=0.1", *quiet, task="stsb")
    # What is left is the added LayerNorm, which the next one undoes but for its epsilon.
    assert largest_difference(published, plain) < 1e-4 < largest_difference(working, plain)


def test_sifts_step_is_bounded_for_every_token() -> None:
    stream = torch.Generator().manual_seed(0)
    first, g = (torch.randn(2, 3, 4, generator=stream) for _ in range(2))
    moved = Sift().ascended(first, g) - first
    assert torch.allclose(moved.abs().amax(-1), torch.full((2, 3), 1e-4), rtol=1e-2)
    assert torch.equal(Sift().ascended(first, g * float("nan")), first)


@pytest.mark.parametrize(
    "options", [{}, {"unit": "entry"}, {"backward": "official"}, {"head": "mixed"}], ids=str
)
def test_mixout_equals_mixed_weights_written_out(
    options: dict[str, str], tiny_folder: Folder
) -> None:
    folder, draws = tiny_folder("bert"), inner_stream("mixout")
    start: dict[str, torch.Tensor] = {}
    linear: list[str] = []

    def remember(model: Model, loaded: Any) -> None:
        for name, module in model.named_modules():
            if isinstance(module, torch.nn.Dropout) and (
                name.startswith("bert.") or options.get("head") == "mixed"
            ):
                module.p = 0.0
            mixed = name.startswith("bert.") or options.get("head") == "mixed"
            if isinstance(module, torch.nn.Linear) and mixed:
                linear.append(f"{name}.weight")
        start.update({n: p.detach().clone() for n, p in model.named_parameters()})

    def loss_of(model: Model, batch: Batch) -> torch.Tensor:
        parameters = dict(model.named_parameters())
        mixed = {}
        for name in linear:  # modules run in the order in which they are registered
            w, w0 = parameters[name], start[name]
            mask = kept(w.shape if options.get("unit") == "entry" else w.shape[1:], 0.3, draws)
            value = torch.where(mask.bool(), (w - 0.7 * w0) / 0.3, w0)
            if options.get("backward") == "official":
                value = value.detach() + mask * (w - w.detach())
            mixed[name] = value
        loss: torch.Tensor = torch.func.functional_call(
            model, {**parameters, **mixed}, kwargs=batch
        ).loss
        return loss

    given = [f"method.mixout.{k}={v}" for k, v in options.items()]
    ours = trained(folder, "method=mixout", *given)
    theirs = train(folder, start=remember, loss_of=loss_of)
    assert largest_difference(ours, theirs) < 1e-5
    assert largest_difference(ours, train(folder, start=remember)) > 1e-4


def test_decay_to_the_pretrained_weights_equals_its_rule(tiny_folder: Folder) -> None:
    folder = tiny_folder("bert")
    start: dict[str, torch.Tensor] = {}

    def remember(model: Model, loaded: Any) -> None:
        start.update({n: p.detach().clone() for n, p in model.named_parameters()})

    def pull(model: Model, step: int, lr: float) -> None:
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                if name.startswith("bert.") and parameter.ndim > 1:
                    parameter -= lr * 200 * (parameter - start[name])

    ours = trained(folder, "method=wd_pre", "method.wd_pre.strength=200")
    theirs = train(folder, start=remember, after_clipping=pull)
    assert largest_difference(ours, theirs) < 1e-6
    plain = train(folder)
    assert largest_difference(ours, plain) > 1e-4
    far = [float((t[n] - start[n]).norm()) for t in (ours, plain) for n in ["classifier.weight"]]
    assert far[0] == pytest.approx(far[1], rel=0.2)  # the head is not pulled
    name = "bert.encoder.layer.0.intermediate.dense.weight"
    assert (ours[name] - start[name]).norm() < (plain[name] - start[name]).norm()


@pytest.mark.parametrize(
    ("method", "option", "sentence"),
    [
        ("rdrop", "task_loss=total", "method.rdrop.task_loss='total'"),
        ("smart", "detach=both", "method.smart.detach='both'"),
    ],
)
def test_wrong_options_are_named(method: str, option: str, sentence: str) -> None:
    with pytest.raises(UserError, match=sentence):
        configure(f"method={method}", f"method.{method}.{option}")
