"""R3F, written out with the model's own input of embeddings."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch.nn import functional

from results.errors import UserError
from runners.contract.parts import prepared
from tests.conftest import configure, tiny
from tests.methods.reference import Model, inner_stream, largest_difference, train, trained

Folder = Callable[[str], Path]
Batch = dict[str, torch.Tensor]


def _apart(one: torch.Tensor, other: torch.Tensor, task: str) -> torch.Tensor:
    if task == "stsb":
        return ((one - other) ** 2).mean()
    p, q = one.softmax(-1), other.softmax(-1)
    return ((p * (p / q).log()) + (q * (q / p).log())).sum() / len(p)


@pytest.mark.parametrize(
    ("task", "distribution"), [("mrpc", "uniform"), ("mrpc", "normal"), ("stsb", "uniform")]
)
def test_r3f_equals_its_two_passes_written_out(
    task: str, distribution: str, tiny_folder: Folder
) -> None:
    folder, draws = tiny_folder("bert"), inner_stream("r3f")

    def loss_of(model: Model, batch: Batch) -> torch.Tensor:
        clean = model(**batch)
        words = functional.embedding(
            batch["input_ids"], model.bert.embeddings.word_embeddings.weight.detach()
        )
        if distribution == "normal":
            z = 0.2 * torch.randn(words.shape, generator=draws)
        else:
            z = 0.4 * torch.rand(words.shape, generator=draws) - 0.2
        rest = {k: v for k, v in batch.items() if k not in ("input_ids", "labels")}
        second = model(inputs_embeds=words + z, **rest)
        return clean.loss + 2.0 * _apart(second.logits, clean.logits, task)

    options = ("weight=2", "eps=0.2", f"distribution={distribution}")
    ours = trained(folder, "method=r3f", *(f"method.r3f.{o}" for o in options), task=task)
    assert largest_difference(ours, train(folder, loss_of=loss_of, task=task)) < 1e-5
    assert largest_difference(ours, train(folder, task=task)) > 1e-4


def test_r3fs_published_term_vanishes_in_regression(tiny_folder: Folder) -> None:
    """Without dropout: the second pass draws its own else."""
    quiet = ("budget.dropout=0", "method.r3f.eps=0.2")
    published = trained(
        tiny_folder("bert"), "method=r3f", *quiet, "method.r3f.regression=published", task="stsb"
    )
    squared = trained(tiny_folder("bert"), "method=r3f", *quiet, task="stsb")
    plain = trained(tiny_folder("bert"), "method=full", "budget.dropout=0", task="stsb")
    assert largest_difference(published, plain) == 0
    assert largest_difference(squared, plain) > 1e-5


def test_noise_that_rounding_loses_is_refused(tiny_folder: Folder) -> None:
    given = [*tiny(tiny_folder("bert"), "task=mrpc"), "method=r3f", "precision=bf16"]
    with pytest.raises(UserError, match="method=r3f: noise of eps=1e-05 is lost in bf16"):
        prepared(configure(*given))
