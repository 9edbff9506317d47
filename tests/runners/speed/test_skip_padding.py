"""Linear layers without padded places: the same numbers and draws, fewer products, a switch."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from results.record import read_all
from runners.speed import skip_padding
from runners.speed.lever import Start
from runners.speed.skip_padding import WORTH, Real, RealLinear, SkipPadding
from runners.training import loop as training
from tests.conftest import EACH_KIND, Cli, narrow, task_of, tiny
from tests.methods.reference import prepared_run
from tests.tiny import ARCHITECTURES, tiny_batch, tiny_model

Folder = Callable[[str], Path]
KNOWN = ("bert", "roberta", "electra", "distilbert", "albert")
WHOLE = ("mixout",)  # it computes its linear layers in its own way
# Vectors are differences in which it cancels: of a gradient of rounding AdamW makes a step.
CANCELS = {"promptbert": "bert.encoder.layer.1.output.LayerNorm.bias"}
TRAINED = [name for name in EACH_KIND if name != "embedding"]


def _started(folder: Path, on: bool, *arguments: str, task: str = "mrpc") -> Any:
    """Return a tiny run's loop after its levers have acted."""
    given = (f"speed.skip_padding={str(on).lower()}", "precision=fp32", *arguments)
    ready = prepared_run(folder, *given, task=task)
    ready.loop.start(ready.encoded)
    return ready.loop


def _skipped(model: nn.Module) -> bool:
    return any(isinstance(module, RealLinear) for module in model.modules())


@pytest.fixture
def always(monkeypatch: pytest.MonkeyPatch) -> None:
    """Skip padding in every batch that has any."""
    monkeypatch.setattr(skip_padding, "WORTH", 1.0)


def _train(loop: Any) -> tuple[dict[str, torch.Tensor], list[float]]:
    """Return what a loop's weights and losses come to, in batches with padding."""
    loop.run(loop.steps)
    assert loop.progress.real_tokens < loop.progress.padded_tokens
    loop.finish()
    assert not _skipped(loop.model)
    return {n: p.detach() for n, p in loop.model.named_parameters()}, loop.progress.losses


def _is_the_same_either_way(folder: Path, method: str, task: str, *arguments: str) -> None:
    """Six steps with dropout and the method's own draws."""
    trained = []
    for on in (True, False):
        given = (*narrow(method), "budget.steps=6", "budget.max_length=54", *arguments)
        loop = _started(folder, on, *given, task=task)
        assert _skipped(loop.model) == (on and method not in WHOLE)
        trained.append(_train(loop))
    (ours, losses), (theirs, plain) = trained
    assert losses == pytest.approx(plain, rel=1e-4)
    for name, tensor in theirs.items():
        # A gradient next to nought, which AdamW makes a step of, differs in a few elements.
        off = (ours[name] - tensor).abs()
        assert float(off.median()) < 1e-6 or name == CANCELS.get(method), name
        assert float(off.mean()) < 1e-4, name


@pytest.mark.parametrize("method", TRAINED)
def test_every_method_trains_to_the_same_weights(
    method: str, tiny_folder: Folder, always: None
) -> None:
    _is_the_same_either_way(tiny_folder("bert"), method, task_of(method, "sst2"))


@pytest.mark.parametrize("architecture", KNOWN)
def test_masked_text_trains_to_the_same_weights(
    architecture: str, tiny_folder: Folder, always: None
) -> None:
    _is_the_same_either_way(tiny_folder(architecture), "full", "mlm", "mlm.on=[cola]")


def _pass(loop: Any, batch: dict[str, torch.Tensor]) -> tuple[Any, ...]:
    """One training pass with dropout: logits, gradients, and where it left the random stream."""
    torch.manual_seed(3)
    out = loop.model.train()(**batch)
    out.loss.backward()
    gradients = {n: p.grad for n, p in loop.model.named_parameters() if p.grad is not None}
    return out.logits.detach(), gradients, torch.get_rng_state()


@pytest.mark.parametrize(
    ("architecture", "method"),
    [*((name, "full") for name in KNOWN), *((name, "prefix") for name in KNOWN[:3])],
)
def test_logits_gradients_and_draws_are_those_of_every_place(
    architecture: str, method: str, tiny_folder: Folder, always: None
) -> None:
    """The dropout rate is high, so that another mask would show."""
    folder = tiny_folder(architecture)
    batch = tiny_batch(folder)
    given = (f"method={method}", "budget.dropout=0.4", "speed.trim_vocabulary=false")
    loops = [_started(folder, on, *given) for on in (True, False)]
    assert [_skipped(loop.model) for loop in loops] == [True, False]
    (ours, our_gradients, our_stream), (theirs, gradients, stream) = (
        _pass(loop, batch) for loop in loops
    )
    torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=0)
    assert our_gradients.keys() == gradients.keys()
    for name, gradient in gradients.items():
        torch.testing.assert_close(our_gradients[name], gradient, atol=1e-6, rtol=1e-4)
    assert torch.equal(our_stream, stream)


def test_products_are_of_real_places_in_training_alone(tiny_folder: Folder) -> None:
    """A layer has 8 d² a token, and a last one that is for the first token 2 d² of them."""
    folder = tiny_folder("bert")
    batch = tiny_batch(folder)
    batch["attention_mask"][:, 4:] = 0
    flops = {True: [], False: []}
    for on in (True, False):
        model = _started(folder, on, "speed.trim_vocabulary=false").model
        for mode in (True, False):
            with torch.no_grad(), FlopCounterMode(display=False) as counter:
                model.train(mode)(**batch)
            flops[mode].append(counter.get_total_flops())
    padded = int((batch["attention_mask"] == 0).sum())
    many = len(model.bert.encoder.layer) - 1
    assert flops[True][1] - flops[True][0] == 2 * padded * 32**2 * (8 * many + 2)
    assert flops[False][0] == flops[False][1]


def _noted(mask: torch.Tensor) -> torch.Tensor | None:
    real = Real()
    real.note(nn.Module(), (mask,), {"attention_mask": mask})
    return real.places(mask.shape)


@pytest.mark.parametrize("padded", [9, 10, 40])
def test_padding_is_skipped_where_it_is_a_tenth(padded: int) -> None:
    mask = torch.ones(100, dtype=torch.long)
    mask[99 - 10 * (torch.arange(padded) % 10) - torch.arange(padded) // 10] = 0
    places = _noted(mask.view(10, 10))
    assert WORTH == 0.9
    assert (places is None) == (padded == 9)
    assert places is None or torch.equal(places, mask.nonzero().squeeze(1))


def test_a_row_of_padding_alone_is_computed_whole() -> None:
    mask = torch.ones(2, 4, dtype=torch.long)
    mask[0, 1:] = 0
    assert _noted(mask) is not None
    mask[0] = 0
    assert _noted(mask) is None


def _list(places: torch.Tensor | None) -> list[int]:
    assert places is not None
    return places.tolist()


def test_states_of_another_shape_are_computed_whole() -> None:
    real = Real()
    mask = torch.tensor([[1, 1, 1, 0], [1, 0, 0, 0]])
    real.note(nn.Module(), (), {"inputs_embeds": mask[..., None], "attention_mask": mask})
    assert real.places(torch.Size([2, 1])) is None
    mask = torch.tensor([[1, 1, 1, 0], [1, 1, 1, 1]])  # two places of a prefix before two tokens
    real.note(nn.Module(), (mask[:, 2:], mask), {})
    assert _list(real.places(torch.Size([2, 2]))) == [0, 2, 3]
    real.forget()
    assert real.places(torch.Size([2, 2])) is None


def test_picking_and_spreading_have_each_others_gradients() -> None:
    every = torch.randn(5, 3, dtype=torch.float64, requires_grad=True)
    rows = torch.randn(2, 3, dtype=torch.float64, requires_grad=True)
    places = torch.tensor([1, 4])
    for act, given in (
        (lambda x: skip_padding.pick(x, places), every),
        (lambda x: skip_padding.spread(x, places, 5), rows),
    ):
        assert torch.autograd.gradcheck(act, given)
        assert torch.autograd.gradgradcheck(act, given)


def test_a_layer_that_others_share_is_left_as_it_was(tiny_folder: Folder) -> None:
    model = tiny_model(tiny_folder("bert"))
    first, last = model.bert.encoder.layer
    last.output.dense = shared = first.output.dense
    lever = SkipPadding(True, "cpu")
    lever.before_first_step(Start(model, [], torch.optim.SGD([shared.weight]), [], 0, "fp32", True))
    assert type(shared) is RealLinear
    lever.after_last_step()
    assert type(shared) is nn.Linear
    assert not hasattr(shared, "real")
    assert not model.bert._forward_pre_hooks


@pytest.mark.parametrize("architecture", sorted(set(ARCHITECTURES) - set(KNOWN)))
def test_other_architectures_compute_every_place(architecture: str, tiny_folder: Folder) -> None:
    assert not _skipped(_started(tiny_folder(architecture), True).model)


def test_other_precisions_and_packages_compute_every_place(
    tiny_folder: Folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tiny_folder("bert")
    bf16 = prepared_run(folder, "precision=bf16", "speed.skip_padding=true")
    bf16.loop.start(bf16.encoded)
    assert not _skipped(bf16.loop.model)
    monkeypatch.setattr(training, "is_known", lambda methods, model: False)
    assert not _skipped(_started(folder, True).model)


def test_off_switch_is_the_same_run_and_its_state_is_in_the_record(
    cli: Cli, tiny_folder: Folder, tmp_path: Path
) -> None:
    for on in ("true", "false"):
        arguments = tiny(tiny_folder("bert"), f"speed.skip_padding={on}", "force=true")
        assert cli(*arguments).code == 0
        [record] = read_all(tmp_path / "runs")
        assert record.config["speed"]["skip_padding"] == (on == "true")
        assert record.environment["skip_padding"] == (on == "true")
    assert cli(*tiny(tiny_folder("bert"), "speed.skip_padding=1")).code == 2
