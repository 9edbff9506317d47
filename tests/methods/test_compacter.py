"""Compacter's layers are sums of Kronecker products, of the published size."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.nn import functional

from methods.compacter import Compacter
from methods.llrd import Llrd
from methods.method import Method
from methods.surgery.bottleneck import PHMLinear
from runners.optimizers.build import plain_groups
from tests.by_hand import HandBert
from tests.conftest import Cli, architectures, configure, tiny
from tests.methods.reference import largest_difference, trained
from tests.shapes import BERT_BASE, added, perturb_trained, setting_of
from tests.tiny import tiny_batch, tiny_model

Folder = Callable[[str], Path]


@pytest.mark.parametrize(
    ("options", "count"),
    [
        ({"layer_norms": False}, 57_088),
        ({}, 57_088 + 38_400),
        ({"placement": "ffn", "layer_norms": False}, 28_576),
    ],
)
def test_counts_are_the_published_ones(options: dict[str, Any], count: int) -> None:
    assert added(BERT_BASE, Compacter(**options)) == count


def _kronecker(layer: PHMLinear) -> torch.Tensor:
    return sum(  # type: ignore[return-value]
        torch.kron(layer.rule[i], layer.left[i] @ layer.right[i]) for i in range(len(layer.rule))
    )


@pytest.mark.parametrize("convention", ["recommended", "sun", "zhang"])
@pytest.mark.parametrize("first", [Compacter, Llrd])
def test_shared_rule_has_the_full_rate_whichever_method_comes_first(
    first: type[Method], convention: Any, tiny_folder: Folder
) -> None:
    """It is of no layer; a layer's own parameters have the layer's rate in both orders."""
    model = tiny_model(tiny_folder("bert"))
    compacter, llrd = Compacter(reduction=4), Llrd(decay=0.5, convention=convention)
    ordered: list[Method] = [compacter, llrd] if first is Compacter else [llrd, compacter]
    for method in ordered:
        method.prepare(model, setting_of(model))
    groups = plain_groups(model, 1.0, 0.01)
    for method in ordered:
        groups = method.parameter_groups(model, groups)
    names = {id(p): n for n, p in model.named_parameters()}
    trained = [p for p in model.parameters() if p.requires_grad]
    assert sorted(id(p) for g in groups for p in g["params"]) == sorted(map(id, trained))
    rates = {names[id(p)]: g["lr"] for g in groups for p in g["params"]}
    decays = {names[id(p)]: g["weight_decay"] for g in groups for p in g["params"]}
    rule = names[id(compacter.rule)]
    assert (rates[rule], decays[rule]) == (1.0, 0.0)
    extra = 0.5 if convention == "zhang" else 1.0
    left = {n: r for n, r in rates.items() if n.endswith(".left")}
    assert len(left) == 8
    for name, rate in left.items():
        assert rate == extra * (0.5 if ".layer.0." in name else 1.0), name


def test_only_the_composition_whose_scores_changed_has_another_name(tiny_folder: Folder) -> None:
    def versions(methods: str, *more: str) -> list[int]:
        config = configure(*tiny(tiny_folder("bert"), f"method=[{methods}]", *more))
        return [options["version"] for options in config.method_options()]

    assert versions("compacter,llrd") == [1, 2]
    assert versions("hype,compacter,rdrop,llrd") == [1, 1, 1, 2]
    assert versions("llrd,compacter") == [1, 1]  # the rule had the full rate there
    assert versions("compacter,llrd", "method.llrd.decay=1") == [1, 1]
    assert versions("adapter,llrd") == [1, 1]
    assert versions("llrd") == [1]


@pytest.mark.parametrize("n", [1, 4])
def test_phm_layer_equals_the_sum_of_kronecker_products(n: int) -> None:
    stream = torch.Generator().manual_seed(n)

    def draw(*shape: int) -> torch.Tensor:
        return torch.randn(shape, generator=stream, dtype=torch.float64)

    layer = PHMLinear(torch.nn.Parameter(draw(n, n, n)), draw(n, 24 // n, 1), draw(n, 1, 8 // n))
    layer = layer.double()
    x, weight = draw(3, 5, 24), draw(3, 5, 8)
    slow = x @ _kronecker(layer) + layer.bias
    assert torch.allclose(layer(x), slow, atol=1e-12)
    parameters = list(layer.parameters())
    fast_gradients = torch.autograd.grad((layer(x) * weight).sum(), parameters)
    slow_gradients = torch.autograd.grad((slow * weight).sum(), parameters)
    for fast, expected in zip(fast_gradients, slow_gradients, strict=True):
        assert torch.allclose(fast, expected, atol=1e-10)


def _prepared(folder: Path) -> tuple[Any, Compacter]:
    model, method = tiny_model(folder), Compacter(reduction=4)
    method.prepare(model, setting_of(model))
    return model, method


def test_both_adapters_of_a_layer_equal_the_formula(tiny_folder: Folder) -> None:
    folder = tiny_folder("bert")
    model, _ = _prepared(folder)
    model = model.double()
    perturb_trained(model)
    hand = HandBert(model)
    modules = dict(model.named_modules())

    def adapter(layer: int, place: str, h: torch.Tensor) -> torch.Tensor:
        own = modules[f"bert.encoder.layer.{layer}.{place}_adapter"]
        down = h @ _kronecker(own.down) + own.down.bias
        return h + functional.gelu(down, approximate="tanh") @ _kronecker(own.up) + own.up.bias

    hand.attention_branch = lambda layer, h: adapter(layer, "attention", h)
    hand.ffn_branch = lambda layer, h: adapter(layer, "ffn", h)
    batch = tiny_batch(folder)
    with torch.no_grad():
        assert torch.allclose(model(**batch).logits, hand.logits(batch), atol=1e-10)


@pytest.mark.parametrize("before_dropout", [False, True])
def test_dropout_falls_on_what_an_adapter_reads_or_on_what_it_returns(
    before_dropout: bool, tiny_folder: Folder
) -> None:
    """Each branch's dropout doubles here, so that its place can be seen."""
    folder = tiny_folder("bert")
    model, method = tiny_model(folder), Compacter(reduction=4, before_dropout=before_dropout)
    method.prepare(model, setting_of(model))
    model = model.double()
    perturb_trained(model)
    modules, hand = dict(model.named_modules()), HandBert(model)
    for name, module in modules.items():
        if name.endswith(("attention.output.dropout", "output.dropout")):
            module.forward = lambda x: 2 * x

    def branch(layer: int, place: str, h: torch.Tensor) -> torch.Tensor:
        own = modules[f"bert.encoder.layer.{layer}.{place}_adapter"]
        x = h if before_dropout else 2 * h
        down = x @ _kronecker(own.down) + own.down.bias
        x = x + functional.gelu(down, approximate="tanh") @ _kronecker(own.up) + own.up.bias
        return 2 * x if before_dropout else x

    hand.attention_branch = lambda layer, h: branch(layer, "attention", h)
    hand.ffn_branch = lambda layer, h: branch(layer, "ffn", h)
    batch = tiny_batch(folder)
    with torch.no_grad():
        assert torch.allclose(model(**batch).logits, hand.logits(batch), atol=1e-10)


@pytest.mark.parametrize("architecture", architectures("t5"))
def test_where_dropout_falls_changes_nothing_without_it(
    architecture: str, tiny_folder: Folder
) -> None:
    logits = []
    for before_dropout in (False, True):
        model = tiny_model(tiny_folder(architecture))
        method = Compacter(reduction=4, before_dropout=before_dropout)
        method.placement = "ffn" if architecture == "xlnet" else "both"
        method.prepare(model, setting_of(model))
        perturb_trained(model)
        with torch.no_grad():
            logits.append(model(**tiny_batch(tiny_folder(architecture))).logits)
    assert torch.equal(*logits)
    assert not torch.equal(logits[0], tiny_model(tiny_folder(architecture))(**tiny_batch(
        tiny_folder(architecture))).logits)  # fmt: skip


@pytest.mark.parametrize("architecture", ["bert", "distilbert"])
def test_before_dropout_the_last_layer_may_be_computed_for_the_first_token(
    architecture: str, tiny_folder: Folder
) -> None:
    given = ["method=compacter", "method.compacter.reduction=4", "budget.dropout=0"]
    given += ["method.compacter.before_dropout=true"]
    ends = [
        trained(tiny_folder(architecture), *given, f"speed.first_token={switch}")
        for switch in ("true", "false")
    ]
    assert largest_difference(*ends) < 1e-5


def test_one_rule_is_shared_tiny_at_the_start_and_never_decays(tiny_folder: Folder) -> None:
    model, method = _prepared(tiny_folder("bert"))
    rules = [(n, p) for n, p in model.named_parameters() if n.endswith(".rule")]
    assert len(rules) == 1
    assert 0 < rules[0][1].abs().max() < 5e-4
    groups = method.parameter_groups(model, plain_groups(model, 1e-3, 0.01))
    [own] = [g for g in groups if any(p is rules[0][1] for p in g["params"])]
    assert own["weight_decay"] == 0.0
    assert own["lr"] == 1e-3
    together = [id(p) for g in groups for p in g["params"]]
    assert len(together) == len(set(together))
    assert set(together) == {id(p) for p in model.parameters() if p.requires_grad}


def test_factors_are_glorot_uniform_with_gain_root_two(tiny_folder: Folder) -> None:
    model, _ = _prepared(tiny_folder("bert"))
    lefts = torch.cat([p.flatten() for n, p in model.named_parameters() if n.endswith("down.left")])
    bound = 2**0.5 * (6 / (8 + 1)) ** 0.5  # slices of 8 x 1
    assert bound * 0.95 < lefts.abs().max() <= bound


def test_a_place_of_dropout_that_is_neither_is_named(cli: Cli, tiny_folder: Folder) -> None:
    given = ("method=compacter", "task=rte", "method.compacter.before_dropout=ffn")
    done = cli(*tiny(tiny_folder("bert"), *given))
    assert done.code == 2
    assert "method.compacter.before_dropout='ffn'" in done.err


@pytest.mark.parametrize("arguments", [["n=3"], ["reduction=64"], ["reduction=32"]])
def test_sizes_that_do_not_divide_are_named(
    arguments: list[str], cli: Cli, tiny_folder: Folder
) -> None:
    given = [f"method.compacter.{a}" for a in arguments]
    done = cli(*tiny(tiny_folder("bert"), "method=compacter", "task=rte", *given))
    assert done.code == 2
    assert "must divide the encoder's width 32" in done.err
