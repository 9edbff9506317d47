"""What a method says of the start, or of each step, holds in whatever order methods are named."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import nn

from methods.child_tuning_d import ChildTuningD
from methods.setfit import Setfit
from methods.smart import Smart
from methods.surgery import places
from methods.surgery.inserted import as_loaded, inserts
from runners.contract.parts import prepared, typed
from runners.models.build import trained_sha256
from runners.training.loop import Loop
from tests.conftest import EACH_KIND, configure, tiny

Folder = Callable[[str], Path]
PARTED = {"pissa", "olora"}  # begin at what they find
INSERTING = [
    name for name, cls in EACH_KIND.items() if inserts(cls(**cls.narrow)) and name not in PARTED
]
CHOOSING = [
    name
    for name, cls in EACH_KIND.items()
    if "parameters" in cls.owns and not cls.represents and "training" not in cls.owns
]


def _arguments(folder: Path, methods: str, *more: str) -> list[str]:
    names = methods.split(",")
    task = "tastes" if "attributes" in names else "mrpc"
    fit = [a for name in names for a in typed(name, EACH_KIND[name].narrow)]
    return [*tiny(folder, f"task={task}"), f"method=[{methods}]", *fit, *more]


def _versions(*arguments: str) -> dict[str, int]:
    return {m["name"]: m["version"] for m in configure(*arguments).method_options()}


@pytest.mark.parametrize("method", INSERTING)
def test_what_a_method_inserts_is_left_alone_in_either_order(
    method: str, tiny_folder: Folder
) -> None:
    folder, starts = tiny_folder("bert"), []
    for methods in (f"reinit,noisytune,{method}", f"{method},reinit,noisytune"):
        config = configure(*_arguments(folder, methods))
        _, loaded = prepared(config)
        starts.append(dict(loaded.model.named_parameters()))
    assert starts[0].keys() == starts[1].keys()
    assert [n for n, p in starts[0].items() if not torch.equal(p, starts[1][n])] == []


@pytest.mark.parametrize("method", CHOOSING)
def test_a_version_is_higher_where_something_inserted_was_changed_before(
    method: str, tiny_folder: Folder
) -> None:
    folder = tiny_folder("bert")
    plain = {
        n for n, _ in prepared(configure(*_arguments(folder, "full")))[1].model.named_parameters()
    }
    config = configure(*_arguments(folder, method))
    model = prepared(config)[1].model
    own = {id(p) for n, p in model.named_parameters() if as_loaded(n) not in plain}
    last = places.layers(model, method)[-1].module
    linear = any(
        isinstance(module, nn.Linear)
        and any(id(p) in own for p in module.parameters(recurse=False))
        for module in last.modules()
    )
    for order, changed in ((f"{method},%s", 1), (f"%s,{method}", 0)):
        for other, acts in (("reinit", linear), ("noisytune", bool(own))):
            given = _arguments(folder, order % other)
            assert _versions(*given)[other] == 1 + acts * changed, (order, other)
    assert inserts(config.methods[0]) == bool(own)


@pytest.mark.parametrize(
    ("beside", "rate", "both"),
    [
        ("lora", "method.lora.dropout=0.1", False),
        ("adalora", "method.adalora.options.lora_dropout=0.1", False),
        ("oft", "method.oft.options.module_dropout=0.1", True),
        ("attention_pool", "method.attention_pool.dropout=0.25", True),
    ],
)
@pytest.mark.parametrize("silent", ["no_dropout", "hype"])
def test_dropout_that_is_off_is_off_in_either_order(
    silent: str, beside: str, rate: str, both: bool, tiny_folder: Folder
) -> None:
    """Whether it was on in both orders, once, or where what drops was named later."""
    folder = tiny_folder("bert")
    trained, versions = [], []
    none = rate.partition("=")[0] + "=0"
    for methods, dropout in (
        (f"{beside},{silent}", rate),
        (f"{silent},{beside}", rate),
        (f"{silent},{beside}", none),
    ):
        given = _arguments(folder, methods, "budget.warmup=0", dropout)
        config = configure(*given)
        loop, _ = prepared(config)
        loop.run(2)
        trained.append(trained_sha256(loop.model))
        versions.append(_versions(*given)[silent])
    assert trained[0] == trained[1] == trained[2]
    assert versions == [2 if both else 1, 2, 1]


# Each moves what decay shrank, or all weights that train.
EDITING = ("pats_provisional", "sage", "noisytune,recadam")
EDITS = (
    *("budget.warmup=0", "budget.weight_decay=0.5"),
    *("method.pats_provisional.strength=0.1", "method.pats_provisional.start=0"),
)


def _edited(folder: Path, methods: str, *more: str) -> tuple[Loop, dict[str, int]]:
    """Return what three steps left, and the versions of the methods."""
    edits = [a for a in EDITS if not a.startswith("method.") or a.split(".")[1] in methods]
    given = _arguments(folder, methods, *edits, *more)
    loop, _ = prepared(configure(*given))
    loop.run(3)
    return loop, _versions(*given)


@pytest.mark.parametrize("other", EDITING)
def test_what_is_held_stays_in_either_order(other: str, tiny_folder: Folder) -> None:
    options = ["method.child_tuning_d.select=random", "method.child_tuning_d.freeze=true"]
    for methods, version in ((f"child_tuning_d,{other}", 2), (f"{other},child_tuning_d", 1)):
        loop, versions = _edited(tiny_folder("bert"), methods, *options)
        [child] = [m for m in loop.methods if isinstance(m, ChildTuningD)]
        own = dict(loop.model.named_parameters())
        apart = {n: own[n].detach() != start for n, start in child.start.items()}
        assert not any(bool((apart[n] & ~mask).any()) for n, mask in child.masks.items())
        assert any(bool(moved.any()) for moved in apart.values())
        assert versions["child_tuning_d"] == version
    free = _arguments(tiny_folder("bert"), f"child_tuning_d,{other}", options[0])
    assert _versions(*free)["child_tuning_d"] == 1


@pytest.mark.parametrize("other", EDITING)
def test_an_average_is_of_what_all_methods_left_in_either_order(
    other: str, tiny_folder: Folder
) -> None:
    """One that keeps nothing of before is the weights themselves."""
    options = ["method.smart.weight=0", "method.smart.average=0"]
    for methods, version in ((f"smart,{other}", 3), (f"{other},smart", 2)):
        loop, versions = _edited(
            tiny_folder("bert"), methods, *options, "method.smart.proximal=0.1"
        )
        [smart] = [m for m in loop.methods if isinstance(m, Smart)]
        own = dict(loop.model.named_parameters())
        assert smart.mean
        assert all(torch.equal(mean, own[n]) for n, mean in smart.mean.items())
        assert versions["smart"] == version
    without = _arguments(tiny_folder("bert"), f"smart,{other}")
    assert _versions(*without)["smart"] == 2


@pytest.mark.parametrize("other", ["sage", "recadam"])
def test_a_head_is_fitted_to_what_all_methods_left_in_either_order(
    other: str, tiny_folder: Folder
) -> None:
    constant = ["budget.schedule=constant", "budget.steps=3", "task=sst2"]  # the last step moves
    for methods, version in ((f"setfit,{other}", 2), (f"{other},setfit", 1)):
        loop, versions = _edited(tiny_folder("bert"), methods, *constant)
        [setfit] = [m for m in loop.methods if isinstance(m, Setfit)]
        left = setfit.layer.weight.detach().clone()
        assert not setfit.stale
        setfit._fit(loop.model, loop.forward)
        assert torch.equal(setfit.layer.weight, left)
        assert versions["setfit"] == version
    held = "method.child_tuning_d.freeze=%s"
    for freeze, version in (("true", 2), ("false", 1)):
        given = _arguments(tiny_folder("bert"), "setfit,child_tuning_d", held % freeze, "task=sst2")
        assert _versions(*given)["setfit"] == version
