"""Items made ahead are the same items, no more of them than asked, and errors are not lost."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from runners.jobs.job import Job
from runners.machine.device import make_accelerator
from runners.speed.prefetch import Pool, ahead
from runners.training.loop import Loop
from runners.training.prepare import prepare
from tests.conftest import configure, tiny


def _threads() -> list[threading.Thread]:
    return [t for t in threading.enumerate() if t.name == "ahead"]


def test_the_same_items_in_order_and_the_thread_ends() -> None:
    assert list(ahead(iter(range(100)))) == list(range(100))
    assert list(ahead(iter(()))) == []
    assert not _threads()


def test_no_more_is_made_than_asked() -> None:
    begun: list[int] = []

    def items() -> Iterator[int]:
        for i in range(100):
            begun.append(i)
            yield i

    made = ahead(items(), depth=3)
    for used in range(5):
        assert next(made) == used
        time.sleep(0.05)
        assert begun == list(range(used + 3))  # the one in use keeps its place
    made.close()
    assert not _threads()
    assert len(begun) < 10


def test_an_error_comes_at_its_place() -> None:
    def items() -> Iterator[int]:
        yield 1
        yield 2
        raise ZeroDivisionError("third")

    made = ahead(items())
    assert [next(made), next(made)] == [1, 2]
    with pytest.raises(ZeroDivisionError, match="third"):
        next(made)
    assert not _threads()


class _Event:
    """Stands for a moment on a device: what was sent before it is still being sent until then."""

    def __init__(self, sending: list[torch.Tensor]) -> None:
        self.sending, self.waiting = sending, []

    def record(self) -> None:
        self.waiting = list(self.sending)
        self.sending.clear()

    def synchronize(self) -> None:
        for sent, place in self.waiting:
            sent.copy_(place)  # late, as a device does
        self.waiting = []


def test_batches_pass_through_a_fixed_pool_of_memory() -> None:
    stream = torch.Generator().manual_seed(0)
    sizes = [int(n) for n in torch.randint(1, 60, (40,), generator=stream)]
    batches = [
        {
            "ids": torch.randint(0, 9, (3, n), generator=stream),
            "masked": torch.rand(3, n, generator=stream) < 0.5,
            "scores": torch.rand(3, generator=stream),
        }
        for n in sizes
    ]
    sending: list[tuple[torch.Tensor, torch.Tensor]] = []
    events, taken = [], []

    def event() -> _Event:
        events.append(_Event(sending))
        return events[-1]

    def memory(size: int) -> torch.Tensor:
        taken.append(size)
        return torch.zeros(size, dtype=torch.uint8)

    received = []
    for batch in Pool(memory, event).batches(iter(batches)):
        own = {name: torch.empty_like(tensor) for name, tensor in batch.items()}
        sending += [(own[name], batch[name]) for name in batch]
        received.append(own)
        time.sleep(0.001)  # so that the thread makes what it may
    for each in events:
        each.synchronize()
    assert len(received) == len(batches)
    for own, batch in zip(received, batches, strict=True):
        assert own.keys() == batch.keys()
        assert all(torch.equal(own[name], tensor) for name, tensor in batch.items())
    assert len(events) == 2
    assert len([size for size in taken if size]) <= 2 * 6  # grown by powers of two
    assert not _threads()


def test_an_error_passes_through_the_pool() -> None:
    def coming() -> Iterator[dict[str, torch.Tensor]]:
        yield {"ids": torch.ones(2)}
        raise ZeroDivisionError("second")

    batches = Pool(lambda n: torch.zeros(n, dtype=torch.uint8), lambda: _Event([])).batches(
        coming()
    )
    assert torch.equal(next(batches)["ids"], torch.ones(2))
    with pytest.raises(ZeroDivisionError, match="second"):
        next(batches)
    assert not _threads()


def _loop(folder: Path) -> Loop:
    config = configure(*tiny(folder, "budget.steps=9"))
    return prepare(Job(config), make_accelerator("cpu", config)).loop


def test_training_is_the_same_with_batches_made_ahead(
    tiny_folder: Callable[[str], Path],
) -> None:
    """As on a GPU, where batches are made ahead and pinned; in pieces, as between checkpoints."""
    found = []
    for on in (False, True):
        loop = _loop(tiny_folder("bert"))
        if on:
            loop.levers.batches = ahead
        for until in (2, 5, 9):
            loop.run(until)
        weights = torch.cat([p.detach().flatten() for p in loop.model.parameters()])
        found.append((weights, loop.progress.losses, loop.progress.real_tokens))
        assert not _threads()
    assert torch.equal(found[0][0], found[1][0])
    assert found[0][1:] == found[1][1:]


def test_an_error_in_a_step_ends_the_thread(
    tiny_folder: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    loop = _loop(tiny_folder("bert"))
    loop.levers.batches = ahead
    monkeypatch.setattr(loop, "take_step", lambda batch: torch.tensor(np.nan))
    with pytest.raises(Exception, match="not finite"):
        loop.run(9)
    del loop
    assert not _threads()


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_batches_on_a_gpu_come_from_pinned_memory(tiny_folder: Callable[[str], Path]) -> None:
    config = configure(*tiny(tiny_folder("bert"), "budget.steps=9"))
    loop = prepare(Job(config), make_accelerator("cuda:0", config)).loop
    with contextlib.closing(loop.levers.batches(map(loop.collate, loop.order.batches(0, 1)))) as b:
        assert all(tensor.is_pinned() for tensor in next(b).values())
    loop.run(9)
    assert len(loop.progress.losses) == 9
