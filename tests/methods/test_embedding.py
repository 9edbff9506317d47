"""Vectors without training against transformers' encoder, one sentence at a time."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers

from methods.embedding import FREQUENT, Embedding, with_period
from methods.method import Setting
from results.errors import UserError
from results.record import read_all
from runners.models.encoder import SentenceModel
from tests.conftest import Cli, architectures, tiny
from tests.tiny import TEXTS

Folder = Callable[[str], Path]
TEMPLATE = "the plot [X] is [MASK] ."
REFUSED = {
    ("cls", "xlnet"): "xlnet has no class token before a text, where pooling=cls reads it; use",
    ("cls", "t5"): "t5 has no class token before a text, where pooling=cls reads it; use",
    ("prompt", "t5"): "this model's tokenizer has no mask token",
}


def _alone(encoder: Any, tokenizer: Any, pooling: str, text: str) -> torch.Tensor:
    """Return a sentence's vector from the encoder's own output for it alone."""
    if pooling == "prompt":
        text = TEMPLATE.replace("[X]", with_period(text)).replace("[MASK]", tokenizer.mask_token)
    coded = tokenizer(text, return_tensors="pt", return_token_type_ids=False)
    table = encoder.get_input_embeddings().weight
    if pooling == "static":
        return table[coded["input_ids"][0]].mean(0)
    if pooling == "static_unbiased":
        kept = [w for w in text.split() if w not in FREQUENT and any(c.isalnum() for c in w)]
        ids = tokenizer(" ".join(kept), add_special_tokens=False)["input_ids"]
        return table[torch.tensor(ids)].mean(0)
    states = encoder(**coded, output_hidden_states=True)
    last = states.last_hidden_state[0]
    if pooling == "cls":
        return last[0]
    if pooling == "mean":
        return last.mean(0)
    if pooling == "first_last":
        return ((states.hidden_states[1][0] + last) / 2).mean(0)
    return last[coded["input_ids"][0].tolist().index(tokenizer.mask_token_id)]


@pytest.mark.parametrize("architecture", architectures("xlnet", without=["deberta-v2"]))
@pytest.mark.parametrize(
    "pooling", ["cls", "mean", "first_last", "static", "static_unbiased", "prompt"]
)
def test_vectors_of_a_batch_are_those_of_each_sentence_alone(
    pooling: Any, architecture: str, tiny_folder: Folder
) -> None:
    folder = tiny_folder(architecture)
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder, padding_side="right")
    of_text = "AutoModelForTextEncoding" if architecture == "t5" else "AutoModel"
    encoder = getattr(transformers, of_text).from_pretrained(folder).double().eval()
    if pooling == "static_unbiased":  # the tiny vocabulary has whole words for these
        texts = [t for t in TEXTS if "##" not in " ".join(tokenizer.tokenize(t))]
        assert len(texts) > 2
    else:
        texts = TEXTS
    method = Embedding(pooling=pooling, template=TEMPLATE)
    model = SentenceModel(encoder)
    setting = Setting(
        head=frozenset(),
        generator=torch.Generator(),
        num_labels=1,
        regression=False,
        total_steps=0,
        max_length=48,
        tokenizer=tokenizer,
    )
    why = REFUSED.get((pooling, architecture))
    if why is not None:
        with pytest.raises(UserError, match=why):
            method.prepare(model, setting)
        return
    method.prepare(model, setting)
    given = [method.text(text, training=False) for text in texts]
    batch = tokenizer(given, add_special_tokens=False, padding=True, return_tensors="pt")
    with torch.no_grad():
        ours = method.vectors(model, {k: batch[k] for k in ("input_ids", "attention_mask")})
        for vector, text in zip(ours, texts, strict=True):
            assert torch.allclose(vector, _alone(encoder, tokenizer, pooling, text), atol=1e-9)
    assert not any(p.requires_grad for p in model.parameters())


def test_anisotropy_is_the_mean_cosine_of_all_pairs() -> None:
    vectors = np.random.default_rng(0).normal(0.3, 1, (30, 5)).astype(np.float32)
    cosines = [
        vectors[i] @ vectors[j] / np.linalg.norm(vectors[i]) / np.linalg.norm(vectors[j])
        for i in range(30)
        for j in range(30)
        if i != j
    ]
    method = Embedding()
    method.seen(vectors)
    assert method.anisotropy == pytest.approx(abs(np.mean(cosines)), abs=1e-6)


def test_prompt_with_and_without_its_share(cli: Cli, tiny_folder: Folder, tmp_path: Path) -> None:
    given = tiny(tiny_folder("bert"), "method=embedding", "task=sts", "model.pooling=prompt")
    given = [*given, f"method.embedding.template='{TEMPLATE}'"]
    for denoise in ("false", "true"):
        done = cli(*given, f"method.embedding.denoise={denoise}")
        assert done.code == 0, done.err
    first, second = read_all(tmp_path / "runs")
    assert first.predictions != second.predictions
    assert first.parameters["trainable"] == first.steps == 0


def test_selection_is_scored_at_each_evaluation_and_the_sets_once(
    cli: Cli, tiny_folder: Folder, tmp_path: Path
) -> None:
    given = tiny(tiny_folder("bert"), "method=simcse", "task=sts", "protocol=select")
    done = cli(*given, "budget.steps=6", "budget.evaluate=2", "lr=1e-2")
    assert done.code == 0, done.err
    [record] = read_all(tmp_path / "runs")
    assert [bool(e["scores"]) for e in record.evaluations] == [False, False, True]
    assert all("spearmanr" in e["selection"] for e in record.evaluations)
    assert record.selected is not None
    best = max(e["selection"]["spearmanr"] for e in record.evaluations)
    assert record.selected["score"] == best
    assert set(record.scores) == {"STS-B"}
