"""Makes the next items of an iterator in a thread while the current one is used."""

from __future__ import annotations

import queue
import threading
from collections.abc import Generator, Iterator
from typing import TYPE_CHECKING, Any, TypeVar

from runners.speed.lever import Lever

if TYPE_CHECKING:
    from methods.method import Batch

Item = TypeVar("Item")


def ahead(items: Iterator[Item], depth: int = 2) -> Generator[Item]:
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


class Prefetch(Lever):
    """speed.prefetch, for a GPU: the next batches are made in a thread, in pinned memory."""

    def batches(self, coming: Generator[Batch]) -> Generator[Batch]:
        if not self.device.startswith("cuda"):
            return coming
        return ahead({k: v.pin_memory() for k, v in batch.items()} for batch in coming)
