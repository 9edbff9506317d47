"""NEFTune, written out text by text with the model's own input of embeddings."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from methods.neftune import Neftune
from results.errors import UserError
from runners.contract.parts import prepared
from runners.tasks.collate import Collate
from tests.conftest import configure, tiny
from tests.methods.reference import Model, inner_stream, largest_difference, train, trained
from tests.shapes import setting_of
from tests.tiny import tiny_batch, tiny_model

Folder = Callable[[str], Path]
Batch = dict[str, torch.Tensor]
LONGEST = 48  # budget=smoke


@pytest.mark.parametrize("task", ["mrpc", "stsb"])
def test_neftune_equals_its_noise_written_out(task: str, tiny_folder: Folder) -> None:
    folder, draws = tiny_folder("bert"), inner_stream("neftune")

    def loss_of(model: Model, batch: Batch) -> torch.Tensor:
        words = model.bert.embeddings.word_embeddings(batch["input_ids"])
        noised = words.clone()
        for row, ids in enumerate(words):
            tokens = int(batch["attention_mask"][row].sum())
            epsilon = 2 * torch.rand(LONGEST, ids.shape[1], generator=draws) - 1
            noised[row, :tokens] = (
                ids[:tokens] + 40 / (tokens * ids.shape[1]) ** 0.5 * epsilon[:tokens]
            )
        rest = {k: v for k, v in batch.items() if k != "input_ids"}
        loss: torch.Tensor = model(inputs_embeds=noised, **rest).loss
        return loss

    ours = trained(folder, "method=neftune", "method.neftune.alpha=40", task=task)
    assert largest_difference(ours, train(folder, loss_of=loss_of, task=task)) < 1e-5
    assert largest_difference(ours, train(folder, task=task)) > 1e-4


def _padded(batch: Batch, model: Any, places: int, left: bool) -> Batch:
    pad, both = model.config.pad_token_id, (places, 0) if left else (0, places)
    return {
        name: torch.nn.functional.pad(t, both, value=pad if name == "input_ids" else 0)
        for name, t in batch.items()
        if t.ndim == 2
    }


@pytest.mark.parametrize("left", [False, True])
def test_noise_does_not_depend_on_padding(left: bool, tiny_folder: Folder) -> None:
    model, batch = tiny_model(tiny_folder("bert")), tiny_batch(tiny_folder("bert"))
    method, setting = Neftune(), setting_of(model)
    method.prepare(model, setting)
    method.left = left
    plain, seen = model.get_input_embeddings().weight, []
    model.get_input_embeddings().register_forward_hook(lambda m, i, output: seen.append(output))
    model.get_input_embeddings().train()
    state, length = method.state_dict(), batch["input_ids"].shape[1]
    for places in (0, 7):
        method.load_state_dict(state)
        further = _padded(batch, model, places, left)
        model(**further)
        noise = seen[-1] - plain[further["input_ids"]]
        assert not noise[further["attention_mask"] == 0].any()
        seen[-1] = noise[:, -length:] if left else noise[:, :length]
    assert torch.equal(seen[0], seen[1])
    assert seen[0].any()


def test_batches_padded_for_a_gpu_train_to_the_same_weights(tiny_folder: Folder) -> None:
    """Without dropout, which is drawn for padding too."""
    given = tiny(tiny_folder("bert"), "task=cola", "method=neftune", "budget.dropout=0")
    ended, widths = [], []
    for multiple in (1, 8):
        loop, _ = prepared(configure(*given))
        collate: Collate = loop.collate.padded_to(multiple)
        loop.collate = collate
        widths.append({loop.collate.shape(i)[1] for i in loop.order.batches(0, 4)})
        loop.run(4)
        ended.append({n: p.detach().clone() for n, p in loop.model.named_parameters()})
    assert widths[0] != widths[1]
    assert largest_difference(*ended) < 1e-5


def test_noise_has_the_papers_length(tiny_folder: Folder) -> None:
    """Entries within alpha / √(L d), and a norm near alpha / √3 for a text of any length."""
    model, batch = tiny_model(tiny_folder("bert")), tiny_batch(tiny_folder("bert"))
    Neftune(alpha=15).prepare(model, setting_of(model))
    embedding, seen = model.get_input_embeddings(), []
    embedding.register_forward_hook(lambda m, i, output: seen.append(output))
    model(**batch)
    assert torch.equal(seen[0], embedding.weight[batch["input_ids"]])  # in evaluation
    embedding.train()
    model(**batch)
    noise = (seen[1] - embedding.weight[batch["input_ids"]]).detach()
    for row, length in zip(noise, batch["attention_mask"].sum(1).tolist(), strict=True):
        bound = 15 / (length * row.shape[1]) ** 0.5
        assert 0.9 * bound < float(row.abs().max()) <= bound * 1.001
        assert float(row.norm()) == pytest.approx(15 / 3**0.5, rel=0.15)


@pytest.mark.parametrize(
    "order", ["neftune,prefix", "prefix,neftune", "neftune,prompt", "prompt,neftune"]
)
def test_virtual_tokens_are_not_counted_and_have_no_noise(order: str, tiny_folder: Folder) -> None:
    loop, _ = prepared(configure(*tiny(tiny_folder("bert"), "task=mrpc", f"method=[{order}]")))
    batch = loop.batch(next(iter(loop.order.batches(0, 1))))
    embedding, seen = loop.model.get_input_embeddings(), []  # type: ignore[operator]
    embedding.register_forward_hook(lambda m, i, output: seen.append(output))
    embedding.train()
    loop.model(**batch)
    noise = seen[0] - torch.nn.functional.embedding(batch["input_ids"], embedding.weight)
    assert torch.equal(noise.abs().amax(-1) > 0, batch["attention_mask"] > 0)
    tokens = batch["attention_mask"].sum(1)
    largest = noise.abs().amax((1, 2)) * (tokens * noise.shape[2]).sqrt()
    assert bool(((largest > 0.9 * 5) & (largest < 1.001 * 5)).all())


@pytest.mark.parametrize("other", ["r3f", "freelb", "smart", "sift"])
def test_each_pass_has_noise_of_its_own_in_either_order(other: str, tiny_folder: Folder) -> None:
    """Apart from sift's, which are of the clean pass's embeddings; what they add is far smaller."""
    versions = []
    for order in (f"neftune,{other}", f"{other},neftune"):
        config = configure(*tiny(tiny_folder("bert"), "task=mrpc", f"method=[{order}]"))
        versions += [m["version"] for m in config.method_options() if m["name"] == other]
        loop, _ = prepared(config)
        model: Any = loop.model.train()
        seen: list[torch.Tensor] = []
        norm = model.bert.embeddings.LayerNorm
        norm.register_forward_hook(lambda m, given, output, seen=seen: seen.append(given[0]))
        [owner] = [m for m in loop.methods if "loss" in m.owns]
        owner.loss(model, loop.batch(next(iter(loop.order.batches(0, 1)))), loop.forward)
        apart = [float((one - seen[0]).detach().abs().max()) for one in seen[1:]]
        assert apart
        assert all(0 < a < 0.03 if other == "sift" else a > 0.15 for a in apart)
    assert versions[0] - versions[1] == (other == "r3f")


def test_r3f_is_the_version_that_it_was_behind_no_noise(tiny_folder: Folder) -> None:
    given = tiny(tiny_folder("bert"), "task=mrpc", "method=[neftune,r3f]")
    for more, version in ((), 2), (("method.neftune.alpha=0",), 1), (("method.r3f.weight=0",), 1):
        assert configure(*given, *more).method_options()[1]["version"] == version


@pytest.mark.parametrize("alpha", ["-1", "much", "null"])
def test_a_wrong_alpha_is_named(alpha: str, tiny_folder: Folder) -> None:
    given = tiny(tiny_folder("bert"), "task=mrpc", "method=neftune")
    with pytest.raises(UserError, match=r"method\.neftune\.alpha"):
        configure(*given, f"method.neftune.alpha={alpha}")
