"""FreeLB, written out pass by pass with the model's own input of embeddings."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from methods.freelb import FreeLb
from tests.methods.reference import Model, inner_stream, largest_difference, train, trained

Folder = Callable[[str], Path]
Batch = dict[str, torch.Tensor]


def _options(**given: object) -> list[str]:
    return ["method=freelb", *(f"method.freelb.{k}={v}" for k, v in given.items())]


@pytest.mark.parametrize("radius", [0.0, 0.15])
@pytest.mark.parametrize("task", ["mrpc", "stsb"])
def test_freelb_is_the_mean_gradient_of_its_passes(
    task: str, radius: float, tiny_folder: Folder
) -> None:
    """Each pass is a graph of its own here, and one backward pass is over the mean of all."""
    folder, draws = tiny_folder("bert"), inner_stream("freelb")

    def loss_of(model: Model, batch: Batch) -> torch.Tensor:
        rest = {k: v for k, v in batch.items() if k != "input_ids"}
        words = model.bert.embeddings.word_embeddings(batch["input_ids"])
        rows, _, width = words.shape
        delta = torch.zeros_like(words)
        noise = 0.6 * torch.rand(words.shape, generator=draws) - 0.3
        for row in range(rows):
            tokens = int(batch["attention_mask"][row].sum())
            delta[row, :tokens] = noise[row, :tokens] / (tokens * width) ** 0.5
        losses, stream = [], torch.get_rng_state()
        for _ in range(3):
            torch.set_rng_state(stream)
            delta = delta.detach().requires_grad_(True)
            losses.append(model(inputs_embeds=words + delta, **rest).loss)
            [gradient] = torch.autograd.grad(losses[-1], delta, retain_graph=True)
            delta = delta.detach()
            for row in range(rows):
                delta[row] += 0.1 * gradient[row] / gradient[row].norm()
                if radius and delta[row].norm() > radius:
                    delta[row] *= radius / delta[row].norm()
        return torch.stack(losses).mean()

    ours = trained(folder, *_options(passes=3, step=0.1, start=0.3, radius=radius), task=task)
    assert largest_difference(ours, train(folder, loss_of=loss_of, task=task)) < 1e-5
    assert largest_difference(ours, train(folder, task=task)) > 1e-4


def test_dropout_that_differs_between_passes_is_another_run(tiny_folder: Folder) -> None:
    same, other = (
        trained(tiny_folder("bert"), *_options(same_dropout=v)) for v in ("true", "false")
    )
    assert largest_difference(same, other) > 1e-5


def test_a_step_has_its_length_and_stays_in_its_radius() -> None:
    draws = torch.Generator().manual_seed(0)
    delta, gradient = (torch.randn(5, 7, 3, generator=draws) for _ in range(2))
    free = FreeLb(step=0.5).moved(delta, gradient)
    assert torch.allclose((free - delta).flatten(1).norm(dim=1), torch.full((5,), 0.5))
    bound = FreeLb(step=0.5, radius=0.2).moved(delta, gradient)
    assert torch.allclose(bound.flatten(1).norm(dim=1), torch.full((5,), 0.2))
    still = FreeLb().moved(delta, torch.zeros_like(gradient))
    assert torch.equal(still, delta)
