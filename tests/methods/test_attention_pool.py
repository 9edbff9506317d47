"""The head reads all tokens by attention, written out token by token."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from methods.attention_pool import AttentionPool
from methods.head_layers import HeadLayers
from results.errors import UserError
from runners.contract.parts import prepared
from runners.exports.delta import load_delta, save_delta
from runners.jobs.job import Job
from runners.speed.first_token import hindrance, narrowed
from runners.training.start import build_model
from tests.conftest import configure, tiny
from tests.methods.test_head_layers import _head
from tests.shapes import perturb_trained, setting_of
from tests.tiny import tiny_batch, tiny_model

Folder = Callable[[str], Path]
POOLINGS = ("light", "query")


def _made(folder: Path, pooling: str = "light", **options: Any) -> Any:
    model = tiny_model(folder)
    AttentionPool(pooling=pooling, **options).prepare(model, setting_of(model))  # type: ignore[arg-type]
    perturb_trained(model.attention_pool)
    return model.eval()


def _convolved(convolution: Any, states: torch.Tensor) -> torch.Tensor:
    """Return what a convolution gives for each of a text's tokens (L, width), one by one."""
    weight, bias = convolution.weight, convolution.bias  # (out, in, kernel)
    length, reach = len(states), weight.shape[2] // 2
    rows = []
    for place in range(length):
        total = bias.clone()
        for offset in range(-reach, reach + 1):
            if 0 <= place + offset < length:
                total = total + weight[:, :, offset + reach] @ states[place + offset]
        rows.append(total)
    return torch.stack(rows)


def _pooled(pool: Any, states: torch.Tensor, pooling: str) -> torch.Tensor:
    """Return the vector of a text without padding, (L, width)."""
    if pooling == "query":
        products = states @ pool.query.weight[0] / math.sqrt(states.shape[1])
        parts = [product.exp() for product in products]
        return sum(p * s for p, s in zip(parts, states, strict=True)) / sum(parts)  # type: ignore[no-any-return]
    values, scores = _convolved(pool.values, states), _convolved(pool.weights, states)
    weights = scores.exp() / scores.exp().sum(0)
    both = torch.cat([(weights * values).sum(0), values.max(0).values])
    return pool.joined.weight @ both + pool.joined.bias  # type: ignore[no-any-return]


@pytest.mark.parametrize("pooling", POOLINGS)
@pytest.mark.parametrize("architecture", ["bert", "roberta", "electra", "distilbert", "deberta-v2"])
def test_the_head_is_given_each_texts_own_vector(
    architecture: str, pooling: str, tiny_folder: Folder
) -> None:
    batch = tiny_batch(tiny_folder(architecture))
    lengths = batch["attention_mask"].sum(1)
    assert len({*lengths.tolist()}) > 1
    states = tiny_model(tiny_folder(architecture))(**batch, output_hidden_states=True)
    model = _made(tiny_folder(architecture), pooling, kernel=5)
    given = states.hidden_states[-1].clone()
    for row, length in enumerate(lengths):
        given[row, 0] = _pooled(model.attention_pool, given[row, :length].clone(), pooling)
    torch.testing.assert_close(model(**batch).logits, _head(model, given), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("pooling", POOLINGS)
@pytest.mark.parametrize("architecture", ["bert", "albert", "modernbert", "deberta-v2"])
def test_a_batch_padded_further_has_the_same_logits(
    architecture: str, pooling: str, tiny_folder: Folder
) -> None:
    batch = tiny_batch(tiny_folder(architecture))
    plain = tiny_model(tiny_folder(architecture))(**batch).logits
    model = _made(tiny_folder(architecture), pooling)
    pad = model.config.pad_token_id
    further = {
        name: torch.nn.functional.pad(t, (0, 7), value=pad if name == "input_ids" else 0)
        for name, t in batch.items()
        if t.ndim == 2
    }
    logits = model(**batch).logits
    torch.testing.assert_close(model(**further).logits, logits, rtol=1e-4, atol=1e-5)
    assert float((logits - plain).detach().abs().max()) > 1e-3


def test_a_query_starts_at_the_mean_of_all_tokens(tiny_folder: Folder) -> None:
    batch, model = tiny_batch(tiny_folder("bert")), tiny_model(tiny_folder("bert"))
    states = model(**batch, output_hidden_states=True).hidden_states[-1].clone()
    for row, length in enumerate(batch["attention_mask"].sum(1)):
        states[row, 0] = states[row, :length].mean(0)
    expected = _head(model, states)
    AttentionPool(pooling="query").prepare(model, setting_of(model))
    torch.testing.assert_close(model(**batch).logits, expected)


def test_the_last_layer_is_computed_whole(tiny_folder: Folder) -> None:
    given = tiny(tiny_folder("bert"), "task=mrpc", "speed.first_token=true")
    plain, _ = prepared(configure(*given, "method=full"))
    loop, _ = prepared(configure(*given, "method=attention_pool"))
    assert narrowed(plain.model)
    assert not narrowed(loop.model)
    assert hindrance(loop.model) == "something is hooked to the layer"


@pytest.mark.parametrize("first", [True, False])
def test_with_head_layers_their_combination_is_pooled(first: bool, tiny_folder: Folder) -> None:
    batch, model = tiny_batch(tiny_folder("bert")), tiny_model(tiny_folder("bert"))
    pair = [HeadLayers(layers=[1, 2], pool="mean"), AttentionPool(pooling="query")]
    states = model(**batch, output_hidden_states=True).hidden_states
    combined = (states[1] + states[2]) / 2
    for row, length in enumerate(batch["attention_mask"].sum(1)):
        combined[row, 0] = combined[row, :length].mean(0)
    expected = _head(model, combined)
    for method in pair if first else reversed(pair):
        method.prepare(model, setting_of(model))
    torch.testing.assert_close(model(**batch).logits, expected)


@pytest.mark.parametrize("order", ["attention_pool,linear", "linear,attention_pool"])
def test_what_it_adds_trains_beside_a_frozen_encoder(order: str, tiny_folder: Folder) -> None:
    loop, loaded = prepared(configure(*tiny(tiny_folder("bert"), "task=mrpc", f"method=[{order}]")))
    trained = {n for n, p in loop.model.named_parameters() if p.requires_grad}
    assert trained == loaded.head
    assert {n.split(".")[0] for n in trained} == {"attention_pool", "classifier"}


def test_dropout_is_of_the_values_and_of_a_stream_of_its_own(tiny_folder: Folder) -> None:
    batch, model = tiny_batch(tiny_folder("bert")), _made(tiny_folder("bert"), dropout=0.5)
    outside = torch.get_rng_state()
    still = model(**batch).logits
    model.attention_pool.train()
    first, second = model(**batch).logits, model(**batch).logits
    assert not torch.equal(first, second)
    assert not torch.equal(first, still)
    assert torch.equal(torch.get_rng_state(), outside)
    without = _made(tiny_folder("bert"), dropout=0.0)
    torch.testing.assert_close(without.train(False)(**batch).logits, still)


def test_a_run_that_keeps_a_head_keeps_its_pooling(tiny_folder: Folder, tmp_path: Path) -> None:
    given = tiny(tiny_folder("bert"), "task=mrpc", "method=attention_pool")
    config = configure(*given)
    loop, loaded = prepared(config)
    loop.run(4)
    save_delta(tmp_path / "delta", loop.model, loaded.head, Job(config))
    left = dict(load_delta(tmp_path / "delta").loaded.model.named_parameters())
    for kept in (True, False):
        head = "keep" if kept else "drawn"
        job = Job(configure(*given, f"start={tmp_path / 'delta'}", f"start.head={head}", "seed=9"))
        own = dict(build_model(job, 4).model.named_parameters())
        for name in ("attention_pool.values.weight", "classifier.weight"):
            assert torch.equal(own[name], left[name]) == kept


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (["method.attention_pool.kernel=4"], "use 5"),
        (["method.attention_pool.kernel=0"], "kernel=0"),
        (["method.attention_pool.dropout=1"], "dropout=1"),
        (["method.attention_pool.pooling=max"], "pooling"),
        (["method=[attention_pool,prompt]"], "puts vectors among the tokens"),
        (["method=[attention_pool,simcse]", "task=sts"], "without a head"),
        (["task=mlm", "mlm.on=[rte]"], "makes one vector of a text for its head"),
    ],
)
def test_wrong_options_and_company_are_named(
    more: list[str], said: str, tiny_folder: Folder
) -> None:
    with pytest.raises(UserError, match=said) as refused:
        prepared(configure(*tiny(tiny_folder("bert"), "task=mrpc", "method=attention_pool", *more)))
    assert "\n" not in str(refused.value)


def test_a_head_that_reads_the_mean_is_refused(tiny_folder: Folder) -> None:
    model = tiny_model(tiny_folder("modernbert"))
    model.config.classifier_pooling = "mean"
    with pytest.raises(UserError, match="reads the mean of all tokens"):
        AttentionPool().prepare(model, setting_of(model))


@pytest.mark.parametrize("other", ["attention_pool", "head_layers", "r3f", "setfit"])
def test_a_delta_that_peft_would_answer_otherwise_is_not_in_its_format(
    other: str, tiny_folder: Folder, tmp_path: Path
) -> None:
    options = {"head_layers": ["method.head_layers.layers=[1]"]}
    options["r3f"] = ["method.r3f.spectral_norm=true"]
    given = [f"method=[lora,{other}]", *options.get(other, [])]
    config = configure(*tiny(tiny_folder("bert"), "task=mrpc", *given))
    loop, loaded = prepared(config)
    loop.run(loop.steps)
    save_delta(tmp_path / "delta", loop.model, loaded.head, Job(config))
    assert not (tmp_path / "delta" / "adapter_config.json").exists()
    batch = loop.batch(next(iter(loop.order.batches(0, 1))))
    answers = [
        m.eval()(**batch).logits for m in (loop.model, load_delta(tmp_path / "delta").loaded.model)
    ]
    assert torch.equal(*answers)
