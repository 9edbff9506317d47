"""Every method works on every architecture, or refuses it in a sentence."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from results.errors import UserError
from results.record import read_all
from runners.contract.parts import prepared
from runners.data.split import Split
from runners.models.build import count_parameters
from runners.models.pretrained import load_model
from runners.models.weights import find_weights
from runners.tasks.collate import Collator
from runners.tasks.tokens import tokenize
from tests.conftest import EACH_KIND, Cli, configure, narrow, task_of, tiny
from tests.tiny import ARCHITECTURES, TEXTS

NO_CACHE = "takes no past keys and values"
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
}


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("method", sorted({*EACH_KIND} - {"embedding"}))  # it takes no step
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


@pytest.mark.parametrize("architecture", ARCHITECTURES)
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


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_padding_does_not_change_logits(
    architecture: str, tiny_folder: Callable[[str], Path]
) -> None:
    settings = configure(*tiny(tiny_folder(architecture), "task=rte")).settings
    weights = find_weights(settings.model)
    loaded = load_model(weights, settings.task, 0, 48, None)
    pairs = tuple((a, b) for a, b in zip(TEXTS, [*TEXTS[1:], "dogs"], strict=True))
    tokens = tokenize(Split("train", pairs, None), loaded.tokenizer, weights, 48)
    assert len(set(tokens.lengths.tolist())) > 1
    collate = Collator(tokens, None, loaded.tokenizer.pad_token_id)
    model = loaded.model.eval()
    with torch.no_grad():
        together = model(**collate(torch.arange(len(pairs)).numpy())).logits
        for i in range(len(pairs)):
            alone = model(**collate(torch.tensor([i]).numpy())).logits
            assert torch.allclose(together[i], alone[0], atol=1e-5)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_batches_equal_what_the_tokenizer_itself_returns(
    architecture: str, tiny_folder: Callable[[str], Path]
) -> None:
    settings = configure(*tiny(tiny_folder(architecture), "task=rte")).settings
    weights = find_weights(settings.model)
    loaded = load_model(weights, settings.task, 0, 12, None)
    first, second = TEXTS[:3], TEXTS[2:5]
    split = Split("train", tuple(zip(first, second, strict=True)), (0, 1, 0))
    tokens = tokenize(split, loaded.tokenizer, weights, 12)
    ours = Collator(tokens, None, loaded.tokenizer.pad_token_id)(torch.arange(3).numpy())
    theirs = loaded.tokenizer(
        first, second, truncation=True, max_length=12, padding="longest", return_tensors="pt"
    )
    assert set(ours) == set(theirs)
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)
