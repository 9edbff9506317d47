"""R3F, written out with the model's own input of embeddings."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch.nn import functional
from torch.nn.utils import parametrizations

from methods.r3f import R3f
from methods.surgery.places import last_of_head
from results.errors import UserError
from runners.contract.guard import AS_ON_A_GPU, hindrances
from runners.contract.parts import prepared
from runners.exports.delta import load_delta, save_delta
from runners.exports.model import checked_model
from runners.jobs.job import Job
from runners.models.build import count_parameters, trained_sha256
from tests.conftest import configure, tiny
from tests.methods.reference import Model, inner_stream, largest_difference, stream, train, trained
from tests.shapes import setting_of
from tests.tiny import tiny_batch, tiny_model

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


R4F = ("method=r3f", "method.r3f.spectral_norm=true")


def _by_torch(model: Model) -> None:
    """Bound the head by torch's own parametrisation, from the vectors that the method draws."""
    parametrizations.spectral_norm(model.classifier)
    norm, draws = model.classifier.parametrizations.weight[0], stream("r3f")
    torch.randint(2**62, (), generator=draws)  # the seed of the noise
    for vector in (norm._u, norm._v):
        vector.copy_(functional.normalize(torch.randn(len(vector), generator=draws), dim=0))
    norm._power_method(model.classifier.parametrizations.weight.original, 15)


@pytest.mark.parametrize("task", ["mrpc", "stsb"])
def test_r4f_equals_torchs_spectral_norm_of_the_head(task: str, tiny_folder: Folder) -> None:
    folder = tiny_folder("bert")
    ours = trained(folder, *R4F, "method.r3f.weight=0", task=task)
    theirs = train(folder, start=lambda model, loaded: _by_torch(model), task=task)
    theirs["classifier.weight"] = theirs.pop("classifier.parametrizations.weight.original")
    assert largest_difference(ours, theirs) < 1e-5
    assert largest_difference(ours, train(folder, task=task)) > 1e-3


def test_r4f_leaves_a_head_of_norm_one_wherever_it_is_saved(
    tiny_folder: Folder, tmp_path: Path
) -> None:
    config = configure(*tiny(tiny_folder("bert"), "task=mrpc", "lr=1e-2", *R4F))
    loop, loaded = prepared(config)
    loop.run(loop.steps)
    weight = loop.model.classifier.weight  # type: ignore[union-attr]
    largest = float(torch.linalg.matrix_norm(weight.detach(), 2))
    assert abs(largest - 1) > 1e-2
    batch = loop.collate(next(iter(loop.order.batches(0, 1))))
    loop.model.eval()
    logits = loop.model(**batch).logits
    save_delta(tmp_path / "delta", loop.model, loaded.head, Job(config))
    fresh = load_delta(tmp_path / "delta").loaded.model
    assert torch.equal(fresh(**batch).logits, logits)
    for model in (fresh, checked_model(loaded, config)):
        torch.testing.assert_close(model.classifier.weight, weight / largest, rtol=1e-2, atol=0)
    counts = count_parameters(loop.model, loaded.head, config.methods)
    plain, loaded = prepared(configure(*tiny(tiny_folder("bert"), "task=mrpc", "method=r3f")))
    assert counts == count_parameters(plain.model, loaded.head, plain.methods)


def test_r4f_resumed_is_r4f_uninterrupted(tiny_folder: Folder) -> None:
    given = tiny(tiny_folder("bert"), "task=mrpc", *R4F, "budget.steps=6")
    whole, _ = prepared(configure(*given))
    whole.run(3)
    state = whole.state_dict()
    whole.run(6)
    second, _ = prepared(configure(*given))
    second.load_state_dict(state)
    second.run(6)
    assert trained_sha256(second.model) == trained_sha256(whole.model)


@pytest.mark.parametrize("architecture", ["roberta", "distilbert", "deberta-v2", "modernbert"])
def test_the_bound_layer_is_the_one_that_gives_the_logits(
    architecture: str, tiny_folder: Folder
) -> None:
    model, batch = tiny_model(tiny_folder(architecture)), tiny_batch(tiny_folder(architecture))
    given: list[torch.Tensor] = []
    setting = setting_of(model)
    R3f(spectral_norm=True).prepare(model, setting)
    layer, _ = last_of_head(model, setting.head, "")
    layer.register_forward_hook(lambda module, inputs, output: given.append(output))
    assert torch.equal(model(**batch).logits, given[0])


def test_r4f_where_it_cannot_be_is_refused(tiny_folder: Folder) -> None:
    given = [*tiny(tiny_folder("bert"), "task=mrpc"), *R4F[1:]]
    with pytest.raises(UserError, match=r"r3f and mixout both in one run: .*the head's matrix"):
        configure(*given, "method=[r3f,mixout]", "method.mixout.head=mixed")
    configure(*given, "method=[r3f,mixout]")
    with pytest.raises(UserError, match=r"method\.r3f\.spectral_norm"):
        configure(*given[:-1], "method=r3f", "method.r3f.spectral_norm=classifier")
    with pytest.raises(UserError, match="no linear layer gives the logits"):
        last_of_head(tiny_model(tiny_folder("bert")), frozenset(), "method.r3f.spectral_norm=true")


def test_a_run_without_spectral_norm_keeps_its_name(tiny_folder: Folder) -> None:
    given = [*tiny(tiny_folder("bert"), "task=mrpc"), "method=r3f"]
    [facts] = configure(*given).method_options()
    assert "spectral_norm" not in facts
    [facts] = configure(*given, *R4F[1:]).method_options()
    assert facts["spectral_norm"] is True


def test_a_step_of_r4f_may_be_captured(tiny_folder: Folder) -> None:
    loop, _ = prepared(configure(*tiny(tiny_folder("bert"), "task=mrpc", *R4F, *AS_ON_A_GPU)))
    assert hindrances(loop, loop.batch(next(iter(loop.order.batches(0, 1))))) == []
