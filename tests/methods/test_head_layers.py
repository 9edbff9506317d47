"""The head reads what layers give by themselves, combined; nothing else changes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from methods.head_layers import HeadLayers
from results.errors import UserError
from runners.speed.first_token import use_first_token
from tests.shapes import setting_of
from tests.tiny import tiny_batch, tiny_model

Folder = Callable[[str], Path]


def _head(model: Any, state: torch.Tensor) -> torch.Tensor:
    """Apply an architecture's own head to a state of the encoder's, (B, L, width)."""
    kind = model.config.model_type
    if kind == "bert":
        return model.classifier(model.dropout(model.bert.pooler(state)))  # type: ignore[no-any-return]
    if kind == "distilbert":
        return model.classifier(torch.relu(model.pre_classifier(state[:, 0])))  # type: ignore[no-any-return]
    if kind == "deberta-v2":
        return model.classifier(model.pooler(state))  # type: ignore[no-any-return]
    return model.classifier(state)  # type: ignore[no-any-return]


@pytest.mark.parametrize("architecture", ["bert", "roberta", "electra", "distilbert", "deberta-v2"])
@pytest.mark.parametrize(("layers", "pool"), [([1, 2], "mean"), ([-2, -1], "max"), ([1], "max")])
def test_logits_are_the_heads_of_the_layers_combined(
    architecture: str, layers: list[int], pool: str, tiny_folder: Folder
) -> None:
    model, batch = tiny_model(tiny_folder(architecture)), tiny_batch(tiny_folder(architecture))
    states = model(**batch, output_hidden_states=True).hidden_states
    chosen = [states[n] for n in (1, 2)[: len(layers)]]
    combined = chosen[0]
    for state in chosen[1:]:
        combined = torch.maximum(combined, state) if pool == "max" else (combined + state) / 2
    expected = _head(model, combined)
    names = {*model.state_dict()}
    HeadLayers(layers=layers, pool=pool).prepare(model, setting_of(model))  # type: ignore[arg-type]
    assert {*model.state_dict()} == names
    torch.testing.assert_close(model(**batch).logits, expected)
    torch.testing.assert_close(model(**batch).logits, expected)  # no state is left from before


def test_first_token_alone_gives_the_same(tiny_folder: Folder) -> None:
    whole, narrow = (tiny_model(tiny_folder("bert")) for _ in range(2))
    batch = tiny_batch(tiny_folder("bert"))
    from runners.speed.dropout import use_fast_dropout

    for model in (whole, narrow):
        use_fast_dropout(model)
        HeadLayers(layers=[1, 2], pool="mean").prepare(model, setting_of(model))
    assert use_first_token(narrow)
    torch.testing.assert_close(narrow(**batch).logits, whole(**batch).logits)


def test_layers_above_what_is_read_have_no_gradient(tiny_folder: Folder) -> None:
    model = tiny_model(tiny_folder("bert"))
    HeadLayers(layers=[1]).prepare(model, setting_of(model))
    model(**tiny_batch(tiny_folder("bert"))).loss.backward()
    first, second = model.bert.encoder.layer
    assert all(p.grad is not None and p.grad.any() for p in first.output.parameters())
    assert all(p.grad is None for p in second.parameters())


@pytest.mark.parametrize("layers", [[], [0], [3], [-3], [1, 1], [2, -1]])
def test_wrong_layers_are_named(layers: list[int], tiny_folder: Folder) -> None:
    model = tiny_model(tiny_folder("bert"))
    with pytest.raises(UserError, match=r"head_layers.layers=.*this encoder has layers 1 to 2"):
        HeadLayers(layers=layers).prepare(model, setting_of(model))


def test_shared_layers_are_refused(tiny_folder: Folder) -> None:
    model = tiny_model(tiny_folder("albert"))
    with pytest.raises(UserError, match="albert's layers share their weights"):
        HeadLayers().prepare(model, setting_of(model))
