"""Makes the next items of an iterator in a thread while the current one is used."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Generator, Iterator
from contextlib import closing
from itertools import accumulate, cycle
from typing import TYPE_CHECKING, Any, TypeVar

from runners.speed.lever import Lever

if TYPE_CHECKING:
    import torch

    from methods.method import Batch

Item = TypeVar("Item")
DEPTH = 2  # batches under way, the one in use among them
ALIGNED = 64  # bytes


def ahead(items: Iterator[Item], depth: int = DEPTH) -> Generator[Item]:
    """Yield the items in their order, at most `depth` of them made before they are asked for.

    What the iterator raises is raised here, at its place. Closing this generator ends the thread.
    """
    ready: queue.Queue[tuple[str, Any]] = queue.Queue(maxsize=depth)
    room = threading.Semaphore(depth)  # an item is begun only when it has a place
    stopped = threading.Event()

    def make() -> None:
        try:
            while True:
                room.acquire()
                if stopped.is_set():
                    return
                ready.put(("item", next(items)))
        except StopIteration:
            ready.put(("end", None))
        except BaseException as error:  # the consumer's to handle
            ready.put(("error", error))

    thread = threading.Thread(target=make, name="ahead", daemon=True)
    thread.start()
    try:
        while True:
            kind, value = ready.get()
            if kind == "end":
                return
            if kind == "error":
                raise value
            yield value
            room.release()
    finally:
        stopped.set()
        room.release()
        thread.join()


class _Slot:
    """Memory for one batch, which grows to the largest, and when its last batch has been sent."""

    def __init__(self, pinned: Callable[[int], torch.Tensor], event: Any) -> None:
        self.pinned, self.event = pinned, event
        self.memory = pinned(0)

    def filled(self, batch: Batch) -> Batch:
        """Return a batch in this memory, once what lay there has been sent."""
        self.event.synchronize()
        ends = list(accumulate(-(-t.nbytes // ALIGNED) * ALIGNED for t in batch.values()))
        if ends[-1] > len(self.memory):
            self.memory = self.pinned(2 ** (ends[-1] - 1).bit_length())
        placed = {}
        for (name, tensor), start in zip(batch.items(), [0, *ends], strict=False):
            flat = self.memory[start : start + tensor.nbytes].view(tensor.dtype)
            placed[name] = flat.view(tensor.shape).copy_(tensor)
        return placed


class Pool:
    """As many buffers of pinned memory as there are batches under way: none is pinned for each."""

    def __init__(self, pinned: Callable[[int], torch.Tensor], event: Callable[[], Any]) -> None:
        """Take what returns so many bytes of memory, and what marks a moment on the device."""
        self.slots = [_Slot(pinned, event()) for _ in range(DEPTH)]

    def batches(self, coming: Iterator[Batch]) -> Generator[Batch]:
        """Yield the batches, made ahead; each stays what it is until the next one is asked for."""
        slots = cycle(self.slots)
        placed = ((slot, slot.filled(batch)) for slot, batch in zip(slots, coming, strict=False))
        with closing(ahead(placed, DEPTH)) as ready:
            for slot, batch in ready:
                yield batch
                slot.event.record()


def _pinned(size: int) -> torch.Tensor:
    import torch

    return torch.empty(size, dtype=torch.uint8, pin_memory=True)


class Prefetch(Lever):
    """speed.prefetch, for a GPU: the next batches are made in a thread, in pinned memory."""

    def batches(self, coming: Generator[Batch]) -> Generator[Batch]:
        if not self.device.startswith("cuda"):
            return coming
        import torch

        return Pool(_pinned, torch.cuda.Event).batches(coming)
