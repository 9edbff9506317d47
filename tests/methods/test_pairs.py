"""Every two methods either train together, and both at work, or are refused by name.

Here two of every two kinds of methods, by the hooks they use, and each method once or more; all
pairs in make soak.
"""

from __future__ import annotations

import functools
import itertools
import re
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch

from methods.method import Method
from methods.registry import composition_problems
from results.errors import UserError
from runners.config.check import check
from runners.contract.parts import composed, kept_sha256, task_of, typed
from runners.contract.parts import prepared as of_config
from runners.models.build import trained_sha256
from runners.speed.first_token import narrowed
from tests.conftest import EACH_KIND, SOAK, configure, narrow, tiny
from tests.methods.reference import prepared

METHODS = EACH_KIND
NAMES = list(METHODS)
EDITS = {
    "gradients": ("after_backward", "after_clipping"),
    "weights": ("after_step",),
    "groups": ("parameter_groups",),
}


def _kind(cls: type[Method]) -> str:
    """Say by which means a method acts: what it owns, else the last hook that it overrides."""
    if cls.represents or "training" in cls.owns:
        return "represents"
    for owned in ("gradient", "loss", "head", "parameters"):
        if owned in cls.owns:
            return owned
    for kind, hooks in EDITS.items():
        if any(getattr(cls, hook) is not getattr(Method, hook) for hook in hooks):
            return kind
    return "prepare"


def _daily() -> set[frozenset[str]]:
    """Return pairs of methods that hold every pair of kinds, in turn of all their methods."""
    kinds: dict[str, list[str]] = defaultdict(list)
    for name, cls in METHODS.items():
        kinds[_kind(cls)].append(name)
    chosen: set[frozenset[str]] = set()
    for turn, (one, other) in enumerate(itertools.combinations_with_replacement(sorted(kinds), 2)):
        first = kinds[one][turn % len(kinds[one])]
        others = [name for name in kinds[other] if name != first]
        if others:
            chosen.add(frozenset((first, others[turn % len(others)])))
    for turn, name in enumerate(sorted(set(NAMES) - set().union(*chosen))):
        other = sorted(kinds)[turn % len(kinds)]
        others = [method for method in kinds[other] if method != name] or ["full"]
        chosen.add(frozenset((name, others[turn % len(others)])))
    return chosen


DAILY = _daily()


@dataclass(frozen=True)
class Seen:
    """What three steps of a run showed; tensors by name without what wraps their modules."""

    trains: dict[str, bool]
    moved: set[str]
    dimensions: dict[str, int]
    head: dict[str, torch.Tensor]
    logits: torch.Tensor | None
    losses: list[float]
    sha256: str
    narrowed: bool


def _see(folder: Path, *arguments: str, task: str) -> Seen:
    # Without warm-up: its first rate is zero, at which nothing moves.
    loop, loaded = prepared(folder, *arguments, "budget.warmup=0", task=task)
    model, logits = loop.model, None
    if task != "sts":
        batch = loop.collate(np.arange(8))
        model.eval()
        with torch.no_grad():
            logits = model(**batch).logits
        model.train()
    before = {n: p.detach().clone() for n, p in model.named_parameters()}
    loop.run(3)  # in the first, some methods hold something back
    after = dict(model.named_parameters())
    names = {n: n.replace(".base_layer.", ".") for n in after}
    return Seen(
        {names[n]: p.requires_grad for n, p in after.items()},
        {names[n] for n, p in after.items() if not torch.equal(p, before[n])},
        {names[n]: p.ndim for n, p in after.items()},
        {names[n]: before[n] for n in loaded.head},
        logits,
        loop.progress.losses,
        kept_sha256(loop),
        narrowed(model),
    )


@functools.cache
def _alone(folder: Path, method: str, task: str, *more: str) -> Seen:
    return _see(folder, *narrow(method), *more, task=task)


def test_daily_pairs_hold_every_method_and_every_two_kinds() -> None:
    assert set().union(*DAILY) == set(NAMES)
    kinds = {frozenset(map(_kind, (METHODS[name] for name in pair))) for pair in DAILY}
    every = {_kind(cls) for cls in METHODS.values()}
    assert kinds >= {frozenset(two) for two in itertools.combinations(every, 2)}


@pytest.mark.parametrize("first", NAMES[:-1])
def test_every_pair_trains_or_is_refused_by_name(
    first: str,
    tiny_folder: Callable[[str], Path],
    record_property: Callable[[str, object], None],
) -> None:
    folder, together = tiny_folder("bert"), 0
    others = NAMES[NAMES.index(first) + 1 :]
    if not SOAK:
        others = [other for other in others if {first, other} in DAILY]
    for second in others:
        both = (METHODS[first], METHODS[second])
        if composition_problems([cls() for cls in both]):
            with pytest.raises(UserError) as refused:
                prepared(folder, *_arguments(*both))
            assert f"{first} and {second} both" in str(refused.value)
            if composition_problems([cls(**cls.with_others) for cls in both]):
                continue
        task = _task(*both)
        if {first, second} in AT_START:
            with pytest.raises(UserError, match="before the first step") as refused:
                _together(folder, *both, task=task)
            assert {first, second} <= set(re.findall(r"\w+", str(refused.value)))
            continue
        pair, more = _together(folder, *both, task=task)
        # A method that vectors need cannot be looked at without them.
        shown = [cls.name for cls in both if task != "sts" or cls.represents]
        _keeps_what_each_keeps(
            pair,
            {m: _alone(folder, m, task, *(a for a in more if f".{m}." in a)) for m in shown},
            None if task == "sts" else _alone(folder, "full", task),
        )
        together += 1
    record_property("pairs", (together, len(others)))
    assert together == sum(not _cannot_meet(folder, first, second) for second in others)


def _task(*both: type[Method]) -> str:
    """Return a task on which all of the methods can be."""
    own = {task_of(cls.name, "mrpc") for cls in both} - {"mrpc"}
    return own.pop() if own else "mrpc"


def _arguments(*both: type[Method]) -> list[str]:
    names = ",".join(cls.name for cls in both)
    return [f"method=[{names}]", *(o for cls in both for o in typed(cls.name, cls.narrow))]


def _together(folder: Path, *both: type[Method], task: str) -> tuple[Seen, list[str]]:
    """Return what a pair shows, and the options that it needed where it is refused without."""
    try:
        return _see(folder, *_arguments(*both), task=task), []
    except UserError as error:
        refusal = str(error)
    assert {cls.name for cls in both} <= set(re.findall(r"\w+", refusal))
    more = [o for cls in both for o in typed(cls.name, cls.with_others)]
    return _see(folder, *_arguments(*both), *more, task=task), more


APART = (
    *({"attention_pool", other} for other in ("setfit", "mlm_prompt", "description_cosine")),
    *({"gradual_unfreezing", other} for other in ("adalora", "pats_provisional", "sage")),
    {"prompt", "setfit"},
)
# Refused by what is seen before the first step, with `with_others` too.
AT_START = tuple({"child_tuning_d", other} for other in ("adalora", "loha", "randlora"))


def _cannot_meet(folder: Path, first: str, second: str) -> bool:
    one, other = (METHODS[name](**METHODS[name].with_others) for name in (first, second))
    if one.owns & other.owns or "training" in one.owns | other.owns:
        return True
    if "attention_pool" in (first, second) and (
        one.represents or "places" in one.owns | other.owns
    ):
        return True
    if {first, second} in (*APART, *AT_START):
        return True
    if "adalora" in (first, second) and "average" in one.owns | other.owns:
        return True
    if "setfit" in (first, second) and (one.owns | other.owns) & {"average", "gradient"}:
        return True
    if {first, second} == {"hype", "no_dropout"}:  # seen to be one run, below
        return True
    if any("attributes" in cls.needs for cls in (one, other)) and (
        one.represents or other.represents or "dp" in (first, second)
    ):
        return True
    if "dp" in (first, second):
        others = ("child_tuning_d", "child_tuning_f", "gradual_unfreezing")
        return any(name in others for name in (first, second))
    return any(
        "parameters" in choosing.owns and bool(acting.acts_on - _trained(folder, choosing.name))
        for acting, choosing in ((one, other), (other, one))
    )


def _trained(folder: Path, method: str) -> set[str]:
    """Return what was seen to train of the encoder: something in its layers, its own matrices."""
    task = _task(METHODS[method])
    plain, alone = _alone(folder, "full", task), _alone(folder, method, task)
    encoder = {n for n, trains in alone.trains.items() if trains and n not in alone.head}
    layers = any(".layer." in name for name in encoder)
    matrices = any(plain.dimensions.get(name, 0) > 1 for name in encoder)
    return {what for what, trains in (("layers", layers), ("matrices", matrices)) if trains}


@pytest.mark.parametrize("other", ["linear", "prefix", "prompt"])
def test_child_tuning_d_is_refused_where_nothing_in_its_scope_trains(
    other: str, tiny_folder: Callable[[str], Path]
) -> None:
    folder = tiny_folder("bert")
    given = tiny(folder, "task=mrpc", f"method=[child_tuning_d,{other}]")
    with pytest.raises(UserError, match="child_tuning_d acts on the encoder's layers that train"):
        configure(*given)  # nothing is loaded yet
    for option in ("scope=all", "p=1"):
        configure(*given, f"method.child_tuning_d.{option}")


def test_child_tuning_d_that_spares_all_that_trains_is_refused_at_the_latest_before_training(
    tiny_folder: Callable[[str], Path],
) -> None:
    with pytest.raises(
        UserError, match=r"\[child_tuning_d,linear\]: nothing in scope=all_but_head"
    ):
        prepared(
            tiny_folder("bert"),
            "method=[child_tuning_d,linear]",
            "method.child_tuning_d.scope=all_but_head",
        )


def test_mixout_is_refused_beside_simcse_which_needs_dropout(
    tiny_folder: Callable[[str], Path],
) -> None:
    loop, _ = prepared(tiny_folder("bert"), "method=[mixout,simcse]", task="sts")
    with pytest.raises(UserError, match=r"\[mixout,simcse\]: .* as dropout is off"):
        loop.run(1)


@pytest.mark.parametrize(
    ("arguments", "what"),
    [
        (["method=[raft,wd_pre]", "method.raft.train=bitfit"], "matrices"),
        (["method=[mixout,raft]", "method.raft.train=coefficients"], "matrices"),
        (["method=[pats_provisional,topk]", "method.topk.layers=0"], "layers"),
    ],
)
def test_options_that_freeze_all_a_method_acts_on_are_refused(
    arguments: list[str], what: str, tiny_folder: Callable[[str], Path]
) -> None:
    with pytest.raises(UserError, match=f"acts on the encoder's {what} that train, and"):
        configure(*tiny(tiny_folder("bert"), "task=mrpc", *arguments))  # nothing is loaded yet


def test_llrd_without_a_lower_layer_that_trains_is_refused(
    tiny_folder: Callable[[str], Path],
) -> None:
    with pytest.raises(
        UserError, match=r"method=\[topk,llrd\]: all that trains is at the full rate"
    ):
        prepared(tiny_folder("bert"), "method=[topk,llrd]", "method.topk.layers=1")


@pytest.mark.parametrize(
    ("more", "idle"),
    [
        ([], True),
        (["method.no_dropout.attention=true"], False),
        (["method.hype.hidden_dropout=keep"], False),
    ],
)
def test_a_method_that_another_includes_is_refused_by_name(
    more: list[str], idle: bool, tiny_folder: Callable[[str], Path]
) -> None:
    """Trained as a record says it, the pair is that other method to the bit, and only then."""
    folder = tiny_folder("bert")
    given = [*tiny(folder, "task=mrpc"), "budget.warmup=0", "precision=fp32", *narrow("hype")]
    pair = ["method=[hype,no_dropout]", *more]
    loop, _ = of_config(check(composed((*given, *pair)), stored=True))
    loop.run(2)
    own = [option for option in more if ".hype." in option]
    alone, _ = of_config(configure(*given, *own))
    alone.run(2)
    same = trained_sha256(loop.model) == trained_sha256(alone.model)
    assert same == idle
    if idle:
        with pytest.raises(UserError, match="no_dropout changes nothing beside hype"):
            configure(*given, *pair)
        with pytest.raises(UserError, match="no_dropout changes nothing beside hype"):
            configure(*given, "method=[no_dropout,hype]")
    else:
        configure(*given, *pair)


def _keeps_what_each_keeps(pair: Seen, alone: dict[str, Seen], plain: Seen | None) -> None:
    """Check what holds for each method alone and must hold for two."""
    said = " and ".join(alone)
    assert all(torch.isfinite(torch.tensor(pair.losses))), said
    assert pair.moved <= {n for n, trains in pair.trains.items() if trains}, said
    if plain is None:
        return
    # One method's frozen tensors stay frozen, and what one adds trains as it does alone.
    asked = [seen.trains for seen in alone.values()]
    names = set().union(*asked)
    if any(METHODS[m].model_head is not None for m in alone):  # which has no head of the task's
        names = {n for n in names if n not in plain.head and ".pooler." not in n}
    assert set(pair.trains) == names, said
    for name, trains in pair.trains.items():
        assert trains == all(a[name] for a in asked if name in a), (said, name)
    heads = {n: p for seen in (*alone.values(), plain) for n, p in seen.head.items()}
    assert all(torch.equal(p, heads[n]) for n, p in pair.head.items()), said
    if not any(METHODS[m].changes_start for m in alone):
        assert pair.logits is not None
        assert plain.logits is not None
        if pair.narrowed == plain.narrowed:
            assert torch.equal(pair.logits, plain.logits), said
        else:  # a last layer that is computed whole rounds otherwise
            assert torch.allclose(pair.logits, plain.logits, atol=1e-6), said
    # Neither is switched off by the other.
    for name, seen in alone.items():
        [other] = [m for m in alone if m != name]
        assert (pair.sha256 == seen.sha256) == (other == "full"), said


def test_three_methods_train_together(tiny_folder: Callable[[str], Path]) -> None:
    arguments = ["method=[hype,child_tuning_d,llrd,lora]"]
    loop, _ = prepared(tiny_folder("bert"), *arguments)
    loop.run(2)
    names = [n for n, p in loop.model.named_parameters() if p.requires_grad]
    assert all("lora_" in n or n.startswith("classifier") for n in names)
