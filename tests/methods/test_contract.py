"""What every method promises, tested for each registered one and for a third party's."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch

from methods.method import Batch, Method, Setting
from methods.registry import registered
from methods.surgery.representation import Representation
from runners.config.check import RunConfig
from runners.exports.delta import load_delta, save_delta
from runners.jobs.job import Job
from runners.machine.device import make_accelerator, make_deterministic
from runners.models.build import trained_sha256
from runners.models.pretrained import Loaded, load_model
from runners.models.weights import find_weights
from runners.speed.dropout import use_fast_dropout
from runners.speed.first_token import narrowed, use_first_token
from runners.training.loop import Loop
from runners.training.prepare import prepare
from tests.conftest import configure, narrow, tiny


@dataclass(kw_only=True)
class Shake(Method):
    """A third party's method: noise on the gradients, from a stream that a checkpoint keeps."""

    name: ClassVar[str] = "shake"
    owns: ClassVar[frozenset[str]] = frozenset()
    strength: float = 0.1

    def prepare(self, model: torch.nn.Module, setting: Setting) -> None:
        self.generator = setting.generator

    def after_clipping(self, model: torch.nn.Module, step: int) -> None:
        for parameter in model.parameters():
            if parameter.grad is not None:
                noise = torch.randn(parameter.grad.shape, generator=self.generator)
                parameter.grad.add_(noise, alpha=self.strength)

    def state_dict(self) -> dict[str, Any]:
        return {"stream": self.generator.get_state()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.generator.set_state(state["stream"])


# Those on labelled tasks; those that train vectors of sentences, which some promises do not fit.
METHODS = [*(n for n, cls in registered().items() if not cls.represents), "shake"]
ALL = [*METHODS, "promptbert", "simcse"]
# What draws dropout at other places than plain fine-tuning: longer sequences, dropout switched off,
# several passes a step. These are compared without dropout, where nothing may be drawn at all.
OTHER_DROPOUT = {
    *("prefix", "prompt", "unipelt"),
    *("hype", "mixout", "no_dropout"),
    *("rdrop", "sift", "smart"),
}
# At these strengths a method is plain fine-tuning to the bit.
NO_STRENGTH = {
    "child_tuning_f": ["p=1"],
    "child_tuning_d": ["p=1"],
    "hype": ["sigma=0", "hidden_dropout=keep"],
    "noisytune": ["strength=0"],
    "rdrop": ["alpha=0"],
    "mixout": ["p=0", "dropout=keep"],
    "wd_pre": ["strength=0"],
    "reinit": ["layers=0"],
    "llrd": ["decay=1"],
    "smart": ["weight=0"],
    "sift": ["weight=0"],
    "pats_provisional": ["strength=0"],
}


def _config(method: str, folder: Path, *more: str) -> RunConfig:
    if method != "shake":
        task = "mrpc" if method in METHODS else "sts"
        return configure(*tiny(folder, *narrow(method), f"task={task}", *more))
    config = configure(*tiny(folder, "method=full", "task=mrpc", *more))
    return dataclasses.replace(config, methods=(*config.methods, Shake()))


def _prepared(config: RunConfig) -> tuple[Loop, Loaded]:
    make_deterministic()
    ready = prepare(Job(config), make_accelerator("cpu", config))
    return ready.loop, ready.loaded


def _answers(config: RunConfig, model: torch.nn.Module, batch: Batch) -> torch.Tensor:
    """Return the logits of a batch, or the vectors of its sentences."""
    representation = next((m for m in config.methods if isinstance(m, Representation)), None)
    with torch.no_grad():
        logits: torch.Tensor = (
            model(**batch).logits
            if representation is None
            else representation.vectors(model, batch)
        )
    return logits


def _tensors(model: torch.nn.Module) -> dict[str, torch.Tensor]:
    return {n: p.detach().clone() for n, p in model.named_parameters()}


@pytest.fixture
def folder(tiny_folder: Callable[[str], Path]) -> Path:
    return tiny_folder("bert")


@pytest.mark.parametrize("method", METHODS)
def test_logits_before_the_first_step_are_the_base_models(method: str, folder: Path) -> None:
    config = _config(method, folder)
    loop, _ = _prepared(config)
    if any(m.changes_start for m in config.methods):
        pytest.skip(f"{method} declares another start")
    settings = config.settings
    base = load_model(
        find_weights(settings.model), settings.task, settings.seed, settings.budget.max_length, None
    ).model
    if narrowed(loop.model):  # to the bit, so computed alike
        use_fast_dropout(base)
        assert use_first_token(base)
    batch = loop.collate(next(iter(loop.order.batches(0, 1))))
    base.eval(), loop.model.eval()
    with torch.no_grad():
        assert torch.equal(base(**batch).logits, loop.model(**batch).logits)


@pytest.mark.parametrize("method", ALL)
def test_only_declared_parameters_move_and_all_of_them_do(method: str, folder: Path) -> None:
    loop, _ = _prepared(_config(method, folder, "budget.steps=5"))
    before = _tensors(loop.model)
    declared = {n for n, p in loop.model.named_parameters() if p.requires_grad}
    loop.run(5)
    moved = {n for n, p in _tensors(loop.model).items() if not torch.equal(p, before[n])}
    assert moved <= declared
    if method == "child_tuning_d":  # whole tensors can lie below its threshold
        declared = {n for n in declared if ".layer." not in n}
        assert declared
    assert declared - moved == set()


@pytest.mark.parametrize("method", ALL)
def test_equal_seeds_agree_bitwise_and_two_seeds_differ(method: str, folder: Path) -> None:
    hashes = []
    for seed in (1, 1, 2):
        loop, _ = _prepared(_config(method, folder, f"seed={seed}"))
        loop.run(loop.steps)
        hashes.append(trained_sha256(loop.model))
    assert hashes[0] == hashes[1] != hashes[2]


@pytest.mark.parametrize("method", ALL)
def test_saved_and_loaded_model_gives_the_same_logits(
    method: str, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    known = {**registered(), "shake": Shake}
    monkeypatch.setattr("methods.registry.registered", lambda: known)
    config = _config(method, folder)
    weights = find_weights(config.settings.model)
    trained, loaded = _prepared(config)
    batch = trained.collate(next(iter(trained.order.batches(0, 1))))
    trained.model.eval()
    before_training = _answers(config, trained.model, batch)
    trained.run(trained.steps)
    written = save_delta(tmp_path / "delta", trained.model, loaded.head, config, weights, "a run")
    assert 0 < written < 4 * sum(p.numel() for p in trained.model.parameters()) + 100_000
    fresh = load_delta(tmp_path / "delta")
    trained.model.eval()
    after_training = _answers(config, trained.model, batch)
    assert not torch.equal(before_training, after_training)
    assert torch.equal(_answers(fresh.config, fresh.loaded.model, batch), after_training)


@pytest.mark.parametrize("method", ALL)
def test_resumed_training_equals_uninterrupted_training(
    method: str, folder: Path, tmp_path: Path
) -> None:
    config = (
        "budget.steps=9",
        "data.train_size=40",
    )  # 5 steps an epoch: the cut is inside the second
    whole, _ = _prepared(_config(method, folder, *config))
    whole.run(9)
    first, _ = _prepared(_config(method, folder, *config))
    first.run(6)
    torch.save(first.state_dict(), tmp_path / "state")
    first.run(9)  # what happens after the save must not reach into it
    torch.manual_seed(99)
    second, _ = _prepared(_config(method, folder, *config))
    second.load_state_dict(torch.load(tmp_path / "state", weights_only=False))
    second.run(9)
    assert (
        trained_sha256(second.model) == trained_sha256(whole.model) == trained_sha256(first.model)
    )


@pytest.mark.parametrize("method", METHODS)
def test_method_leaves_the_global_random_stream_alone(method: str, folder: Path) -> None:
    more = ["budget.dropout=0.0"] if method in OTHER_DROPOUT else []
    plain, _ = _prepared(_config("full", folder, *more))
    after_plain = torch.get_rng_state()
    loop, _ = _prepared(_config(method, folder, *more))
    assert torch.equal(torch.get_rng_state(), after_plain)
    loop.run(2)
    drawn = torch.get_rng_state()
    torch.set_rng_state(after_plain)
    plain.run(2)
    assert torch.equal(torch.get_rng_state(), drawn)
    plain_order = [b.tolist() for b in plain.order.batches(0, 6)]
    assert plain_order == [b.tolist() for b in loop.order.batches(0, 6)]


@pytest.mark.parametrize("method", METHODS)
def test_head_starts_the_same_for_every_method(method: str, folder: Path) -> None:
    plain, loaded = _prepared(_config("full", folder))
    loop, _ = _prepared(_config(method, folder))
    ours = _tensors(loop.model)
    assert loaded.head
    assert all(
        torch.equal(p, ours[n]) for n, p in _tensors(plain.model).items() if n in loaded.head
    )


@pytest.mark.parametrize("method", NO_STRENGTH)
def test_without_strength_a_method_is_plain_fine_tuning_bitwise(method: str, folder: Path) -> None:
    plain, _ = _prepared(_config("full", folder))
    plain.run(plain.steps)
    hashes = []
    for options in ([], NO_STRENGTH[method]):
        given = [f"method.{method}.{option}" for option in options]
        loop, _ = _prepared(_config(method, folder, *given))
        loop.run(loop.steps)
        hashes.append(trained_sha256(loop.model))
    assert hashes[1] == trained_sha256(plain.model) != hashes[0]


def test_strength_zero_is_plain_fine_tuning_bitwise(folder: Path) -> None:
    plain, _ = _prepared(_config("full", folder))
    plain.run(plain.steps)
    hashes = {}
    for strength in (0.0, 0.1):
        config = configure(*tiny(folder, "method=full", "task=mrpc"))
        config = dataclasses.replace(config, methods=(*config.methods, Shake(strength=strength)))
        loop, _ = _prepared(config)
        loop.run(loop.steps)
        hashes[strength] = trained_sha256(loop.model)
    assert hashes[0.0] == trained_sha256(plain.model) != hashes[0.1]
