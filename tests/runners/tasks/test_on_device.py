"""Batches that are gathered where a split lies are those that are laid out on the host."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from runners.jobs.job import Job
from runners.machine.device import make_accelerator
from runners.speed import repeat, resident
from runners.speed.levers import LEVERS, Levers
from runners.tasks.collate import Collate, Collator, on_device
from runners.tasks.multiple_choice import OptionCollator
from runners.tasks.on_device import AT_ONCE, OnDevice
from runners.tasks.tokens import Tokens
from runners.training.prepare import prepare
from tests.conftest import configure, tiny

Folder = Callable[[str], Path]
CPU = torch.device("cpu")


def _tokens(rows: int, seed: int, types: bool = True) -> Tokens:
    stream = np.random.default_rng(seed)
    lengths = stream.integers(1, 30, rows)
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    ids = stream.integers(5, 99, offsets[-1]).astype(np.int32)
    kinds = stream.integers(0, 2, offsets[-1]).astype(np.uint8) if types else None
    return Tokens(ids, kinds, offsets, np.zeros(rows, dtype=bool))


@pytest.mark.parametrize("multiple", [1, 8])
@pytest.mark.parametrize("left", [False, True])
@pytest.mark.parametrize("types", [False, True])
def test_texts_on_either_side(multiple: int, left: bool, types: bool) -> None:
    labels = np.random.default_rng(3).random(50).astype(np.float32)
    collate = Collator(_tokens(50, 1, types), labels, 7, left).padded_to(multiple)
    order = np.random.default_rng(2).permutation(50)
    plan = [order[i : i + 6] for i in range(0, 50, 6)]
    _same(collate, plan)
    for indices in plan:
        batch, plain = collate(indices), Collator(collate.tokens, labels, 7, left)(indices)
        width, longest = plain["input_ids"].shape[1], int(collate.lengths.max())
        assert batch["input_ids"].shape == collate.shape(indices)
        assert batch["input_ids"].shape[1] == min(-(-width // multiple) * multiple, longest)
        place = slice(-width, None) if left else slice(0, width)
        for name, tensor in plain.items():
            assert torch.equal(batch[name][:, place] if tensor.dim() == 2 else batch[name], tensor)
        assert int(batch["attention_mask"].sum()) == int(plain["attention_mask"].sum())


def _same(collate: Collate, plan: list[np.ndarray]) -> None:
    gather = collate.on(CPU)
    assert gather is not None
    batches = list(OnDevice(gather, CPU).batches(plan))
    assert len(batches) == len(plan)
    for indices, batch in zip(plan, batches, strict=True):
        wanted = collate(indices)
        assert batch.keys() == wanted.keys()
        assert tuple(batch["input_ids"].shape) == collate.shape(indices)
        for name, tensor in wanted.items():
            assert torch.equal(batch[name], tensor), name
            assert batch[name].dtype == tensor.dtype, name


@pytest.mark.parametrize(
    "given",
    [
        ["task=rte"],
        ["task=stsb"],
        ["task=sts", "method=simcse"],
        ["mix=[rte,stsb]"],
        ["task=mlm", "mlm.on=[rte]"],
    ],
    ids=lambda given: given[0],
)
def test_every_kind_of_task(
    given: list[str], tiny_folder: Folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = configure(*tiny(tiny_folder("bert"), *given))
    ready = prepare(Job(config), make_accelerator("cpu", config))
    collate, plan = ready.encoded["train"].padded_to(8), list(ready.loop.order.batches(0, 4))
    lengths = [int(collate(i)["attention_mask"].sum()) for i in plan]
    assert [int(collate.lengths[i].sum()) for i in plan] == lengths  # what a loop counts
    monkeypatch.setitem(repeat.CAPTURES, "cpu", lambda device: None)
    levers = Levers(dict.fromkeys(LEVERS, True), "cpu")
    if given[0] == "task=mlm":  # other masks at each step
        assert on_device(collate, CPU, levers) is None
        assert [tuple(collate(i)["input_ids"].shape) for i in plan] == list(
            map(collate.shape, plan)
        )
        return
    _same(collate, plan)
    assert on_device(collate, CPU, levers) is not None
    assert on_device(collate, CPU, Levers(dict.fromkeys(LEVERS, False), "cpu")) is None
    monkeypatch.setattr(resident, "MOST", 100)
    assert on_device(collate, CPU, levers) is None


def test_options_of_a_choice() -> None:
    options = [Collator(_tokens(20, seed), None, 0) for seed in (1, 2, 3)]
    collate = OptionCollator(options, np.arange(20) % 3).padded_to(8)
    _same(collate, [np.array([3, 1, 7]), np.array([0])])


def test_a_long_plan_is_sent_in_portions_and_only_when_it_is_due() -> None:
    collate, sent = Collator(_tokens(9, 1), None, 0), []

    def plan() -> Iterator[np.ndarray]:
        for i in range(2 * AT_ONCE):
            sent.append(i)
            yield np.array([i % 9, (i + 4) % 9])

    batches = OnDevice(collate.on(CPU), CPU).batches(plan())
    next(batches)
    assert len(sent) == AT_ONCE
    assert sum(1 for _ in batches) == 2 * AT_ONCE - 1


def test_a_run_elsewhere_lies_nowhere(tiny_folder: Folder) -> None:
    config = configure(*tiny(tiny_folder("bert")))
    loop = prepare(Job(config), make_accelerator("cpu", config)).loop
    assert on_device(loop.collate, CPU, loop.levers) is None
    assert loop.repeats is None
