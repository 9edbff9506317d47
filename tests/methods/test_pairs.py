"""Every two methods either train together or are refused, and the refusal names both."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from methods.registry import composition_problems, registered
from results.errors import UserError
from tests.conftest import NARROW
from tests.methods.reference import prepared

NAMES = list(registered())
# These train nothing inside the layers, where child_tuning_d chooses what trains.
OUTSIDE_LAYERS = ("linear", "prefix", "prompt")


def _options(*methods: str) -> list[str]:
    return [
        f"method.{method}.{key}={value}"
        for method in methods
        for key, value in NARROW.get(method, {}).items()
    ]


@pytest.mark.parametrize("first", NAMES[:-1])
def test_every_pair_trains_or_is_refused_by_name(
    first: str, tiny_folder: Callable[[str], Path]
) -> None:
    folder, together = tiny_folder("bert"), 0
    others = NAMES[NAMES.index(first) + 1 :]
    for second in others:
        known = registered()
        problems = composition_problems([known[first], known[second]])
        arguments = [f"method=[{first},{second}]", *_options(first, second)]
        if problems:
            with pytest.raises(UserError) as refused:
                prepared(folder, *arguments)
            assert f"{first} and {second} both" in str(refused.value)
            continue
        if first == "child_tuning_d" and second in OUTSIDE_LAYERS:
            with pytest.raises(UserError, match=rf"\[child_tuning_d,{second}\]: nothing in scope"):
                prepared(folder, *arguments)
            arguments.append("method.child_tuning_d.scope=all")
        if {first, second} == {"mixout", "simcse"}:
            loop, _ = prepared(folder, *arguments, task="sts")
            with pytest.raises(UserError, match=r"\[mixout,simcse\]: .* as dropout is off"):
                loop.run(1)
            arguments.append("method.mixout.dropout=keep")
        task = "sts" if any(known[m].represents for m in (first, second)) else "mrpc"
        loop, _ = prepared(folder, *arguments, task=task)
        frozen = {
            n: p.detach().clone() for n, p in loop.model.named_parameters() if not p.requires_grad
        }
        loop.run(2)
        assert all(torch.isfinite(torch.tensor(loop.progress.losses))), second
        after = dict(loop.model.named_parameters())
        assert all(torch.equal(after[n], p) for n, p in frozen.items()), second
        together += 1
    print(f"{first}: {together} of {len(others)} further methods train with it")
    owns = registered()[first].owns
    refused_by_owner = sum(
        bool(owns & registered()[second].owns) or "embedding" in (first, second)
        for second in others
    )
    assert together == len(others) - refused_by_owner


def test_three_methods_train_together(tiny_folder: Callable[[str], Path]) -> None:
    arguments = ["method=[hype,child_tuning_d,llrd,lora]"]
    loop, _ = prepared(tiny_folder("bert"), *arguments)
    loop.run(2)
    names = [n for n, p in loop.model.named_parameters() if p.requires_grad]
    assert all("lora_" in n or n.startswith("classifier") for n in names)
