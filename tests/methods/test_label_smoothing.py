"""Label smoothing against torch's own, and where it reaches."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn.functional import cross_entropy

from methods.label_smoothing import LabelSmoothing
from methods.method import Batch
from results.errors import UserError
from runners.contract.parts import prepared as of_config
from runners.tasks.kinds import kind_of
from tests.conftest import configure, tiny
from tests.methods.reference import (
    Model,
    largest_difference,
    prepared,
    prepared_run,
    train,
    trained,
)

Folder = Callable[[str], Path]
METHOD = ("method=label_smoothing", "method.label_smoothing.epsilon=0.3")


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize("weighed", [False, True])
@pytest.mark.parametrize("epsilon", [0.1, 0.9])
def test_loss_and_gradient_are_torchs(epsilon: float, weighed: bool, reduction: str) -> None:
    draws = torch.Generator().manual_seed(0)
    logits = (5 * torch.randn(12, 4, generator=draws)).requires_grad_(True)
    labels = torch.randint(4, (12,), generator=draws)
    weights = torch.tensor([0.2, 1.0, 3.5, 0.0]) if weighed else None
    method = LabelSmoothing(epsilon=epsilon)
    ours = method.smoothed(logits, labels, weights, reduction=reduction)
    theirs = cross_entropy(logits, labels, weights, reduction=reduction, label_smoothing=epsilon)
    if not weighed:
        assert torch.equal(ours, theirs)
    torch.testing.assert_close(ours, theirs)
    both = [
        torch.autograd.grad(loss.sum(), logits, retain_graph=True)[0] for loss in (ours, theirs)
    ]
    torch.testing.assert_close(*both)
    by_hand = torch.full((12, 4), epsilon / 4)
    by_hand[torch.arange(12), labels] += 1 - epsilon
    terms = -by_hand * logits.log_softmax(-1) * (1 if weights is None else weights)
    if reduction == "mean":
        total = 12 if weights is None else weights[labels].sum()
        torch.testing.assert_close(ours, terms.sum() / total)
    else:
        torch.testing.assert_close(ours.sum(), terms.sum())


def test_training_is_by_torchs_smoothed_loss(tiny_folder: Folder) -> None:
    def loss_of(model: Model, batch: Batch) -> torch.Tensor:
        logits = model(**{k: v for k, v in batch.items() if k != "labels"}).logits
        return cross_entropy(logits, batch["labels"], label_smoothing=0.3)

    folder = tiny_folder("bert")
    ours = trained(folder, *METHOD)
    assert largest_difference(ours, train(folder, loss_of=loss_of)) < 1e-6
    assert largest_difference(ours, train(folder)) > 1e-4


@pytest.mark.parametrize("weights", [None, [1.0, 3.5]])
def test_losses_of_training_are_smoothed_and_answers_are_not(
    weights: list[float] | None, tiny_folder: Folder
) -> None:
    given = [] if weights is None else [f"task.class_weights={weights}".replace(" ", "")]
    ready = prepared_run(tiny_folder("bert"), *METHOD, *given)
    plain = prepared_run(tiny_folder("bert"), *given)
    batch = ready.loop.batch(np.arange(12))
    for one in (ready, plain):
        one.loop.model.eval()
    output, without = ready.loop.forward(batch), plain.loop.forward(batch)
    assert torch.equal(output.logits, without.logits)
    of_classes = None if weights is None else torch.tensor(weights)
    expected = cross_entropy(output.logits, batch["labels"], of_classes, label_smoothing=0.3)
    torch.testing.assert_close(output.loss, expected)
    assert not torch.equal(output.loss, without.loss)
    unlabelled = {k: v for k, v in batch.items() if k != "labels"}
    answers = [r.kind.answer(r.loop.model, unlabelled) for r in (ready, plain)]
    assert torch.equal(*answers)
    if weights is None:  # of each example, as dp asks for them
        losses = ready.kind.losses(ready.loop.model, batch)
        assert losses is not None
        torch.testing.assert_close(losses.mean(), expected)


@pytest.mark.parametrize("owner", ["rdrop", "r3f", "freelb", "smart", "sift"])
def test_methods_that_own_the_loss_smooth_the_tasks_part_of_it(
    owner: str, tiny_folder: Folder
) -> None:
    """Their own part is the same: both differ by what smoothing does to the task's loss."""
    seen, parts = [], []
    for given in (f"method=[{owner},label_smoothing]", f"method={owner}"):
        loop, _ = prepared(tiny_folder("bert"), given, "budget.dropout=0")
        batch, losses = loop.batch(np.arange(8)), list[torch.Tensor]()

        def forward(
            part: Batch, own: object = loop.forward, kept: list[torch.Tensor] = losses
        ) -> object:
            output = own(part)  # type: ignore[operator]
            kept.append(output.loss.detach())
            return output

        loss = loop.methods[0].loss(loop.model, batch, forward)  # type: ignore[arg-type]
        seen.append(loss.item())
        counted = {"rdrop": losses, "freelb": losses}.get(owner, losses[:1])
        parts.append(float(torch.stack(counted).mean()))
    assert parts[0] != parts[1]
    assert seen[0] - seen[1] == pytest.approx(parts[0] - parts[1], abs=1e-5)


def test_fisher_information_is_of_the_task_as_it_is(tiny_folder: Folder) -> None:
    masks = []
    for given in ("method=[label_smoothing,child_tuning_d]", "method=child_tuning_d"):
        loop, _ = prepared(tiny_folder("bert"), given)
        masks.append(loop.methods[-1].tensors())
    assert all(torch.equal(masks[0][n], masks[1][n]) for n in masks[1])


def test_masked_tokens_are_smoothed_over_the_vocabulary(tiny_folder: Folder) -> None:
    loop, _ = prepared(tiny_folder("bert"), *METHOD, "mlm.on=[rte]", task="mlm")
    batch = loop.batch(np.arange(8))
    output = loop.forward(batch)
    labels = batch["labels"][batch["masked"]]
    expected = cross_entropy(output.logits, labels, label_smoothing=0.3)
    torch.testing.assert_close(output.loss, expected)


def test_a_mixture_smooths_its_tasks_with_labels(tiny_folder: Folder) -> None:
    """A batch of a task with scores has the squared error."""
    folder, losses = tiny_folder("bert"), dict[int, list[float]]()
    for given in (METHOD, ()):
        config = configure(*tiny(folder, "mix=[rte,stsb]", *given))
        loop, _ = of_config(config)
        loop.model.eval()
        for indices in loop.order.batches(0, 6):
            batch = loop.batch(indices)
            group = int(batch["group"][0])
            losses.setdefault(group, []).append(float(loop.forward(batch).loss.detach()))
    assert set(losses) == {0, 1}
    for group, both in losses.items():
        half = len(both) // 2
        assert (both[:half] == both[half:]) == (group == 1)


@pytest.mark.parametrize(
    ("typed", "said"),
    [
        (["task=mrpc", "method.label_smoothing.epsilon=1"], "method.label_smoothing.epsilon=1"),
        (["task=mrpc", "method.label_smoothing.epsilon=-0.1"], "epsilon=-0.1"),
        (["task=mrpc", "method.label_smoothing.epsilon=.nan"], "method.label_smoothing.epsilon"),
        (
            ["task=stsb"],
            "method=label_smoothing changes the loss of labels; task=stsb has scores: leave"
            " label_smoothing out",
        ),
        (["task=mrpc", "method=[setfit,label_smoothing]"], "both say what the loss of labels is"),
        (["task=sts"], "task=sts compares vectors of sentences, which method=label_smoothing"),
        (
            ["task=sts", "method=[label_smoothing,simcse]"],
            "label_smoothing and simcse both say what the loss of labels is",
        ),
    ],
)
def test_what_cannot_be_is_refused_in_a_sentence(
    typed: list[str], said: str, tiny_folder: Folder
) -> None:
    with pytest.raises(UserError) as refused:
        configure(*tiny(tiny_folder("bert")), METHOD[0], *typed)
    assert said in str(refused.value)


def test_paused_it_leaves_the_loss_alone(tiny_folder: Folder) -> None:
    config = configure(*tiny(tiny_folder("bert"), "task=mrpc"), *METHOD)
    kind = kind_of(replace(config))
    [method] = config.methods
    assert kind.criterion == method.criterion  # type: ignore[attr-defined]
    method.paused = True
    assert kind.criterion is cross_entropy  # type: ignore[attr-defined]
