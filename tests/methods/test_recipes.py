"""Layer-wise decay, re-initialisation and top-K tuning."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from methods.adapter import Adapter
from methods.llrd import Llrd
from methods.reinit import Reinit
from methods.topk import Topk
from results.errors import UserError
from runners.optimizers.build import plain_groups
from tests.shapes import BERT_BASE, added, on_meta, setting_of
from tests.tiny import tiny_model

Folder = Callable[[str], Path]


def _rates(convention: str) -> dict[str, float]:
    model = on_meta(BERT_BASE)
    method = Llrd(convention=convention)  # type: ignore[arg-type]
    method.prepare(model, setting_of(model))
    groups = method.parameter_groups(model, plain_groups(model, 2e-5, 0.01))
    names = {id(p): n for n, p in model.named_parameters()}
    rates: dict[str, float] = {}
    for group in groups:
        for parameter in group["params"]:
            name = names[id(parameter)]
            assert name not in rates
            rates[name] = group["lr"]
            assert group["weight_decay"] == (0.01 if parameter.ndim > 1 else 0.0)
    assert set(rates) == set(names.values())
    return rates


@pytest.mark.parametrize(
    ("convention", "embeddings", "lowest", "highest"),
    [
        ("recommended", 1.081e-5, 1.138e-5, 2e-5),
        ("sun", 2e-5, 1.138e-5, 2e-5),
        ("zhang", 1.027e-5, 1.081e-5, 1.9e-5),
    ],
)
def test_rates_of_each_convention_are_the_published_ones(
    convention: str, embeddings: float, lowest: float, highest: float
) -> None:
    rates = _rates(convention)
    layer = "bert.encoder.layer.{}.output.dense.weight"
    assert rates["bert.embeddings.word_embeddings.weight"] == pytest.approx(embeddings, rel=1e-3)
    assert rates["bert.embeddings.LayerNorm.bias"] == pytest.approx(embeddings, rel=1e-3)
    assert rates[layer.format(0)] == pytest.approx(lowest, rel=1e-3)
    assert rates[layer.format(11)] == pytest.approx(highest, rel=1e-3)
    assert rates[layer.format(5)] == pytest.approx(highest * 0.95**6, rel=1e-3)
    assert rates["bert.pooler.dense.weight"] == rates["classifier.weight"] == 2e-5


@pytest.mark.parametrize("architecture", ["bert", "electra"])
def test_zhang_without_decay_has_the_groups_of_their_code(
    architecture: str, tiny_folder: Folder
) -> None:
    """All but ELECTRA's projection, which is in none of theirs."""
    model = tiny_model(tiny_folder(architecture))
    method = Llrd(decay=0.5, convention="zhang")
    method.prepare(model, setting_of(model))
    names = {id(p): n for n, p in model.named_parameters()}
    ours = {
        names[id(p)]: (group["lr"], group["weight_decay"])
        for group in method.parameter_groups(model, plain_groups(model, 1.0, 0.0))
        for p in group["params"]
    }
    encoder, theirs = getattr(model, architecture), {}
    theirs |= {n: (1.0, 0.0) for n in names.values() if "classifier" in n or "pooler" in n}
    for step, part in enumerate([*reversed(encoder.encoder.layer), encoder.embeddings], 1):
        theirs |= {names[id(p)]: (0.5**step, 0.0) for p in part.parameters()}
    outside = {n for n in names.values() if ".embeddings_project." in n}
    assert set(ours) - set(theirs) == outside
    assert len(outside) == (2 if architecture == "electra" else 0)
    assert {n: ours[n] for n in theirs} == theirs
    assert all(
        ours[n] == ours[f"{architecture}.embeddings.word_embeddings.weight"] for n in outside
    )


def test_inserted_modules_take_the_rate_of_their_layer(tiny_folder: Folder) -> None:
    model = tiny_model(tiny_folder("bert"))
    method = Llrd(decay=0.5)
    method.prepare(model, setting_of(model))
    Adapter(size=8).prepare(model, setting_of(model))
    groups = method.parameter_groups(model, plain_groups(model, 1.0, 0.0))
    names = {id(p): n for n, p in model.named_parameters()}
    rates = {names[id(p)]: g["lr"] for g in groups for p in g["params"]}
    assert rates["bert.encoder.layer.0.ffn_adapter.up.weight"] == 0.5
    assert rates["bert.encoder.layer.1.ffn_adapter.up.weight"] == 1.0
    assert rates["classifier.weight"] == 1.0


def _wide(tmp_path: Path) -> Any:
    import transformers

    torch.manual_seed(3)
    config = transformers.BertConfig(
        vocab_size=50, hidden_size=128, num_hidden_layers=3, num_attention_heads=2
    )
    model = transformers.BertForSequenceClassification(config)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(3).add_(0.5)  # as if trained
    return model


def test_reinit_draws_the_top_layers_and_the_pooler_only(tmp_path: Path) -> None:
    model = _wide(tmp_path)
    before = {n: p.detach().clone() for n, p in model.named_parameters()}
    state = torch.get_rng_state()
    own = dict(model.named_parameters())
    Reinit(layers=2).prepare(model, replace(setting_of(model), pretrained=own))
    assert torch.equal(torch.get_rng_state(), state)
    after = dict(model.named_parameters())
    changed = {n for n in after if not torch.equal(after[n], before[n])}
    tops = ("bert.encoder.layer.1.", "bert.encoder.layer.2.", "bert.pooler.")
    assert changed == {n for n in after if n.startswith(tops)}
    for name in changed:
        if name.endswith("LayerNorm.weight"):
            assert (after[name] == 1).all()
        elif name.endswith("bias"):
            assert (after[name] == 0).all()
        else:
            assert float(after[name].std()) == pytest.approx(0.02, rel=0.03)
            assert abs(float(after[name].mean())) < 1e-3


def test_reinit_leaves_a_head_alone_that_is_fresh_already(tmp_path: Path) -> None:
    model = _wide(tmp_path)
    setting = setting_of(model)
    pooler = {"bert.pooler.dense.weight", "bert.pooler.dense.bias"}
    before = model.bert.pooler.dense.weight.detach().clone()
    own = dict(model.named_parameters())
    Reinit().prepare(model, replace(setting, head=setting.head | pooler, pretrained=own))
    assert torch.equal(model.bert.pooler.dense.weight, before)


@pytest.mark.parametrize(("layers", "count"), [(0, 590_592), (3, 3 * 7_087_872 + 590_592)])
def test_topk_trains_the_top_layers_and_the_pooler(layers: int, count: int) -> None:
    assert added(BERT_BASE, Topk(layers=layers)) == count


@pytest.mark.parametrize("method", [Topk(layers=3), Reinit(layers=3)])
def test_more_layers_than_there_are_is_refused(method: Any, tiny_folder: Folder) -> None:
    model = tiny_model(tiny_folder("bert"))
    with pytest.raises(UserError, match="this encoder has 2 layers"):
        method.prepare(model, setting_of(model))


@pytest.mark.parametrize("method", [Topk(), Reinit()])
def test_shared_layers_are_refused(method: Any, tiny_folder: Folder) -> None:
    model = tiny_model(tiny_folder("albert"))
    with pytest.raises(UserError, match="albert's layers share their weights"):
        method.prepare(model, setting_of(model))
