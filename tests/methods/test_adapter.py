"""Bottleneck adapters compute what the papers write down, and start near the pretrained model."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from torch.nn import functional

from methods.adapter import Adapter
from results.errors import UserError
from runners.optimizers.build import plain_groups
from tests.by_hand import HandBert
from tests.conftest import Cli, architectures, tiny
from tests.shapes import BERT_BASE, BERT_LARGE, added, perturb_trained, setting_of
from tests.tiny import tiny_batch, tiny_model

Folder = Callable[[str], Path]
PLACEMENTS = ("houlsby", "pfeiffer", "pfeiffer_postln", "parallel")


@pytest.mark.parametrize(
    ("config", "options", "count"),
    [
        (BERT_BASE, {"size": 8}, 313_536 + 38_400),
        (BERT_BASE, {}, 2_379_264 + 38_400),
        (BERT_BASE, {"layer_norms": False}, 2_379_264),
        (BERT_BASE, {"size": 256}, 9_461_760 + 38_400),
        (BERT_BASE, {"placement": "pfeiffer", "size": 48}, 894_528),
        (BERT_BASE, {"placement": "pfeiffer", "size": 64}, 1_189_632),
        (BERT_BASE, {"placement": "parallel", "size": 48}, 894_528),
        (BERT_LARGE, {}, 6_343_680 + 100_352),
        (BERT_LARGE, {"placement": "pfeiffer", "size": 256}, 12_613_632),
    ],
)
def test_adapter_counts_are_the_published_ones(
    config: transformers.PretrainedConfig, options: dict[str, Any], count: int
) -> None:
    assert added(config, Adapter(**options)) == count


def _prepared(folder: Path, **options: Any) -> Any:
    model = tiny_model(folder)
    Adapter(size=8, **options).prepare(model, setting_of(model))
    return model


@pytest.mark.parametrize("architecture", architectures("xlnet"))
@pytest.mark.parametrize("placement", PLACEMENTS)
def test_adapter_that_adds_nothing_is_the_base_model_bitwise(
    placement: str, architecture: str, tiny_folder: Folder
) -> None:
    why = None
    if architecture in ("modernbert", "t5") and placement.startswith("pfeiffer"):
        why = "no normalisation after its feed-forward branch"
    if (architecture, placement) == ("xlnet", "houlsby"):
        why = "projects its attention's output by a bare parameter"
    if why is not None:
        with pytest.raises(UserError, match=why):
            _prepared(tiny_folder(architecture), placement=placement)
        return
    folder = tiny_folder(architecture)
    model, batch = _prepared(folder, placement=placement), tiny_batch(folder)
    with torch.no_grad():
        changed = model(**batch).logits
        for name, parameter in model.named_parameters():
            if "_adapter.up." in name:
                parameter.zero_()
        assert torch.equal(model(**batch).logits, tiny_model(folder)(**batch).logits)
        assert not torch.equal(model(**batch).logits, changed)


@pytest.mark.parametrize(("init_std", "bound"), [(1e-3, 1e-3), (1e-2, 5e-2)])
def test_adapters_start_near_the_base_model(init_std: float, bound: float) -> None:
    torch.manual_seed(0)
    config = transformers.BertConfig(vocab_size=1000)
    model = transformers.BertForSequenceClassification(config).eval()
    batch = {"input_ids": torch.randint(1000, (2, 12)), "attention_mask": torch.ones(2, 12).long()}
    with torch.no_grad():
        base = model(**batch).logits
        Adapter(init_std=init_std).prepare(model, setting_of(model))
        moved = (model(**batch).logits - base).abs().max().item()
    assert 0 < moved < bound


@pytest.mark.parametrize("activation", ["gelu_new", "relu"])
@pytest.mark.parametrize("placement", PLACEMENTS)
def test_each_placement_equals_the_formula(
    placement: str, activation: str, tiny_folder: Folder
) -> None:
    folder = tiny_folder("bert")
    model = _prepared(folder, placement=placement, activation=activation, scale=3.0).double()
    perturb_trained(model)
    batch = tiny_batch(folder)
    hand = HandBert(model)
    act = {
        "gelu_new": lambda x: functional.gelu(x, approximate="tanh"),
        "relu": functional.relu,
    }[activation]

    def bottleneck(layer: int, place: str, h: torch.Tensor) -> torch.Tensor:
        name = f"bert.encoder.layer.{layer}.{place}_adapter"
        return hand.linear(f"{name}.up", act(hand.linear(f"{name}.down", h)))

    if placement == "houlsby":
        hand.attention_branch = lambda layer, h: h + bottleneck(layer, "attention", h)
        hand.ffn_branch = lambda layer, h: h + bottleneck(layer, "ffn", h)
    elif placement == "pfeiffer":
        hand.ffn_output = lambda layer, f, x: hand.norm_last(
            layer, f + bottleneck(layer, "ffn", hand.norm_last(layer, f, x)), x
        )
    elif placement == "pfeiffer_postln":

        def after(layer: int, f: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
            z = hand.norm_last(layer, f, x)
            return z + bottleneck(layer, "ffn", z)

        hand.ffn_output = after
    else:
        hand.ffn_branch = lambda layer, f: f + 3 * bottleneck(layer, "ffn", hand.ffn_input)
    with torch.no_grad():
        ours = model(**batch).logits
    assert torch.allclose(ours, hand.logits(batch), atol=1e-10)
    plain = HandBert(model)
    assert not torch.allclose(ours, plain.logits(batch), atol=1e-3)


def test_weights_start_as_a_truncated_normal_and_biases_at_zero(tiny_folder: Folder) -> None:
    model = _prepared(tiny_folder("bert"))
    weights = [p for n, p in model.named_parameters() if "_adapter" in n and n.endswith("weight")]
    everything = torch.cat([w.flatten() for w in weights])
    assert everything.abs().max() <= 2e-2
    # A normal cut at two standard deviations keeps 0.8796 of its standard deviation.
    assert everything.std().item() == pytest.approx(0.8796e-2, rel=0.05)
    assert not any(p.any() for n, p in model.named_parameters() if "_adapter" in n and "bias" in n)


@pytest.mark.parametrize("init", ["normal", "kaiming"])
def test_other_starts_are_those_of_adapterhub(init: Any, tiny_folder: Folder) -> None:
    """N(0, 0.02²) that is not cut; or torch's own linear layer going down, and nothing going up."""
    folder = tiny_folder("bert")
    model = _prepared(folder, init=init, init_std=0.02, placement="parallel")
    own = {n: p.detach() for n, p in model.named_parameters() if "_adapter." in n}
    down, up = (torch.cat([p.flatten() for n, p in own.items() if f".{w}.weight" in n])
                for w in ("down", "up"))  # fmt: skip
    assert not any(p.any() for n, p in own.items() if n.endswith("bias"))
    if init == "normal":
        every = torch.cat([down, up])
        assert float(every.std()) == pytest.approx(0.02, rel=0.1)
        share = float(
            (every.abs() > 0.04).float().mean()
        )  # 0.0455 of a normal, 0 of one that is cut
        assert share == pytest.approx(0.0455, abs=5 * (0.0455 / every.numel()) ** 0.5)
        return
    bound = 1 / 32**0.5
    assert not up.any()
    assert 0.95 * bound < float(down.abs().max()) <= bound
    assert float(down.std()) == pytest.approx(bound / 3**0.5, rel=0.1)
    with torch.no_grad():
        batch = tiny_batch(folder)
        assert torch.equal(model(**batch).logits, tiny_model(folder)(**batch).logits)


def test_only_adapter_and_head_matrices_decay(tiny_folder: Folder) -> None:
    model = _prepared(tiny_folder("bert"))
    names = {id(p): n for n, p in model.named_parameters()}
    decayed, spared = (
        {names[id(p)] for p in group["params"]} for group in plain_groups(model, 1e-3, 0.01)
    )
    assert decayed | spared == {n for n, p in model.named_parameters() if p.requires_grad}
    assert not decayed & spared
    assert all(n.endswith(("down.weight", "up.weight")) or n.startswith("cl") for n in decayed)
    assert any("LayerNorm.weight" in n for n in spared)


def test_albert_shares_one_pair_of_adapters(tiny_folder: Folder) -> None:
    model = _prepared(tiny_folder("albert"))
    assert len([n for n, _ in model.named_parameters() if n.endswith("_adapter.up.weight")]) == 2


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["method.adapter.size=33"], ["size=33", "at most as wide", "32"]),
        (["method.adapter.size=0"], ["method.adapter.size=0 (must be ≥ 1)"]),
        (["method.adapter.placement=houlsbi"], ["did you mean houlsby", "parallel"]),
        (["method.adapter.activation=sin"], ["method.adapter.activation='sin'", "gelu_new"]),
        (["method.adapter.init_std=0"], ["init_std=0", "must be > 0"]),
        (["method.adapter.init=kaimin"], ["did you mean kaiming", "truncated"]),
    ],
)
def test_wrong_options_are_named(
    arguments: list[str], words: list[str], cli: Cli, tiny_folder: Folder
) -> None:
    done = cli(*tiny(tiny_folder("bert"), "method=adapter", "task=rte", *arguments))
    assert done.code == 2
    assert all(word in done.err for word in words), done.err
    assert "Traceback" not in done.err


def test_two_methods_that_choose_what_trains_are_refused(cli: Cli) -> None:
    done = cli("method=[adapter,lora]")
    assert done.code == 2
    assert "adapter and lora both choose which parameters train" in done.err
