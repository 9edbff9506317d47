"""An option that nothing reads beside the others is refused: one run has one name."""

from __future__ import annotations

import functools
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal, get_args, get_origin, get_type_hints

import pytest
from annotated_types import Ge, Le

from methods.method import Method
from methods.registry import default_options, method_class, registered
from results.errors import UserError
from runners.config.check import check
from runners.contract.parts import composed, typed
from runners.contract.parts import prepared as of_config
from runners.jobs.job import Job
from runners.machine.device import make_accelerator
from runners.models.build import trained_sha256
from runners.training.prepare import prepare
from tests.conftest import configure, in_soak, task_of, tiny

CASES = [
    ("adapter", ["init=kaiming"], "init_std=0.5"),
    ("adapter", ["placement=pfeiffer"], "scale=4"),
    ("asam", ["rho=0"], "eta=1"),
    ("asam", ["rho=0"], "same_dropout=true"),
    ("attention_pool", ["pooling=query"], "dropout=0.5"),
    ("attention_pool", ["pooling=query"], "kernel=5"),
    ("attributes", ["inject=none"], "drop=0.5"),
    ("attributes", ["inject=none"], "n=2"),
    ("attributes", ["inject=text"], "std=1"),
    ("attributes", ["inject=bias"], "dimension=8"),
    ("attributes", ["inject=concat"], "parts=joint"),
    ("attributes", ["parts=independent"], "rank=2"),
    ("child_tuning_d", ["select=random"], "fisher=example"),
    ("child_tuning_d", ["select=random"], "max_norm=0.1"),
    ("child_tuning_d", ["fisher=example"], "max_norm=0.1"),
    ("child_tuning_d", ["p=1"], "outside=zero"),
    ("child_tuning_f", ["p=1"], "exclude=head"),
    ("ema", ["decay=0"], "warmup=false"),
    ("freelb", ["passes=1", "start=0.1"], "step=1"),
    ("freelb", ["passes=1", "start=0.1"], "radius=0.01"),
    ("freelb", ["passes=1"], "same_dropout=false"),
    ("gradual_unfreezing", ["by=epochs"], "share=1"),
    ("head_layers", ["layers=[1]"], "pool=mean"),
    ("hype", ["sigma=0"], "distribution=uniform"),
    ("llrd", ["decay=1"], "convention=zhang"),
    ("mixout", ["p=0"], "unit=entry"),
    ("mixout", ["p=0", "dropout=keep"], "head=mixed"),
    ("noisytune", ["strength=0"], "scope=all"),
    ("pats_provisional", ["strength=0"], "mapping=uniform"),
    ("prefix", [], "projection_size=16"),
    ("r3f", ["weight=0"], "eps=0.1"),
    ("r3f", ["eps=0"], "distribution=normal"),
    ("rdrop", ["alpha=0"], "task_loss=sum"),
    ("recadam", ["schedule=linear"], "k=5"),
    ("recadam", ["schedule=constant"], "pull=1"),
    ("recadam", ["schedule=constant"], "t0=3"),
    ("sam", ["rho=0"], "same_dropout=false"),
    ("sift", ["weight=0"], "start=0.1"),
    ("unipelt", ["variant=AP"], "rank=2"),
    ("unipelt", ["variant=AP"], "alpha=2"),
    ("unipelt", ["variant=AP"], "lora_gate=per_matrix"),
    ("unipelt", ["variant=AP"], "lora_scale=alpha"),
    ("unipelt", [], "alpha=2"),
    ("smart", [], "average=0.5"),
    ("smart", ["normalise=unit"], "radius=0.5"),
    ("smart", ["weight=0"], "sigma=0.5"),
    ("simcse", [], "hard_negatives=false"),
    ("swa", ["start=1"], "every=2"),
    ("promptbert", [], "hard_negatives=false"),
    ("promptbert", [], "shift_eval=false"),
    ("promptbert", ["denoise=off"], "positions=zero"),
]
# Options that fit a tiny model, and that some of the cases do not read.
IDLE = defaultdict(
    set,
    {"attention_pool": {"kernel"}, "gradual_unfreezing": {"share"}, "recadam": {"pull"}},
)
UNTRAINED = {"embedding"}  # nothing trains, so that there is nothing to compare


@functools.cache
def _given(folder: Path, method: str, *options: str) -> tuple[str, ...]:
    """Return the arguments of a run with these options, which take the place of narrow ones."""
    named = {option.partition("=")[0] for option in options}
    fit = {o: v for o, v in registered()[method].narrow.items() if o not in IDLE[method]}
    of_scores = "regression" in default_options(registered()[method])
    task = task_of(method, "stsb" if of_scores else "mrpc")
    return (
        *(*tiny(folder, f"task={task}"), "budget.warmup=0", f"method={method}"),
        *typed(method, {o: v for o, v in fit.items() if o not in named}),
        *(f"method.{method}.{option}" for option in options),
    )


@functools.cache
def _sha256(folder: Path, method: str, *options: str) -> str:
    loop, _ = of_config(check(composed(_given(folder, method, *options)), stored=True))
    loop.run(2)
    return trained_sha256(loop.model)


@pytest.mark.parametrize(("method", "beside", "option"), CASES)
def test_an_option_that_nothing_reads_is_refused_and_changes_nothing(
    method: str, beside: list[str], option: str, tiny_folder: Callable[[str], Path]
) -> None:
    folder = tiny_folder("bert")
    with pytest.raises(UserError, match=rf"method\.{method}\.{option.partition('=')[0]}=.* reads"):
        configure(*_given(folder, method, *beside, option))
    assert _sha256(folder, method, *beside, option) == _sha256(folder, method, *beside)


def test_every_method_that_names_such_options_is_tried() -> None:
    naming = {name for name, cls in registered().items() if "unread" in vars(cls)}
    assert naming == {method for method, _, _ in CASES} | UNTRAINED


TRAINED = [name for name, cls in registered().items() if not (cls.like or "training" in cls.owns)]


def _one_other(cls: type[Method]) -> list[dict[str, Any]]:
    """Return a method's options with one of them at another value: a word, a switch, or zero."""
    hints = get_type_hints(cls, include_extras=True)
    chosen = [dict(cls.no_strength or {})]
    for option, default in default_options(cls).items():
        kinds = [hints[option], *get_args(hints[option])]
        values = [v for kind in kinds if get_origin(kind) is Literal for v in get_args(kind)]
        values += [not default] if isinstance(default, bool) else []
        values += [0] if any(isinstance(k, Ge) and k.ge == 0 for k in kinds) else []
        values += [1] if any(isinstance(k, Le) and k.le == 1 for k in kinds) else []
        chosen += [{option: value} for value in values if value != default]
    return chosen


@pytest.mark.parametrize("method", TRAINED)
@in_soak
def test_an_option_that_no_run_looks_at_stands_among_them(
    method: str, tiny_folder: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is looked at and then not used is left to the cases above."""
    cls, looked_at = method_class(method), set[str]()
    monkeypatch.setattr(
        cls,
        "__getattribute__",
        lambda self, name: (looked_at.add(name), object.__getattribute__(self, name))[1],
    )
    folder, wrong = tiny_folder("bert"), []
    for options in _one_other(cls):
        given = _given(folder, method, *(t.split(".", 2)[2] for t in typed(method, options)))
        looked_at.clear()
        try:
            config = check(composed(given), stored=True)
            ready = prepare(Job(config), make_accelerator("cpu", config))
            ready.loop.run(2)
            splits = list(Job(config).data.report.values())
            ready.kind.predict(ready.loop.model, ready.encoded, splits, ready.loop.evaluation())
        except UserError:
            continue
        seen = {*looked_at}
        [built] = config.methods
        idle = {*default_options(cls)} - seen - {"lr", *built.unread}
        wrong += [(options, idle)] if idle else []
    assert not wrong
