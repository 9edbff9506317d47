"""Makes the next items of an iterator in a thread while the current one is used."""

from __future__ import annotations

import queue
import threading
from collections.abc import Generator, Iterator
from typing import Any, TypeVar

Item = TypeVar("Item")


def ahead(items: Iterator[Item], depth: int = 2) -> Generator[Item]:
    """Yield the items in their order, at most `depth` of them made before they are asked for.

    What the iterator raises is raised here, at its place. Closing this generator ends the thread.
    """
    made: queue.Queue[tuple[str, Any]] = queue.Queue(maxsize=depth)
    room = threading.Semaphore(depth)  # an item is begun only when it has a place
    stopped = threading.Event()

    def make() -> None:
        try:
            while True:
                room.acquire()
                if stopped.is_set():
                    return
                made.put(("item", next(items)))
        except StopIteration:
            made.put(("end", None))
        except BaseException as error:  # the consumer's to handle
            made.put(("error", error))

    thread = threading.Thread(target=make, name="ahead", daemon=True)
    thread.start()
    try:
        while True:
            kind, value = made.get()
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
