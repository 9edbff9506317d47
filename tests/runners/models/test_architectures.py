"""Every method works on every architecture, or refuses it in a sentence."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn import functional

from methods.method import Batch
from methods.surgery.representation import Representation
from results.errors import UserError
from results.record import read_all
from runners.config.check import RunConfig
from runners.contract.parts import prepared
from runners.data.split import Split
from runners.exports.delta import load_delta, save_delta
from runners.jobs.job import Job
from runners.models.build import count_parameters, load_pretrained
from runners.models.pretrained import load_model
from runners.models.weights import find_weights
from runners.tasks.collate import Collator
from runners.tasks.tokens import tokenize
from tests.conftest import EACH_KIND, Cli, architectures, configure, in_soak, narrow, task_of, tiny
from tests.tiny import ARCHITECTURES, SAMPLED, TEXTS

NO_CACHE = "takes no past keys and values"
TWICE = "t5 reads a text twice, in its encoder and in its decoder"
BARE = "xlnet has its queries, keys and values from bare parameters"
ON_MATRICES = (
    *("adalora", "beft", "boft", "delora", "dora", "fourierft", "hra", "ia3", "lily", "loha"),
    *("lokr", "lora", "lora_plus", "miss", "oft", "olora", "peft", "pissa", "randlora", "road"),
    *("rslora", "shira", "vblora", "vera"),
)
REFUSED = {
    ("bitfit", "modernbert"): "has no bias in its encoder",
    ("ia3", "modernbert"): "has one matrix for queries, keys and values",
    ("prefix", "deberta-v2"): NO_CACHE,
    ("prefix", "albert"): NO_CACHE,
    ("prefix", "distilbert"): NO_CACHE,
    ("prefix", "modernbert"): NO_CACHE,
    ("rdrop", "modernbert"): "as dropout is off; set budget.dropout=0.1",  # its configuration
    ("simcse", "albert"): "as dropout is off; set budget.dropout=0.1",  # its configuration
    ("simcse", "modernbert"): "as dropout is off; set budget.dropout=0.1",
    ("dp", "deberta-v2"): "LayerNorm is given (16, 32), no row of which is one example's",
    ("head_layers", "albert"): "layers share their weights",
    ("topk", "albert"): "layers share their weights",
    ("reinit", "albert"): "layers share their weights",
    ("unipelt", "deberta-v2"): "relative positions of its own",
    ("unipelt", "modernbert"): "has no normalisation after its feed-forward branch",
    ("dp", "mpnet"): "its Embedding is given (6, 6), no row of which is one example's",
    ("prefix", "mpnet"): NO_CACHE,
    ("unipelt", "mpnet"): "mpnet computes attention with relative positions of its own",
    ("adapter", "xlnet"): "xlnet projects its attention's output by a bare parameter",
    ("attributes", "xlnet"): "xlnet projects its attention's output by a bare parameter",
    ("compacter", "xlnet"): "xlnet projects its attention's output by a bare parameter",
    ("dp", "xlnet"): "no rule gives an example's share of a XLNetModel",
    ("hype", "xlnet"): "use method.hype.hidden_dropout=keep",
    ("mixout", "xlnet"): "the matrices of xlnet's attention are bare parameters",
    ("no_dropout", "xlnet"): "use method.no_dropout.attention=true",
    ("prefix", "xlnet"): NO_CACHE,
    ("sift", "xlnet"): "xlnet has 0 LayerNorms in its embeddings, one is needed",
    ("simcse", "xlnet"): "xlnet has no class token before a text",
    ("unipelt", "xlnet"): BARE,
    ("bitfit", "t5"): "has no bias in its encoder",
    ("dp", "t5"): "no rule gives an example's share of a T5LayerNorm",
    ("freelb", "t5"): TWICE,
    ("prefix", "t5"): "t5 has an encoder and a decoder, and a prefix is of one stack of layers",
    ("prompt", "t5"): TWICE,
    ("promptbert", "t5"): "this model's tokenizer has no mask token",
    ("r3f", "t5"): TWICE,
    ("raft", "t5"): "the encoder's activation is relu",
    ("sift", "t5"): "t5 has 0 LayerNorms in its embeddings, one is needed",
    ("simcse", "t5"): "t5 has no class token before a text",
    ("smart", "t5"): TWICE,
    ("unipelt", "t5"): "t5 has no normalisation after its feed-forward branch",
}
NO_MASKS = "none is known that predicts masked tokens"
REFUSED |= {
    ("neftune", "t5"): TWICE,
    ("attention_pool", "t5"): "t5 has its head read where each text ends",
    ("mlm_prompt", "xlnet"): NO_MASKS,
    ("mlm_prompt", "t5"): NO_MASKS,
    ("unimc", "xlnet"): NO_MASKS,
    ("unimc", "t5"): NO_MASKS,
    **{
        ("unimc", architecture): "options need absolute positions and two token types"
        for architecture in ("roberta", "deberta-v2", "distilbert", "modernbert", "mpnet")
    },
    **{(method, "xlnet"): BARE for method in ON_MATRICES},
}
METHODS = sorted({*EACH_KIND} - {"embedding"})  # it takes no step


def _all_or_some() -> list[Any]:
    """Every method on every architecture; of those that are sampled a sixth, all in make soak."""
    every = []
    for i, architecture in enumerate(ARCHITECTURES):
        for j, method in enumerate(METHODS):
            rest = architecture in SAMPLED and (i + j) % 6
            marks = (in_soak,) if rest else ()
            every.append(pytest.param(method, architecture, marks=marks))
    return every


@pytest.mark.parametrize(("method", "architecture"), _all_or_some())
def test_method_trains_or_refuses_each_architecture(
    method: str, architecture: str, tiny_folder: Callable[[str], Path]
) -> None:
    task = task_of(method, "rte")
    given = tiny(tiny_folder(architecture), *narrow(method), f"task={task}")
    reason = REFUSED.get((method, architecture))
    if reason is not None:
        with pytest.raises(UserError) as refused:
            _trained(given)
        assert reason in str(refused.value)
        return
    counted = _trained(given)
    if task == "sts":
        assert counted["trainable"] > 0
        return
    assert 0 < counted["trainable"] <= counted["total"]
    assert counted["trainable_without_head"] < counted["trainable"]
    assert (counted["trainable_without_head"] == 0) == (method == "linear")


# Options at which a method works where its defaults are refused.
OTHERWISE = {
    ("adapter", "xlnet"): "method.adapter.placement=pfeiffer",
    ("compacter", "xlnet"): "method.compacter.placement=ffn",
    ("dp", "mpnet"): "method.dp.part=1",
    ("dp", "xlnet"): "method.dp.part=1",
    ("dp", "t5"): "method.dp.part=1",
    ("hype", "xlnet"): "method.hype.hidden_dropout=keep",
    ("no_dropout", "xlnet"): "method.no_dropout.attention=true",
    ("simcse", "xlnet"): "method.simcse.pooling=mean",
    ("simcse", "t5"): "method.simcse.pooling=mean",
}


@pytest.mark.parametrize(
    ("method", "architecture"),
    [
        case
        for case in _all_or_some()
        if case.values[1] in SAMPLED and (case.values in OTHERWISE or case.values not in REFUSED)
    ],
)
def test_what_trains_keeps_its_promises(
    method: str, architecture: str, tiny_folder: Callable[[str], Path], tmp_path: Path
) -> None:
    """It starts at the base model unless it declares otherwise, moves what it declares, is saved.

    A delta of it gives the same answers. So too with options at which it is taken.
    """
    task = task_of(method, "rte")
    more = OTHERWISE.get((method, architecture))
    given = tiny(tiny_folder(architecture), *narrow(method), f"task={task}", "budget.warmup=0")
    config = configure(*given, *([] if more is None else [more]))
    loop, loaded = prepared(config)
    batch = loop.collate(np.arange(4))
    start = _answers(config, loop.model, batch)
    if not any(m.changes_start for m in config.methods):
        base = load_pretrained(config, find_weights(config.settings.model))
        assert torch.equal(_answers(config, base.model, batch), start)
    named = dict(loop.model.named_parameters())
    before = {n: p.detach().clone() for n, p in named.items()}
    loop.run(3)
    moved = {n for n, p in named.items() if not torch.equal(p, before[n])}
    assert moved
    assert moved <= {n for n, p in named.items() if p.requires_grad}
    answers = _answers(config, loop.model, batch)
    assert torch.isfinite(answers).all()
    save_delta(tmp_path / "delta", loop.model, loaded.head, Job(config))
    fresh = load_delta(tmp_path / "delta")
    assert torch.equal(_answers(fresh.config, fresh.loaded.model, batch), answers)


def _answers(config: RunConfig, model: Any, batch: Batch) -> torch.Tensor:
    """Return the logits of a batch, or the vectors of its sentences, in evaluation."""
    [method] = config.methods
    model.eval()
    with torch.no_grad():
        answers: torch.Tensor = (
            method.vectors(model, batch)
            if isinstance(method, Representation)
            else model(**batch).logits
        )
    model.train()
    return answers


@pytest.mark.parametrize("architecture", architectures("xlnet", "t5"))
def test_vectors_of_each_architecture_are_scored(
    architecture: str, tiny_folder: Callable[[str], Path], cli: Cli, tmp_path: Path
) -> None:
    done = cli(*tiny(tiny_folder(architecture), "method=embedding", "task=sts"))
    assert done.code == 0, done.err
    [record] = read_all(tmp_path / "runs")
    assert record.parameters["trainable"] == 0
    assert record.score is not None


def _trained(given: list[str]) -> dict[str, int]:
    """Train as a run would; return the counts of its parameters."""
    config = configure(*given)
    loop, loaded = prepared(config)
    loop.run(loop.steps)
    losses = torch.tensor(loop.progress.losses)
    assert len(losses) == loop.steps
    assert torch.isfinite(losses).all()
    return count_parameters(loop.model, loaded.head, config.methods)


@pytest.mark.parametrize("architecture", architectures("xlnet", "t5"))
def test_padding_does_not_change_logits(
    architecture: str, tiny_folder: Callable[[str], Path]
) -> None:
    settings = configure(*tiny(tiny_folder(architecture), "task=rte")).settings
    weights = find_weights(settings.model)
    loaded = load_model(weights, settings.task, 0, 48, None)
    pairs = tuple((a, b) for a, b in zip(TEXTS, [*TEXTS[1:], "dogs"], strict=True))
    tokens = tokenize(Split("train", pairs, None), loaded.tokenizer, weights, 48)
    assert len(set(tokens.lengths.tolist())) > 1
    tokenizer: Any = loaded.tokenizer
    collate = Collator(tokens, None, tokenizer.pad_token_id, tokenizer.padding_side == "left")
    model = loaded.model.eval()
    with torch.no_grad():
        together = model(**collate(torch.arange(len(pairs)).numpy())).logits
        for i in range(len(pairs)):
            alone = model(**collate(torch.tensor([i]).numpy())).logits
            assert torch.allclose(together[i], alone[0], atol=1e-5)
        whole = collate(torch.arange(len(pairs)).numpy())
        sides = (9, 0) if collate.pad_left else (0, 9)
        fill = {"input_ids": collate.pad_id}
        longer = {n: functional.pad(t, sides, value=fill.get(n, 0)) for n, t in whole.items()}
        assert torch.allclose(model(**longer).logits, together, atol=1e-5)


@pytest.mark.parametrize("architecture", architectures("xlnet", "t5"))
def test_batches_equal_what_the_tokenizer_itself_returns(
    architecture: str, tiny_folder: Callable[[str], Path]
) -> None:
    settings = configure(*tiny(tiny_folder(architecture), "task=rte")).settings
    weights = find_weights(settings.model)
    loaded = load_model(weights, settings.task, 0, 12, None)
    first, second = TEXTS[:3], TEXTS[2:5]
    split = Split("train", tuple(zip(first, second, strict=True)), (0, 1, 0))
    tokens = tokenize(split, loaded.tokenizer, weights, 12)
    tokenizer: Any = loaded.tokenizer
    left = tokenizer.padding_side == "left"
    ours = Collator(tokens, None, tokenizer.pad_token_id, left)(torch.arange(3).numpy())
    theirs = tokenizer(
        first, second, truncation=True, max_length=12, padding="longest", return_tensors="pt"
    )
    assert set(ours) == set(theirs)
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)
