"""The last layer for the first token only: the same numbers and draws, less work, a switch."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from methods.method import by_token
from runners.models.build import apply_methods, load_pretrained
from runners.models.weights import find_weights
from runners.speed.first_token import hindrance, narrowed, use_first_token
from tests.conftest import EACH_KIND, Cli, configure, narrow, task_of, tiny
from tests.methods.reference import prepared
from tests.tiny import ARCHITECTURES, tiny_batch

ALIKE = ("bert", "roberta", "electra")  # the others' layers or heads are of another kind
METHODS = [name for name, cls in EACH_KIND.items() if not cls.represents]
WHOLE = {
    "unipelt": "its attention is tunebench_prefix",  # and its gates are means over tokens
    "attention_pool": "something is hooked to the layer",  # all tokens are pooled
    "description_cosine": "a SentenceModel may read every token",
    "mlm_prompt": "a BertForMaskedLM may read every token",
    "unimc": "a BertForMaskedLM may read every token",
    "raft": "intermediate.intermediate_act_fn is a",  # it reports the range of what it is given
    "setfit": "something is hooked to the layer",  # the head reads the mean of all tokens
    "dora": "is a DoraLinearLayer",  # of peft's modules, only layers themselves are known
    "oft": "is a OFTRotationModule",
    **dict.fromkeys(("delora", "fourierft", "randlora", "vera"), "is a BufferDict"),
    "lily": "is a Linear",  # its experts are weighed by a mean over tokens
}


def _model(folder: Path, *more: str) -> Any:
    config = configure(*tiny(folder, "task=mrpc", *more))
    weights = find_weights(config.settings.model)
    return apply_methods(config, load_pretrained(config, weights), weights, 10).model


def _pair(folder: Path, *more: str) -> Iterator[Any]:
    for on in ("true", "false"):
        model = _model(folder, f"speed.first_token={on}", *more)
        assert narrowed(model) == (on == "true")
        yield model


def _pass(model: Any, batch: dict[str, torch.Tensor]) -> tuple[Any, ...]:
    """One training pass with dropout: logits, gradients, and where it left the random stream."""
    torch.manual_seed(3)
    out = model.train()(**batch)
    out.loss.backward()
    gradients = {n: p.grad for n, p in model.named_parameters() if p.grad is not None}
    return out.logits.detach(), gradients, torch.get_rng_state()


@pytest.mark.parametrize("architecture", ALIKE)
def test_logits_gradients_and_draws_are_the_whole_layers(
    architecture: str, tiny_folder: Callable[[str], Path]
) -> None:
    """With padding and dropout; the dropout rate is high, so that another mask would show."""
    folder = tiny_folder(architecture)
    batch = tiny_batch(folder)
    narrow, whole = _pair(folder, "budget.dropout=0.4")
    for model in (narrow, whole):
        model.eval()
    torch.testing.assert_close(narrow(**batch).logits, whole(**batch).logits, atol=1e-5, rtol=0)
    (ours, our_gradients, our_stream), (theirs, gradients, stream) = (
        _pass(m, batch) for m in (narrow, whole)
    )
    torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=0)
    assert our_gradients.keys() == gradients.keys()
    for name, gradient in gradients.items():
        torch.testing.assert_close(our_gradients[name], gradient, atol=1e-6, rtol=1e-4)
    assert torch.equal(our_stream, stream)


def test_only_the_last_layers_products_are_fewer(tiny_folder: Callable[[str], Path]) -> None:
    """With a branch of 2d, query, output and branch are 1 + 1 + 4 of a layer's 8 d² a token.

    torch does not count the products inside its fused attention.
    """
    folder = tiny_folder("bert")
    batch = tiny_batch(folder)
    rows, length = batch["input_ids"].shape
    flops = []
    for model in _pair(folder):
        with torch.no_grad(), FlopCounterMode(display=False) as counter:
            model.eval()(**batch)
        flops.append(counter.get_total_flops())
    spared = 2 * rows * (length - 1) * 6 * 32**2
    assert flops[1] - flops[0] == spared


@pytest.mark.parametrize("method", METHODS)
def test_every_method_trains_to_the_same_weights(
    method: str, tiny_folder: Callable[[str], Path]
) -> None:
    """Six steps with dropout and the method's own draws; what stays whole is known by name."""
    results = []
    for on in ("true", "false"):
        arguments = [*narrow(method), "budget.steps=6", f"speed.first_token={on}"]
        task = task_of(method, "mrpc")
        loop, _ = prepared(tiny_folder("bert"), *arguments, task=task)
        assert narrowed(loop.model) == (on == "true" and method not in WHOLE)
        assert method not in WHOLE or WHOLE[method] in str(hindrance(loop.model))
        loop.run(loop.steps)
        results.append(({n: p.detach() for n, p in loop.model.named_parameters()}, loop.progress))
    (ours, progress), (theirs, plain) = results
    assert progress.losses == pytest.approx(plain.losses, rel=1e-4)
    for name, tensor in theirs.items():
        # A gradient next to nought, which AdamW makes a step of, differs in a few elements.
        off = (ours[name] - tensor).abs()
        assert float(off.median()) < 1e-6, name
        assert float(off.mean()) < 1e-4, name


@pytest.mark.parametrize("architecture", sorted(set(ARCHITECTURES) - set(ALIKE)))
def test_other_architectures_stay_whole(
    architecture: str, tiny_folder: Callable[[str], Path]
) -> None:
    model = _model(tiny_folder(architecture))
    assert not narrowed(model)
    assert "ForSequenceClassification may read every token" in str(hindrance(model))


def test_what_would_draw_or_compute_otherwise_stays_whole(
    tiny_folder: Callable[[str], Path],
) -> None:
    folder = tiny_folder("bert")
    assert not narrowed(_model(folder, "method=lora", "method.lora.dropout=0.1"))
    assert not narrowed(_model(folder, "speed.fast_dropout=false"))
    vectors = configure(*tiny(folder, "method=embedding", "task=sts"))
    weights = find_weights(vectors.settings.model)
    assert not narrowed(apply_methods(vectors, load_pretrained(vectors, weights), weights, 0).model)


def test_a_strangers_hook_or_module_keeps_the_layer_whole(
    tiny_folder: Callable[[str], Path],
) -> None:
    def hook(module: nn.Module, inputs: Any, output: torch.Tensor) -> torch.Tensor:
        return output - output.mean(dim=1, keepdim=True)

    @by_token
    def pointwise(module: nn.Module, inputs: Any, output: torch.Tensor) -> torch.Tensor:
        return output * 2

    class Strange(nn.Linear):
        pass

    def plain() -> tuple[Any, Any]:
        model = _model(tiny_folder("bert"), "speed.first_token=false")
        return model, model.bert.encoder.layer[-1]

    model, last = plain()
    last.output.register_forward_hook(hook)
    assert not use_first_token(model)
    assert hindrance(model) == "something is hooked to output"
    model, last = plain()
    last.register_forward_hook(hook)
    assert hindrance(model) == "something is hooked to the layer"
    model, last = plain()
    last.intermediate.dense.__class__ = Strange
    assert hindrance(model) == "intermediate.dense is a Strange"
    model, last = plain()
    last.attention.self.key.register_forward_hook(hook)  # of all tokens, as ever
    last.output.register_forward_hook(pointwise)
    assert use_first_token(model)


def test_tokens_behind_the_mask_change_nothing(tiny_folder: Callable[[str], Path]) -> None:
    batch = tiny_batch(tiny_folder("bert"))
    model = _model(tiny_folder("bert")).eval()
    assert narrowed(model)
    changed = {k: v.clone() for k, v in batch.items()}
    changed["input_ids"][batch["attention_mask"] == 0] = 9
    assert torch.equal(model(**batch).logits, model(**changed).logits)
    longer = {k: nn.functional.pad(v, (0, 7)) if v.dim() == 2 else v for k, v in batch.items()}
    torch.testing.assert_close(model(**longer).logits, model(**batch).logits, atol=1e-6, rtol=0)


def test_off_switch_is_the_same_run_and_its_state_is_in_the_record(
    cli: Cli, tiny_folder: Callable[[str], Path], tmp_path: Path
) -> None:
    from results.record import read_all

    for on in ("true", "false"):
        arguments = tiny(tiny_folder("bert"), f"speed.first_token={on}", "force=true")
        assert cli(*arguments).code == 0
        [record] = read_all(tmp_path / "runs")
        assert record.config["speed"]["first_token"] == (on == "true")
        assert record.environment["first_token"] == (on == "true")
    assert cli(*tiny(tiny_folder("bert"), "speed.first_token=1")).code == 2
