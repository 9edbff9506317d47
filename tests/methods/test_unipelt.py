"""UniPELT's gates, mixtures and counts are the paper's."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.nn import functional

from methods.surgery.gates import Gate
from methods.unipelt import Unipelt
from results.record import read_all
from tests.by_hand import HandBert
from tests.conftest import Cli, narrow, tiny
from tests.shapes import BERT_BASE, counted, perturb_trained, setting_of
from tests.tiny import tiny_batch, tiny_model

Folder = Callable[[str], Path]


@pytest.mark.parametrize(
    ("options", "added", "percent"),
    [
        ({"variant": "AP"}, 1_097_304, "0.99"),
        ({}, 1_401_444, "1.26"),
        ({"lora_gate": "per_matrix"}, 1_410_672, "1.27"),
        ({"variant": "APLB"}, 1_401_444 + 102_912, "1.36"),
    ],
)
def test_added_parameters_and_percentages_are_the_papers(
    options: dict[str, Any], added: int, percent: str
) -> None:
    counts = counted(BERT_BASE, Unipelt(**options))
    assert counts["trainable_without_head"] == added
    assert counts["training_only"] == 7_680 + 393_728 + 9_455_616
    new = added - (102_912 if options.get("variant") == "APLB" else 0)
    assert counts["total"] == 109_483_778 + new
    assert f"{100 * added / counts['total']:.2f}" == percent


def _prepared(folder: Path, **options: Any) -> Any:
    model = tiny_model(folder)
    sizes = {"size": 8, "length": 3, "projection_size": 16, "rank": 4}
    Unipelt(**{**sizes, **options}).prepare(model, setting_of(model))
    return model


def _by_hand(model: Any, batch: dict[str, torch.Tensor], options: dict[str, Any]) -> torch.Tensor:
    """Write the paper's layer out, on top of BERT by hand."""
    hand = HandBert(model)
    variant = options.get("variant", "APL")
    real = batch["attention_mask"].double()
    if options.get("gate_mean") == "all":
        real = torch.ones_like(real)

    def gate(layer: int, of: str, x: torch.Tensor) -> torch.Tensor:
        opened = hand.linear(f"bert.encoder.layer.{layer}.{of}_gate.linear", x).sigmoid()
        return (opened.squeeze(2) * real).sum(1).div(real.sum(1)).view(-1, 1, 1)

    t = hand.tensors
    inner = torch.tanh(hand.linear("prefixes.inner", t["prefixes.embedding"]))
    made = hand.linear("prefixes.outer", inner).view(3, 4, 32)
    scale = 16 / 4 if options.get("lora_scale") == "alpha" else 1.0

    def projected(layer: int, name: str, x: torch.Tensor, out: torch.Tensor) -> torch.Tensor:
        if name == "query":  # first of the three: x is the layer's input
            g = gate(layer, "prefix", x)
            hand.prefix = {layer: (g * made[:, 2 * layer], g * made[:, 2 * layer + 1])}  # type: ignore[assignment]
        if "L" not in variant or name == "key":
            return out
        of = "lora" if options.get("lora_gate") != "per_matrix" else f"lora_{name}"
        low = f"bert.encoder.layer.{layer}.lora_{name}"
        added = x @ t[f"{low}.A.weight"].T @ t[f"{low}.B.weight"].T
        return out + scale * gate(layer, of, x) * added

    def ffn_output(layer: int, f: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
        z = hand.norm_last(layer, f, x)
        name = f"bert.encoder.layer.{layer}.ffn_adapter.bottleneck"
        added = hand.linear(f"{name}.up", functional.relu(hand.linear(f"{name}.down", z)))
        return hand.norm_last(layer, f + gate(layer, "adapter", z) * added, x)

    hand.projected, hand.ffn_output = projected, ffn_output
    return hand.logits(batch)


@pytest.mark.parametrize(
    "options",
    [
        {"variant": "AP"},
        {},
        {"lora_gate": "per_matrix"},
        {"lora_scale": "alpha"},
        {"gate_mean": "all"},
        {"variant": "APLB"},
    ],
    ids=str,
)
def test_logits_equal_the_formula(options: dict[str, Any], tiny_folder: Folder) -> None:
    folder = tiny_folder("bert")
    model, batch = _prepared(folder, **options).double(), tiny_batch(folder)
    perturb_trained(model)
    with torch.no_grad():
        ours = model(**batch).logits
    assert torch.allclose(ours, _by_hand(model, batch, options), atol=1e-10)


def test_variants_and_options_differ(tiny_folder: Folder) -> None:
    folder = tiny_folder("bert")
    batch, seen = tiny_batch(folder), []
    for options in ({"variant": "AP"}, {}, {"lora_scale": "alpha"}, {"gate_mean": "all"}):
        model = _prepared(folder, **options)
        perturb_trained(model)
        with torch.no_grad():
            seen.append(model(**batch).logits)
    for i, first in enumerate(seen):
        assert all(not torch.allclose(first, other, atol=1e-5) for other in seen[i + 1 :])


def test_closed_gates_leave_zero_keys_that_still_take_attention(tiny_folder: Folder) -> None:
    folder = tiny_folder("bert")
    model, batch = _prepared(folder), tiny_batch(folder)
    model = model.double()
    perturb_trained(model)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith("_gate.linear.weight"):
                parameter.zero_()
            elif name.endswith("_gate.linear.bias"):
                parameter.fill_(-20.0)
        hand = HandBert(model)
        zero = torch.zeros(3, 32, dtype=torch.float64)
        hand.prefix = [(zero, zero)] * 2
        closed = model(**batch).logits
        assert torch.allclose(closed, hand.logits(batch), atol=1e-6)
        hand.prefix = None
        assert not torch.allclose(closed, hand.logits(batch), atol=1e-4)


@pytest.mark.parametrize("architecture", ["bert", "roberta", "electra", "albert", "distilbert"])
def test_padding_does_not_change_logits_unless_asked(
    architecture: str, tiny_folder: Folder
) -> None:
    folder = tiny_folder(architecture)
    batch = tiny_batch(folder)
    labels = batch.pop("labels")
    assert len(labels) == 5
    length = int(batch["attention_mask"][0].sum())
    alone = {n: t[:1, :length] for n, t in batch.items()}
    assert length < batch["input_ids"].shape[1]
    for mean, same in (("real", True), ("all", False)):
        model = _prepared(folder, gate_mean=mean)
        perturb_trained(model)
        with torch.no_grad():
            together, single = model(**batch).logits[0], model(**alone).logits[0]
        assert torch.allclose(together, single, atol=1e-6) is same


def test_a_gate_is_one_number_in_the_open_unit_interval_for_each_sequence() -> None:
    gate = Gate(768, None, torch.Generator().manual_seed(0))
    x = torch.randn(4, 7, 768, generator=torch.Generator().manual_seed(1))
    opened = gate(x)
    assert opened.shape == (4, 1, 1)
    assert ((opened > 0) & (opened < 1)).all()
    assert (opened - 0.5).abs().max() < 0.35
    with torch.no_grad():
        gate.linear.weight.zero_()
        for bias, value in ((20.0, 1.0), (-20.0, 0.0)):
            gate.linear.bias.fill_(bias)
            assert (gate(x) - value).abs().max() < 1e-6


def test_gates_of_each_layer_are_in_the_record(
    cli: Cli, tiny_folder: Folder, tmp_path: Path
) -> None:
    done = cli(*tiny(tiny_folder("bert"), *narrow("unipelt"), "task=rte"))
    assert done.code == 0, done.err
    [record] = read_all(tmp_path / "runs")
    gates = record.method_reports["unipelt"]["gates"]
    assert set(gates) == {f"layer {i} {of}" for i in (0, 1) for of in ("adapter", "prefix", "lora")}
    for values in gates.values():
        assert 0 < values["min"] <= values["mean"] <= values["max"] < 1


def test_bottleneck_wider_than_the_encoder_is_refused(cli: Cli, tiny_folder: Folder) -> None:
    done = cli(*tiny(tiny_folder("bert"), "method=unipelt", "task=rte"))
    assert done.code == 2
    assert "method.unipelt.size=48: a bottleneck is at most as wide as the encoder's 32" in done.err
