"""What every method promises; a test's argument says for which methods: see `KINDS`."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol

import pytest
import torch
from omegaconf import OmegaConf

from methods.method import Batch, Method
from methods.registry import default_options, method_class, registered
from methods.surgery.representation import Representation
from runners.config.check import RunConfig
from runners.contract.guard import AS_ON_A_GPU, as_on_a_gpu, hindrances
from runners.contract.parts import (
    configure,
    kept_sha256,
    narrow,
    prepared,
    task_of,
    tiny,
    typed,
    yaml_of,
)
from runners.contract.replay import Replay, equal, flattened
from runners.contract.tiny import save_bert
from runners.exports.delta import load_delta, save_delta
from runners.jobs.job import Job
from runners.machine.device import make_accelerator
from runners.models.build import trained_sha256
from runners.models.pretrained import load_model
from runners.models.weights import find_weights
from runners.speed import repeat
from runners.speed.dropout import use_fast_dropout
from runners.speed.first_token import narrowed, use_first_token
from runners.training.prepare import prepare
from runners.training.repeating import is_known


class Configured(Protocol):
    """Configures a tiny run of a method, with what is typed after it."""

    def __call__(self, method: str, *more: str) -> RunConfig: ...


def _config_dir(config: pytest.Config) -> Path | None:
    folder: Path | None = config.getoption("contract_configs", None)
    return folder


# An argument's name, the methods it stands for, and why there may be none.
Fits = Callable[[type[Method], Path | None], bool]
KINDS: Mapping[str, tuple[Fits, str]] = {
    "method": (lambda cls, folder: True, "no method is chosen"),
    "training": (lambda cls, folder: "training" not in cls.owns, "it trains nothing"),
    "labelled": (lambda cls, folder: not cls.represents, "it makes vectors of sentences"),
    "headed": (
        lambda cls, folder: not cls.represents and cls.model_head is None,
        "its head is not the task's",
    ),
    "changing": (
        lambda cls, folder: cls.no_strength is not None and not cls.represents,
        "its class says no options without strength",
    ),
    "choosing": (
        lambda cls, folder: "parameters" in cls.owns and not cls.represents,
        "it does not say which parameters train",
    ),
    "written": (lambda cls, folder: yaml_of(cls, folder) is not None, "it has no YAML"),
}


def parametrize(metafunc: pytest.Metafunc, classes: Mapping[str, type[Method]]) -> None:
    """Run a test once for each of the methods that its argument stands for."""
    for kind, (fits, otherwise) in KINDS.items():
        if kind in metafunc.fixturenames:
            folder = _config_dir(metafunc.config)
            names = [name for name, cls in classes.items() if fits(cls, folder)]
            skipped = pytest.param("", id="-", marks=pytest.mark.skip(reason=otherwise))
            metafunc.parametrize(kind, names or [skipped])


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Take the methods of `--method`, or every registered one."""
    names = metafunc.config.getoption("contract_methods", None) or registered()
    parametrize(metafunc, {name: method_class(name) for name in names})


@pytest.fixture(scope="session")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of the tiny BERT that the promises are tested on."""
    return save_bert(tmp_path_factory.mktemp("models") / "bert")


@pytest.fixture
def configured(encoder: Path, pytestconfig: pytest.Config) -> Configured:
    """Return the function that configures a tiny run."""

    def configure_tiny(method: str, *more: str) -> RunConfig:
        named = any(argument.startswith("task=") for argument in more)
        task = [] if named else [f"task={task_of(method, 'mrpc')}"]
        chosen = [*narrow(method), *task]
        return configure(*tiny(encoder, *chosen, *more), config_dir=_config_dir(pytestconfig))

    return configure_tiny


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


def test_logits_before_the_first_step_are_the_base_models(
    labelled: str, configured: Configured
) -> None:
    config = configured(labelled)
    loop, _ = prepared(config)
    if any(m.changes_start for m in config.methods):
        pytest.skip(f"{labelled} declares another start")
    settings = config.settings
    weights, length = find_weights(settings.model), settings.budget.max_length
    base: Any = load_model(weights, settings.task, settings.seed, length, None).model
    if narrowed(loop.model):  # to the bit, so computed alike
        use_fast_dropout(base)
        assert use_first_token(base)
    batch = loop.collate(next(iter(loop.order.batches(0, 1))))
    base.eval()
    loop.model.eval()
    with torch.no_grad():
        assert torch.equal(base(**batch).logits, loop.model(**batch).logits)


def test_only_declared_parameters_move_and_all_of_them_do(
    training: str, configured: Configured
) -> None:
    config = configured(training, "budget.steps=5")
    loop, _ = prepared(config)
    before = _tensors(loop.model)
    declared = {n for n, p in loop.model.named_parameters() if p.requires_grad}
    loop.run(5)
    moved = {n for n, p in _tensors(loop.model).items() if not torch.equal(p, before[n])}
    assert moved <= declared
    may_stay = method_class(training).may_stay
    declared = {n for n in declared if not any(part in n for part in may_stay)}
    assert declared
    assert declared - moved == set()


def test_equal_seeds_agree_bitwise_and_two_seeds_differ(
    training: str, configured: Configured
) -> None:
    hashes = []
    for seed in (1, 1, 2):
        loop, _ = prepared(configured(training, f"seed={seed}"))
        loop.run(loop.steps)
        hashes.append(kept_sha256(loop))
    assert hashes[0] == hashes[1] != hashes[2]


def test_saved_and_loaded_model_gives_the_same_logits(
    training: str, configured: Configured, tmp_path: Path
) -> None:
    config = configured(training)
    trained, loaded = prepared(config)
    batch = trained.collate(next(iter(trained.order.batches(0, 1))))
    trained.model.eval()
    before_training = _answers(config, trained.model, batch)
    trained.run(trained.steps)
    trained.model.eval()
    with trained.averages.evaluated():
        written = save_delta(tmp_path / "delta", trained.model, loaded.head, Job(config))
        after_training = _answers(config, trained.model, batch)
    assert 0 < written < 4 * sum(p.numel() for p in trained.model.parameters()) + 100_000
    fresh = load_delta(tmp_path / "delta")
    assert not torch.equal(before_training, after_training)
    assert torch.equal(_answers(fresh.config, fresh.loaded.model, batch), after_training)


def test_resumed_training_equals_uninterrupted_training(
    training: str, configured: Configured, tmp_path: Path
) -> None:
    # 5 steps an epoch: the cut is inside the second
    arguments = (training, "budget.steps=9", "data.train_size=40")
    whole, _ = prepared(configured(*arguments))
    whole.run(9)
    first, _ = prepared(configured(*arguments))
    first.run(6)
    torch.save(first.state_dict(), tmp_path / "state")
    first.run(9)  # what happens after the save must not reach into it
    torch.manual_seed(99)
    second, _ = prepared(configured(*arguments))
    second.load_state_dict(torch.load(tmp_path / "state", weights_only=False))
    second.run(9)
    left = [(trained_sha256(loop.model), kept_sha256(loop)) for loop in (second, whole, first)]
    assert left[0] == left[1] == left[2]


def test_method_leaves_the_global_random_stream_alone(
    labelled: str, configured: Configured
) -> None:
    more = ["budget.dropout=0.0"] if method_class(labelled).other_dropout else []
    task = f"task={task_of(labelled, 'mrpc')}"
    plain, _ = prepared(configured("full", task, *more))
    after_plain = torch.get_rng_state()
    # As of a record: without dropout some would not be run if it was typed.
    plainly = typed(labelled, method_class(labelled).plain_order)
    loop, _ = prepared(dataclasses.replace(configured(labelled, *more, *plainly), stored=True))
    assert torch.equal(torch.get_rng_state(), after_plain)
    loop.run(2)
    drawn = torch.get_rng_state()
    torch.set_rng_state(after_plain)
    plain.run(2)
    assert torch.equal(torch.get_rng_state(), drawn)
    plain_order = [b.tolist() for b in plain.order.batches(0, 6)]
    assert plain_order == [b.tolist() for b in loop.order.batches(0, 6)]


def test_what_hinders_a_capture_is_said(training: str, configured: Configured) -> None:
    """A step may be replayed as a CUDA graph, or the class says why it cannot be."""
    loop, _ = prepared(configured(training, *AS_ON_A_GPU))
    shown = hindrances(loop, loop.batch(next(iter(loop.order.batches(0, 1)))))
    said = method_class(training).hinders_capture
    assert bool(shown) == bool(said), (shown, said)


def test_replayed_steps_are_the_steps_to_the_bit(
    training: str, configured: Configured, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on a GPU, where Python sees the first steps only, with a stand-in for CUDA graphs.

    All weights, the optimizer, random streams, what the method keeps and reports, and what is
    predicted afterwards.
    """
    monkeypatch.setitem(repeat.CAPTURES, "cpu", Replay)
    monkeypatch.setattr(repeat, "REPAYS", 2)
    cls, ended = method_class(training), []
    if cls.hinders_capture:
        pytest.skip(f"{training} is not captured: {cls.hinders_capture}")
    alike = [] if cls.represents else ["budget.max_length=16"]  # batches of one length
    for on in ("false", "true"):
        config = configured(training, *alike, "budget.steps=5", f"speed.graphs={on}")
        job = Job(config)
        ready = prepare(job, make_accelerator("cpu", config))
        loop, evaluation = ready.loop, ready.loop.evaluation()
        evaluation.later = 3
        splits = list(job.data.report.values())
        with as_on_a_gpu():
            loop.run(5)
            for _ in range(3):
                predicted = ready.kind.predict(loop.model, ready.encoded, splits, evaluation)
        reports = [m.report() for m in config.methods]
        ended.append((flattened({**loop.state_dict(), "predicted": predicted}), reports))
    assert loop.repeats is not None
    if alike:
        known = is_known(config.methods, loop.model)  # others are watched for two steps
        first = 1 if known else 3  # steps of a phase before one is written down
        counts = Counter(str([m.phase(step) for m in config.methods]) for step in range(5)).values()
        recorded = sum(count > first for count in counts)
        repeated = sum(max(0, count - first - 1) for count in counts)
        assert (loop.repeats.recorded, loop.repeats.repeated) == (recorded, repeated)
        assert evaluation.repeats is not None
        captured = known and not cls.watches_evaluation
        assert evaluation.repeats.repeated == (len(splits) if captured else 0)
    (plain, said), (replayed, said_then) = ended
    assert [k for k in plain if not equal(plain[k], replayed[k])] == []
    assert plain.keys() == replayed.keys()
    assert said == said_then


def test_head_starts_the_same_for_every_method(headed: str, configured: Configured) -> None:
    plain, loaded = prepared(configured("full", f"task={task_of(headed, 'mrpc')}"))
    loop, _ = prepared(configured(headed))
    ours = _tensors(loop.model)
    assert loaded.head
    assert all(
        torch.equal(p, ours[n]) for n, p in _tensors(plain.model).items() if n in loaded.head
    )


def test_without_strength_a_method_is_plain_fine_tuning_bitwise(
    changing: str, configured: Configured
) -> None:
    plain, _ = prepared(configured("full", f"task={task_of(changing, 'mrpc')}"))
    plain.run(plain.steps)
    hashes = []
    for options in ({}, method_class(changing).no_strength or {}):
        loop, _ = prepared(configured(changing, *typed(changing, options)))
        loop.run(loop.steps)
        hashes.append(kept_sha256(loop))
    assert hashes[1] == trained_sha256(plain.model) != hashes[0]


def test_moves_says_what_of_the_encoder_trains(choosing: str, configured: Configured) -> None:
    """By it a method is refused beside one under which it would do nothing."""
    base, loaded = prepared(configured("full"))
    matrices = {n for n, p in base.model.named_parameters() if p.ndim > 1} - loaded.head
    config = configured(choosing)
    loop, loaded = prepared(config)
    trained = {n for n, p in loop.model.named_parameters() if p.requires_grad} - loaded.head
    seen = {
        "layers": any(".layer." in name for name in trained),
        "matrices": any(name.replace(".base_layer.", ".") in matrices for name in trained),
    }
    [method] = config.methods
    assert method.moves == {what for what, trains in seen.items() if trains}


def test_yaml_holds_exactly_the_options_of_the_dataclass_at_their_defaults(
    written: str, pytestconfig: pytest.Config
) -> None:
    cls, config_dir = method_class(written), _config_dir(pytestconfig)
    path = yaml_of(cls, config_dir)
    assert path is not None
    assert set(OmegaConf.load(path)) == set(default_options(cls))
    task = f"task={task_of(written, 'sst2')}"
    [checked] = configure(f"method={written}", task, config_dir=config_dir).methods
    plain = cls(**default_options(cls))
    plain.say_alike()
    options = [name for name in default_options(cls) if name != "lr"]
    assert {k: getattr(checked, k) for k in options} == {k: getattr(plain, k) for k in options}
    assert path.read_text().startswith(f"# @package method.{written}\n")


def test_what_a_class_says_of_its_method_is_no_option_and_names_options(method: str) -> None:
    cls = method_class(method)
    options = set(default_options(cls))
    assert {*(cls.no_strength or ()), *cls.narrow, *cls.with_others, *cls.plain_order} <= options
    facts = {"no_strength", "narrow", "with_others", "other_dropout", "may_stay", "plain_order"}
    assert not facts & {f.name for f in dataclasses.fields(cls)}
