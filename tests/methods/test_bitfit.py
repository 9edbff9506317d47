"""BitFit trains exactly the biases that the paper counts, as bias tuning does."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers

from methods.bitfit import BitFit, is_bias
from methods.surgery import places
from results.errors import UserError
from runners.catalogue import shape
from runners.models.pretrained import head_names
from tests.conftest import configure
from tests.shapes import (
    BERT_BASE,
    BERT_LARGE,
    ELECTRA_BASE,
    ROBERTA_BASE,
    ROBERTA_LARGE,
    on_meta,
    setting_of,
)
from tests.tiny import ARCHITECTURES, TEXTS, tiny_model


def _trained(model: Any, **options: Any) -> dict[str, int]:
    setting = setting_of(model)
    BitFit(**options).prepare(model, setting)
    return {
        n: p.numel()
        for n, p in model.named_parameters()
        if p.requires_grad and n not in setting.head
    }


@pytest.mark.parametrize(
    ("config", "options", "count"),
    [
        (BERT_BASE, {}, 102_912),
        (BERT_LARGE, {}, 272_384),
        (ROBERTA_BASE, {}, 102_144),
        (ROBERTA_LARGE, {}, 271_360),
        (ELECTRA_BASE, {}, 102_144),
        (BERT_BASE, {"pooler": False}, 102_912 - 768),
        # The subset of the paper without the pooler's bias, which the authors' code adds.
        (BERT_BASE, {"subset": "query_intermediate", "pooler": False}, 46_080),
        (BERT_LARGE, {"subset": "query_intermediate", "pooler": False}, 122_880),
        (ROBERTA_BASE, {"subset": "query_intermediate"}, 46_080),
        (ELECTRA_BASE, {"subset": "query_intermediate"}, 46_080),
    ],
)
def test_bias_counts_are_the_papers(
    config: transformers.PretrainedConfig, options: dict[str, Any], count: int
) -> None:
    assert sum(_trained(on_meta(config), **options).values()) == count


def test_deberta_v3_bias_count() -> None:
    model = on_meta(shape("DeBERTa-v2"))
    # Biases inside the encoder; its pooler (768) stands outside it and is part of the head.
    assert sum(_trained(model).values()) == 103_680 - 768
    assert "pooler.dense.bias" in head_names(model, set())


def test_subset_trains_exactly_query_and_intermediate_biases() -> None:
    names = set(_trained(on_meta(BERT_BASE), subset="query_intermediate"))
    layers = [f"bert.encoder.layer.{i}" for i in range(12)]
    expected = {f"{layer}.attention.self.query.bias" for layer in layers}
    expected |= {f"{layer}.intermediate.dense.bias" for layer in layers}
    assert names == expected | {"bert.pooler.dense.bias"}


@pytest.mark.parametrize("architecture", sorted({*ARCHITECTURES} - {"modernbert", "t5"}))
def test_a_subset_is_the_same_places_of_every_architecture(
    architecture: str, tiny_folder: Callable[[str], Path]
) -> None:
    """XLNet's queries have no bias, and ModernBERT and T5 have none at all."""
    model = tiny_model(tiny_folder(architecture))
    layers = places.layers(model, "bitfit")
    wanted = {
        f"{layer.full_name(place)}.bias"
        for layer in layers
        for place in ("query", "expansion")
        if getattr(layer.places, place) is not None
    }
    setting = setting_of(model)
    BitFit(subset="query_intermediate", pooler=False).prepare(model, setting)
    trained = {n for n, p in model.named_parameters() if p.requires_grad}
    assert trained - setting.head == wanted
    assert len(wanted) == len(layers) * (1 if architecture == "xlnet" else 2)


def test_a_subset_has_a_version_of_its_own() -> None:
    """It left MPNet's queries frozen, and a run's name does not know the architecture."""
    for subset, version in (("all", 1), ("query_intermediate", 2)):
        [said] = configure("method=bitfit", f"method.bitfit.subset={subset}").method_options()
        assert said["version"] == version


@pytest.mark.parametrize(
    ("name", "bias"),
    [
        ("a.query.bias", True),
        ("a.in_proj.q_bias", True),
        ("a.v_bias", True),
        ("encoder.relative_attention_bias.weight", False),
        ("a.bias.weight", False),
    ],
)
def test_a_bias_is_told_by_its_whole_last_name(name: str, bias: bool) -> None:
    assert is_bias(name) is bias


def test_encoder_without_biases_is_refused() -> None:
    model = on_meta(transformers.ModernBertConfig())
    with pytest.raises(UserError, match=r"has no bias in its encoder.*method=linear"):
        BitFit().prepare(model, setting_of(model))


def _batch(folder: Path) -> dict[str, torch.Tensor]:
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    batch = tokenizer(TEXTS, padding=True, return_tensors="pt")
    return {**batch, "labels": torch.tensor([0, 1, 0, 1, 1])}


@pytest.mark.parametrize("architecture", ["bert", "roberta"])
def test_gradient_of_the_key_bias_is_zero(
    architecture: str, tiny_folder: Callable[[str], Path]
) -> None:
    folder = tiny_folder(architecture)
    model = transformers.AutoModelForSequenceClassification.from_pretrained(folder).double().eval()
    BitFit().prepare(model, setting_of(model))
    model(**_batch(folder)).loss.backward()
    gradients = {
        n: p.grad.abs().max().item() for n, p in model.named_parameters() if p.grad is not None
    }
    for name, size in gradients.items():
        if ".key.bias" in name:
            assert size < 1e-6 * gradients[name.replace("key", "query")]


def test_linear_biases_train_as_pefts_beft_does(tiny_folder: Callable[[str], Path]) -> None:
    """peft adds a zero vector to each linear output: the same function as moving its bias."""
    import peft

    folder = tiny_folder("bert")
    batch = _batch(folder)

    def load() -> Any:
        torch.manual_seed(0)
        return transformers.AutoModelForSequenceClassification.from_pretrained(
            folder, hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0
        )

    def train(model: Any, parameters: list[torch.nn.Parameter]) -> torch.Tensor:
        optimizer = torch.optim.AdamW(parameters, lr=1e-2, weight_decay=0.0)
        for _ in range(5):
            optimizer.zero_grad()
            model(**batch).loss.backward()
            optimizer.step()
        with torch.no_grad():
            return model(**batch).logits

    ours = load().train()
    BitFit().prepare(ours, setting_of(ours))
    linear = [
        p
        for n, p in ours.named_parameters()
        if p.requires_grad and "LayerNorm" not in n and not n.startswith("classifier")
    ]
    start = ours(**batch).logits.detach()
    ours_after = train(ours, linear)
    config = peft.BeftConfig(target_modules=["query", "key", "value", "dense"])
    theirs = peft.get_peft_model(load(), config).train()
    added = [p for p in theirs.parameters() if p.requires_grad]
    assert sum(p.numel() for p in added) == sum(p.numel() for p in linear)
    theirs_after = train(theirs, added)
    assert not torch.allclose(ours_after, start, atol=1e-3)
    # b + v rounds otherwise than a bias that moved, and Adam turns a key bias's rounding noise into
    # steps of lr that the softmax cancels; what is left is rounding.
    assert torch.allclose(ours_after, theirs_after, atol=2e-5)
