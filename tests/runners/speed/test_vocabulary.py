"""Rows of tokens that no text holds are left out of training: the same weights, less work."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from methods.surgery.presets import PRESETS
from results.record import read_all
from runners.speed.vocabulary import TrimVocabulary, Vocabulary, hindrance, rows_in_use
from runners.training.loop import Loop
from tests.conftest import EACH_KIND, Cli, architectures, narrow, task_of, tiny
from tests.methods.reference import prepared_run

METHODS = [name for name, cls in EACH_KIND.items() if not cls.represents]
WHOLE = {
    **dict.fromkeys(
        ("child_tuning_d", "child_tuning_f", "recadam", "sage", "wd_pre"),
        "all weights after clipping",
    ),
    "dp": "all weights gradients",
    **dict.fromkeys(("sam", "asam"), "all weights backward passes"),
    **dict.fromkeys(("ema", "swa"), "all weights average weights"),
    **dict.fromkeys(("adalora", "pats_provisional"), "all weights after backward"),
    "setfit": "all weights see weights",  # after the last one
    "mlm_prompt": "used for something else too",  # the words are read from its rows
    "unimc": "used for something else too",
    "smart": "all weights see weights",  # only its proximal term asks for them
    **dict.fromkeys(
        ("adapter", "attributes", "bitfit", "compacter", "ia3", "linear", "ln_tuning", "lora",
         "prefix", "prompt", "topk", "unipelt", "lora_plus", "peft",
         *(preset.name for preset in PRESETS)),
        "its word embedding is not trained",
    ),
}  # fmt: skip


def _loop(folder: Path, *arguments: str, trim: bool = True, task: str = "mrpc") -> Any:
    switch = f"speed.trim_vocabulary={str(trim).lower()}"
    ready = prepared_run(folder, *arguments, switch, task=task)
    ready.loop.start(ready.encoded)
    return ready.loop


def _vocabulary(loop: Loop) -> Vocabulary | None:
    """What is trimmed now."""
    return next((x.vocabulary for x in loop.levers.on if isinstance(x, TrimVocabulary)), None)


def _tokens_of(loop: Loop) -> set[int]:
    """The ids of the training rows, by Python; dev's are in use too."""
    return {int(i) for i in loop.collate.tokens.input_ids}


def _weights(loop: Loop) -> dict[str, torch.Tensor]:
    return {n: p.detach().clone() for n, p in loop.model.named_parameters()}


def _assert_alike(ours: dict[str, torch.Tensor], theirs: dict[str, torch.Tensor]) -> None:
    assert ours.keys() == theirs.keys()
    for name, tensor in theirs.items():
        # A gradient next to nought, which AdamW makes a step of, differs in a few elements.
        off = (ours[name] - tensor).abs()
        assert float(off.median()) < 1e-6, name
        assert float(off.mean()) < 1e-4, name


@pytest.mark.parametrize("method", METHODS)
def test_every_method_trains_to_the_same_weights(
    method: str, tiny_folder: Callable[[str], Path]
) -> None:
    """Six steps with dropout and the method's own draws; what stays whole is known by name."""
    results = []
    for trim in (True, False):
        task = task_of(method, "mrpc")
        given = (*narrow(method), "budget.steps=6")
        loop = _loop(tiny_folder("bert"), *given, trim=trim, task=task)
        why = hindrance(loop.model, loop.methods, loop.optimizer)
        assert (_vocabulary(loop) is not None) == (trim and method not in WHOLE), why
        if method in WHOLE:
            assert WHOLE[method] in str(why)
        loop.run(loop.steps)
        loop.finish()
        results.append((_weights(loop), loop.progress.losses))
    (ours, our_losses), (theirs, losses) = results
    assert our_losses == pytest.approx(losses, rel=1e-4)
    _assert_alike(ours, theirs)


@pytest.mark.parametrize("architecture", architectures("xlnet"))
def test_logits_and_gradients_are_those_of_all_rows(
    architecture: str, tiny_folder: Callable[[str], Path]
) -> None:
    trimmed, whole = (_loop(tiny_folder(architecture), trim=trim) for trim in (True, False))
    if architecture == "t5":
        assert _vocabulary(trimmed) is None
        why = hindrance(trimmed.model, trimmed.methods, trimmed.optimizer)
        assert why == "its word embedding is used for something else too"  # by its decoder
        return
    indices = np.arange(20)
    seen = []
    for loop in (trimmed, whole):
        torch.manual_seed(3)
        loop.model.train()
        out = loop.forward(loop.batch(indices))
        out.loss.backward()
        named = dict(loop.model.named_parameters())
        words = next(n for n, p in named.items() if p is loop.model.get_input_embeddings().weight)
        seen.append((out.logits.detach(), {n: p.grad for n, p in named.items()}, words))
    (our_logits, ours, words), (logits, theirs, _) = seen
    torch.testing.assert_close(our_logits, logits, atol=1e-6, rtol=0)
    rows = _vocabulary(trimmed).rows
    others = torch.ones(len(theirs[words]), dtype=torch.bool)
    others[rows] = False
    assert others.any()
    assert not theirs[words][others].any()
    ours[words] = torch.zeros_like(theirs[words]).index_copy(0, rows, ours[words])
    for name, gradient in theirs.items():
        if gradient is not None:
            torch.testing.assert_close(ours[name], gradient, atol=1e-7, rtol=1e-5)


@pytest.mark.parametrize("optimizer", ["adamw", "adamw_nobc"])
def test_rows_of_other_tokens_stay_to_the_bit_and_have_no_moments(
    optimizer: str, tiny_folder: Callable[[str], Path]
) -> None:
    loop = _loop(tiny_folder("bert"), f"optimizer={optimizer}")
    weight = loop.model.get_input_embeddings().weight
    rows = _vocabulary(loop).rows.tolist()
    assert _tokens_of(loop) <= set(rows)
    before = loop.state_dict()["trained"]["bert.embeddings.word_embeddings.weight"]
    loop.run(4)
    assert len(weight) == len(rows) < len(before)
    moments = [v for v in loop.optimizer.state[weight].values() if v.dim() == 2]
    assert len(moments) == 2
    assert all(len(m) == len(rows) for m in moments)
    loop.finish()
    assert loop.model.get_input_embeddings().weight is weight
    assert type(loop.model.get_input_embeddings()) is nn.Embedding
    others = sorted(set(range(len(before))) - set(rows))
    assert torch.equal(weight[others], before[others])
    moved = (weight != before).any(dim=1).nonzero().flatten().tolist()
    visited = {int(i) for b in loop.order.batches(0, 4) for i in loop.batch(b)["input_ids"].ravel()}
    assert set(moved) == visited - {loop.model.config.pad_token_id}
    for moment in (v for v in loop.optimizer.state[weight].values() if v.dim() == 2):
        assert moment.shape == weight.shape
        assert not moment[others].any()


@pytest.mark.parametrize("first", [True, False])
@pytest.mark.parametrize("then", [True, False])
def test_a_state_goes_on_in_either_form(
    first: bool, then: bool, tiny_folder: Callable[[str], Path]
) -> None:
    folder = tiny_folder("bert")
    straight = _loop(folder, trim=first)
    straight.run(10)
    begun = _loop(folder, trim=first)
    begun.run(5)
    state = begun.state_dict()
    begun.run(10)  # what was copied does not disturb it
    resumed = _loop(folder, trim=then)
    resumed.load_state_dict(state)
    resumed.run(10)
    for loop in (straight, begun, resumed):
        loop.finish()
    exact = _weights(straight)
    for name, tensor in _weights(begun).items():
        assert torch.equal(tensor, exact[name]), name
    if first == then:
        for name, tensor in _weights(resumed).items():
            assert torch.equal(tensor, exact[name]), name
    else:
        _assert_alike(_weights(resumed), exact)


def test_what_may_move_other_rows_trains_them_all(tiny_folder: Callable[[str], Path]) -> None:
    folder = tiny_folder("bert")

    def why(loop: Any) -> str:
        return str(hindrance(loop.model, loop.methods, loop.optimizer))

    assert why(_loop(folder, trim=False)) == "None"
    assert why(_loop(folder, "budget.weight_decay=0.1")) == "weight decay moves all rows"
    assert "SuperAdam may move" in why(_loop(folder, "optimizer=super_adam"))
    tied = _loop(folder, trim=False)
    tied.model.decoder = nn.Linear(32, 7)
    tied.model.decoder.weight = tied.model.get_input_embeddings().weight
    assert why(tied) == "its word embedding is used for something else too"
    scaled = _loop(folder, trim=False)
    scaled.model.get_input_embeddings().max_norm = 1.0
    assert why(scaled) == "its word embedding does more than to look up"
    wrapped = _loop(folder, trim=False)
    embedding = wrapped.model.get_input_embeddings()
    embedding.forward = lambda ids: nn.functional.embedding(ids, embedding.weight)
    assert "word embedding is a" in why(wrapped)
    ready = prepared_run(folder, "method=simcse", task="sts")
    vectors = ready.loop
    vectors.start(ready.encoded)
    assert _vocabulary(vectors) is None
    assert why(vectors) == "simcse reads texts of its own"


def test_a_token_that_no_text_holds_is_an_error(tiny_folder: Callable[[str], Path]) -> None:
    loop = _loop(tiny_folder("bert"))
    batch = loop.batch(np.arange(2))
    absent = (set(range(100)) - set(_vocabulary(loop).rows.tolist())).pop()
    batch["input_ids"][0, 1] = absent
    with pytest.raises(IndexError):
        loop.forward(batch)
    loop.finish()
    loop.forward(batch)


def test_rows_in_use_are_those_of_the_texts_and_of_padding() -> None:
    embedding = nn.Embedding(9, 2, padding_idx=1)
    texts = [np.array([4, 4, 8]), np.array([2], dtype=np.int32)]
    assert rows_in_use(texts, embedding, 0).tolist() == [0, 1, 2, 4, 8]
    assert rows_in_use([], nn.Embedding(9, 2), 3).tolist() == [3]


def test_off_switch_is_the_same_run_and_its_state_is_in_the_record(
    cli: Cli, tiny_folder: Callable[[str], Path], tmp_path: Path
) -> None:
    found = {}
    for on in ("true", "false"):
        arguments = tiny(tiny_folder("bert"), f"speed.trim_vocabulary={on}", "force=true")
        assert cli(*arguments, "save=delta").code == 0
        [record] = read_all(tmp_path / "runs")
        found[on] = record
        assert record.config["speed"]["trim_vocabulary"] == (on == "true")
        [delta] = (tmp_path / "runs").glob("*.delta")
        assert cli(f"eval={delta}").code == 0
    rows = found["true"].environment["vocabulary_rows"]
    assert 5 < rows < 220
    assert "vocabulary_rows" not in found["false"].environment
    assert found["true"].run == found["false"].run
    assert found["true"].parameters == found["false"].parameters
    assert found["true"].initial_sha256 == found["false"].initial_sha256
    assert found["true"].losses == pytest.approx(found["false"].losses, rel=1e-4)
    assert cli(*tiny(tiny_folder("bert"), "speed.trim_vocabulary=1")).code == 2
