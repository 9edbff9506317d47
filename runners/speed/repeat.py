"""Repeats what is done with a batch by what a device wrote down of it, where enough are to come.

The first batch of a shape is done as ever, by Python that asks a device for one operation after the
other. A later one is written down while it is done, and those after it are repeated: the device
does the same operations in the same memory, into which each batch is copied first.
"""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch

from runners.speed.operations import Operations, faults, written_down
from runners.speed.out_of_memory import is_out_of_memory

Batch = dict[str, torch.Tensor]
Results = tuple[torch.Tensor | None, ...]
Act = Callable[[Batch], Results]
Shape = tuple[Any, ...]
# Writing a graph down takes the host about as long as a step that it launches, and instantiating it
# some more: it pays when so many batches of its shape, this one included, are still to come.
REPAYS = 4
OUT_OF_MEMORY = "memory ran out"


@dataclass(frozen=True)
class Recorded:
    """What was done and can be done again: `again` writes new results into `results`."""

    results: Results
    again: Callable[[], object]


class Capture(Protocol):
    """Writes down what is asked of a device; one for each way to do so."""

    def at_work(self) -> AbstractContextManager[None]:
        """Everything that is, or comes to be, written down is done in here."""
        ...

    def record(self, act: Callable[[], Results], generators: Sequence[torch.Generator]) -> Recorded:
        """Do what `act` asks for once, and write it down.

        `generators` are those that it draws from besides torch's own. Where memory runs out,
        nothing has been done.
        """
        ...

    def forget(self) -> None:
        """Give back what was shared between records, all of which are gone."""
        ...


class CudaGraphs:
    """CUDA graphs, which share one pool of memory and one stream."""

    def __init__(self, device: str) -> None:
        self.stream = torch.cuda.Stream(device)
        self.pool: Any = None

    @contextmanager
    def at_work(self) -> Iterator[None]:
        """Do it on the stream of the graphs, between what was asked before and what comes after."""
        outside = torch.cuda.current_stream(self.stream.device)
        self.stream.wait_stream(outside)
        with torch.cuda.stream(self.stream):
            yield
        outside.wait_stream(self.stream)

    def record(self, act: Callable[[], Results], generators: Sequence[torch.Generator]) -> Recorded:
        if self.pool is None:
            self.pool = torch.cuda.graph_pool_handle()
        graph = torch.cuda.CUDAGraph()
        for generator in generators:
            graph.register_generator_state(generator)
        # thread_local: a thread that pins batches meanwhile is in its right.
        with (
            _no_collection(),
            torch.cuda.graph(
                graph, pool=self.pool, stream=self.stream, capture_error_mode="thread_local"
            ),
        ):
            results = act()
        graph.replay()  # a capture itself does nothing
        return Recorded(results, graph.replay)

    def forget(self) -> None:
        self.pool = None
        torch.cuda.empty_cache()


# By kind of device; what is not here does everything as ever.
CAPTURES: dict[str, Callable[[str], Capture]] = {"cuda": CudaGraphs}
MULTIPLE = 8  # tokens; there are then few lengths, and products suit the device


def repeats_on(device: str) -> bool:
    """Say whether batches can be repeated on a device (cpu, mps or cuda:N).

    Then they are padded to a MULTIPLE, and numbers that change from step to step are on the device.
    """
    return device.partition(":")[0] in CAPTURES


@contextmanager
def _no_collection() -> Iterator[None]:
    """Let no garbage be collected: what it ends may be what a capture does not allow."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


@dataclass
class Repeats:
    """Does something with batches, each exactly once: as ever, written down, or repeated.

    `hindrance` says why nothing can be written down, empty where something can. What is not
    `trusted` is watched first: two batches of one shape have to ask for the same operations, and
    for none that a capture forbids. Where memory runs out meanwhile, all goes on as ever.
    """

    capture: Capture
    generators: Callable[[], Sequence[torch.Generator]]
    hindrance: str = ""
    trusted: bool = True
    recording: bool = False
    recorded: int = 0
    repeated: int = 0
    _kept: dict[Shape, tuple[Batch, Recorded]] = field(default_factory=dict)
    _places: dict[Shape, Batch] = field(default_factory=dict)  # a watched batch's memory
    _seen: set[Shape] = field(default_factory=set)
    _watched: dict[Shape, Operations] = field(default_factory=dict)

    def __call__(self, act: Act, batch: Batch, to_come: int, of: str = "") -> Results:
        """Return what `act` returns of a batch.

        `to_come` counts the batches of this shape that are still to be done, this one included.
        `of` tells acts apart.
        """
        if self.hindrance:
            return act(batch)
        with self.capture.at_work():
            shape = (of, *((n, tuple(t.shape), t.dtype) for n, t in sorted(batch.items())))
            if shape in self._kept:
                return self._again(shape, batch)
            if shape not in self._seen:
                self._seen.add(shape)
                return act(batch)
            if not self.trusted:
                return self._watch(act, batch, shape)
            return self._record(act, batch, shape) if to_come >= REPAYS else act(batch)

    def _again(self, shape: Shape, batch: Batch) -> Results:
        place, recorded = self._kept[shape]
        _copy(batch, place)
        recorded.again()
        self.repeated += 1
        return _copies(recorded.results)

    def _record(self, act: Act, batch: Batch, shape: Shape) -> Results:
        try:
            place = self._places.pop(shape, None) or _clones(batch)
            _copy(batch, place)
            self.recording = True
            recorded = self.capture.record(lambda: act(place), self.generators())
        except Exception as error:
            if not self._of_memory(error):
                error.add_note("speed.graphs=false does without a graph")
                raise
            self.give_up(f"{OUT_OF_MEMORY} while a step was captured")
        else:
            self._kept[shape] = (place, recorded)
            self.recorded += 1
            return _copies(recorded.results)
        finally:
            self.recording = False
        return act(batch)

    def _of_memory(self, error: BaseException | None) -> bool:
        """Say whether an error, or what it came after, is that memory ran out."""
        while error is not None:
            if isinstance(error, Exception) and is_out_of_memory(error):
                return True
            error = error.__context__
        return False

    def _watch(self, act: Act, batch: Batch, shape: Shape) -> Results:
        place = self._places.setdefault(shape, _clones(batch))
        _copy(batch, place)
        with written_down(self.generators()) as operations:
            results = act(place)
        before = self._watched.pop(shape, None)
        if before is None:
            self._watched[shape] = operations
        elif shown := faults(before, operations):
            self.give_up(shown[0])
        else:
            self.trusted = True
            self._watched = {}
        return results

    def give_up(self, why: str) -> bool:
        """Do everything as ever from now on; say whether that is new."""
        if self.hindrance:
            return False
        self.hindrance = why
        self.forget()
        return True

    def forget(self) -> None:
        """Write everything down anew, as where what was in memory now lies elsewhere."""
        self._kept, self._places, self._watched = {}, {}, {}
        self._seen = set()
        self.capture.forget()

    @property
    def facts(self) -> dict[str, Any]:
        """Return what a record says: shapes written down, batches repeated, or why not."""
        facts: dict[str, Any] = {"captured": self.recorded, "replayed": self.repeated}
        return {**facts, "hindrance": self.hindrance} if self.hindrance else facts


def _clones(batch: Batch) -> Batch:
    return {name: tensor.clone() for name, tensor in batch.items()}


def _copy(batch: Batch, place: Batch) -> None:
    for name, tensor in place.items():
        tensor.copy_(batch[name], non_blocking=True)


def _copies(results: Results) -> Results:
    """Return results in memory that is not written again."""
    return tuple(None if result is None else result.clone() for result in results)
