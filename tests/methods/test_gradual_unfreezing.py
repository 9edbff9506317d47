"""Gradual unfreezing, with requires_grad switched by hand and an optimizer for each turn."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from methods.gradual_unfreezing import GradualUnfreezing
from methods.llrd import BELOW_LAYERS
from methods.surgery.depths import Depths
from methods.surgery.places import PLACES
from results.errors import UserError
from runners.contract.parts import prepared as of_config
from runners.contract.replay import Replay
from runners.jobs.job import Job
from runners.models.build import trained_sha256
from runners.seeds import derive
from runners.speed import repeat
from tests.conftest import configure, tiny
from tests.methods.reference import STEPS, largest_difference, prepared, trained
from tests.shapes import setting_of
from tests.tiny import tiny_model

Folder = Callable[[str], Path]
DECAY = "budget.weight_decay=0.1"


def _options(**given: object) -> list[str]:
    return [
        "method=gradual_unfreezing",
        DECAY,
        *(f"method.gradual_unfreezing.{k}={v}" for k, v in given.items()),
    ]


def _turn(name: str) -> int:
    """Return the turn of a parameter of a BERT of two layers."""
    lower = {"encoder.layer.1.": 1, "encoder.layer.0.": 2, "embeddings.": 3}
    return next((turn for part, turn in lower.items() if part in name), 0)


def _by_hand(folder: Path, begins: list[int], decay: float) -> dict[str, torch.Tensor]:
    loop, _ = prepared(folder, "method=full")
    model, optimizers = loop.model, dict[int, torch.optim.Optimizer]()
    torch.manual_seed(derive(42, "dropout"))
    model.train()
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(_turn(name) == 0)
    for step, indices in enumerate(loop.order.batches(0, STEPS)):
        for turn in range(4):
            if begins[turn] <= step and turn not in optimizers:
                own = [p for n, p in model.named_parameters() if _turn(n) == turn]
                groups = [
                    {"params": [p for p in own if p.ndim > 1], "weight_decay": 0.1},
                    {"params": [p for p in own if p.ndim <= 1], "weight_decay": 0.0},
                ]
                optimizers[turn] = torch.optim.AdamW(groups)
                for parameter in own:
                    parameter.requires_grad_(True)
        warmup = math.ceil(loop.budget.warmup * STEPS)
        share = step / warmup if step < warmup else (STEPS - step) / (STEPS - warmup)
        model.zero_grad()
        model(**loop.collate(indices)).loss.backward()
        torch.nn.utils.clip_grad_norm_([p for p in model.parameters() if p.requires_grad], 1.0)
        for turn, optimizer in optimizers.items():
            for group in optimizer.param_groups:
                group["lr"] = 1e-3 * share / decay**turn
            optimizer.step()
    return {n: p.detach().clone() for n, p in model.named_parameters()}


@pytest.mark.parametrize(
    ("options", "begins", "decay"),
    [
        ({"share": 0.8}, [0, 3, 6, 8], 2.6),
        ({"share": 0.5, "decay": 1}, [0, 2, 4, 5], 1.0),
        ({"by": "epochs"}, [0, 5, 10, 15], 2.6),  # 40 rows in batches of 8
    ],
)
def test_each_turn_is_as_if_its_layer_was_frozen_until_then(
    options: dict[str, object], begins: list[int], decay: float, tiny_folder: Folder
) -> None:
    folder = tiny_folder("bert")
    ours, theirs = trained(folder, *_options(**options)), _by_hand(folder, begins, decay)
    assert largest_difference(ours, theirs) < 1e-5
    assert largest_difference(ours, trained(folder, "method=full", DECAY)) > 1e-4


def test_an_epoch_of_a_mixture_has_the_steps_of_each_of_its_tasks(tiny_folder: Folder) -> None:
    """Its batches are of one task each, so that there are more than of as many rows of one."""
    mixture = ["mix=[mnli,rte,cola]", "data.train_size=44", "budget.batch_size=32"]
    given = [*tiny(tiny_folder("bert")), *mixture, *_options(by="epochs")]
    loop, _ = of_config(configure(*given))
    epoch = len(loop.order.epoch(0))
    assert epoch > math.ceil(len(loop.collate.lengths) / 32)
    [method] = loop.methods
    assert method.report()["turns_begin"] == [turn * epoch for turn in range(4)]


def test_a_version_is_higher_by_epochs_of_a_mixture() -> None:
    mixture = ["mix=[mnli,rte,cola]"]
    for task, by, version in (
        (mixture, "epochs", 2),
        (mixture, "share", 1),
        (["task=rte"], "epochs", 1),
    ):
        [said] = configure(*task, *_options(by=by)).method_options()
        assert said["version"] == version


def test_a_version_asks_for_the_architectures_that_have_parts_below_their_layers() -> None:
    assert {name for name, places in PLACES.items() if places.below} == BELOW_LAYERS


@pytest.mark.parametrize("architecture", ["bert", *sorted(BELOW_LAYERS)])
@pytest.mark.parametrize(
    ("arguments", "plain"),
    [
        ("method=gradual_unfreezing", ["share=0", "decay=1"]),
        ("method=llrd", ["decay=1"]),
    ],
)
def test_a_version_is_higher_where_an_encoder_has_parts_below_its_layers(
    arguments: str, plain: list[str], architecture: str, tiny_folder: Folder
) -> None:
    """Unless they are as all the others."""
    method, given = arguments.removeprefix("method="), [*tiny(tiny_folder(architecture)), arguments]

    def version(*options: str) -> object:
        job = Job(configure(*given, *(f"method.{method}.{option}" for option in options)))
        return (job.name, job.config.method_options()[0]["version"])[1]

    assert version() == (2 if architecture in BELOW_LAYERS else 1)
    assert version(*plain) == 1


@pytest.mark.parametrize(
    ("architecture", "outside"),
    [
        ("bert", set()),
        ("electra", set()),
        ("distilbert", set()),
        ("xlnet", {"mask_emb"}),
        ("albert", set()),
        ("mpnet", set()),
        ("deberta-v2", set()),
        ("modernbert", {"final_norm"}),
        ("t5", {"encoder.final_layer_norm", "decoder.final_layer_norm"}),
    ],
)
def test_what_of_an_encoder_has_the_heads_rate_is_what_llrd_says(
    architecture: str, outside: set[str], tiny_folder: Folder
) -> None:
    model = tiny_model(tiny_folder(architecture))
    depths, prefix = Depths(model, "llrd").of(model), f"{model.base_model_prefix}."
    inside = {
        n.removeprefix(prefix): p for n, p in model.named_parameters() if n.startswith(prefix)
    }
    at_once = {n.rpartition(".")[0] or n for n, p in inside.items() if depths[id(p)] == 0}
    assert {n for n in at_once if not n.startswith("pooler")} == outside


def test_before_its_turn_a_parameter_stays_to_the_bit(tiny_folder: Folder) -> None:
    loop, _ = prepared(tiny_folder("bert"), *_options(share=1))
    start = {n: p.detach().clone() for n, p in loop.model.named_parameters()}
    for until in (1, 4, 5, 7, 8, 10):  # turns begin with the steps 0, 4, 7 and 10
        loop.run(until)
        came = sum(begin < until for begin in (0, 4, 7, 10))
        for name, parameter in loop.model.named_parameters():
            stays = _turn(name) >= came
            assert (parameter in loop.optimizer.state) == (not stays), (until, name)
            if stays:
                assert torch.equal(parameter, start[name]), (until, name)
    [method] = loop.methods
    assert method.report() == {"turns_begin": [0, 4, 7, 10], "turns_taken": 3}


def test_a_run_resumed_between_two_turns_is_the_run(tiny_folder: Folder) -> None:
    given = _options(share=0.8)
    whole, _ = prepared(tiny_folder("bert"), *given)
    whole.run(4)
    state = whole.state_dict()
    whole.run(STEPS)
    second, _ = prepared(tiny_folder("bert"), *given)
    second.load_state_dict(state)
    second.run(STEPS)
    assert trained_sha256(second.model) == trained_sha256(whole.model)


def test_graphs_of_one_turn_are_not_replayed_in_the_next(
    tiny_folder: Folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(repeat.CAPTURES, "cpu", Replay)
    monkeypatch.setattr(repeat, "REPAYS", 2)
    ended = []
    for on in ("false", "true"):
        given = _options(share=0.5, decay=1), f"speed.graphs={on}", "budget.max_length=16"
        loop, _ = prepared(tiny_folder("bert"), *given[0], *given[1:], "budget.steps=16")
        loop.run(16)
        ended.append(trained_sha256(loop.model))
    assert loop.repeats is not None
    assert loop.repeats.recorded > 2
    assert loop.repeats.repeated > 2
    assert ended[0] == ended[1]


@pytest.mark.parametrize(
    "architecture", ["roberta", "electra", "deberta-v2", "distilbert", "albert", "modernbert"]
)
def test_every_architecture_has_its_turns(architecture: str, tiny_folder: Folder) -> None:
    loop, _ = prepared(tiny_folder(architecture), *_options(share=1))
    frozen = {n: p.detach().clone() for n, p in loop.model.named_parameters()}
    loop.run(2)
    [method] = loop.methods
    assert len(method.begins) == (3 if architecture == "albert" else 4)
    moved = {n for n, p in loop.model.named_parameters() if not torch.equal(p, frozen[n])}
    assert moved
    held = [n for n in moved if any(part in n for part in ("layer.", "layers.", "embeddings."))]
    assert held == []


def test_slanted_triangular_rates_go_with_it(tiny_folder: Folder) -> None:
    """cut_frac 0.1 and ratio 32, of the head's rate and of those below it."""
    loop, _ = prepared(
        tiny_folder("bert"), *_options(), "budget.schedule=slanted_triangular",
        "budget.warmup=0.1", "budget.steps=20",
    )  # fmt: skip
    rates = sorted({g["lr"] for g in loop.optimizer.param_groups}, reverse=True)
    assert rates == pytest.approx([1e-3 / 32 / 2.6**depth for depth in range(4)])
    loop.run(2)
    rates = sorted({g["lr"] for g in loop.optimizer.param_groups}, reverse=True)
    assert rates == pytest.approx([1e-3 / 2.6**depth for depth in range(4)])


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["share=1.5"], r"share=1\.5"),
        (["share=-1"], "share=-1"),
        (["decay=0.5"], r"decay=0\.5"),
        (["by=layers"], "by='?layers"),
    ],
)
def test_wrong_options_are_named(options: list[str], said: str, tiny_folder: Folder) -> None:
    given = [f"method.gradual_unfreezing.{o}" for o in options]
    with pytest.raises(UserError, match=said):
        configure(*tiny(tiny_folder("bert"), "task=mrpc", "method=gradual_unfreezing", *given))


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (["method=[gradual_unfreezing,llrd]"], "both scale the layers' rates"),
        (["method=[gradual_unfreezing,dp]"], "dp makes gradients of all that trains"),
        (["method=[gradual_unfreezing,linear]"], "linear trains none"),
        (["method=[gradual_unfreezing,topk]", "method.topk.layers=0"], "topk trains none"),
        (["method=gradual_unfreezing", "optimizer=super_adam"], "one count of steps for all"),
    ],
)
def test_what_it_cannot_go_with_is_refused(more: list[str], said: str, tiny_folder: Folder) -> None:
    with pytest.raises(UserError, match=said) as refused:
        prepared(tiny_folder("bert"), *more)
    assert "\n" not in str(refused.value)


def test_where_the_head_alone_trains_there_is_nothing_to_hold_back(tiny_folder: Folder) -> None:
    model = tiny_model(tiny_folder("bert"))
    method, setting = GradualUnfreezing(), setting_of(model)
    method.prepare(model, setting)
    with pytest.raises(UserError, match="nothing that trains lies below the rest"):
        method.parameter_groups(model, [{"params": [*model.classifier.parameters()], "lr": 1.0}])
    every = [{"params": [*model.parameters()], "lr": 1.0}]
    by_epochs = GradualUnfreezing(by="epochs")
    by_epochs.prepare(model, setting)
    with pytest.raises(UserError, match="it is not known here how many steps an epoch has"):
        by_epochs.parameter_groups(model, every)
