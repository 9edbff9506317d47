"""Each key of speed.* is one lever in a file of its own, and the loop names none."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Generator
from pathlib import Path
from typing import Any

import pytest

from runners.config.settings import Speed
from runners.speed.lever import Lever, Start
from runners.speed.levers import LEVERS, Levers
from runners.training import loop as loop_module
from tests.conftest import ROOT
from tests.methods.reference import prepared_run


def test_every_key_has_a_lever_of_its_own_file() -> None:
    assert list(LEVERS) == list(Speed.model_fields)
    files = [Path(inspect.getfile(cls)) for cls in LEVERS.values()]
    assert len(set(files)) == len(LEVERS)
    assert {path.parent for path in files} == {ROOT / "runners" / "speed"}


def test_the_loop_names_no_lever() -> None:
    source = inspect.getsource(loop_module)
    assert not [key for key in LEVERS if key in source]
    own = [cls.__name__ for cls in LEVERS.values()]
    assert not [name for name in own if name in source]


def test_all_levers_have_the_hooks_of_one() -> None:
    hooks = {n for n, _ in inspect.getmembers(Lever, inspect.isfunction) if n != "__init__"}
    assert hooks == {n for n, _ in inspect.getmembers(Levers, inspect.isfunction)} - {"__init__"}


class _Diary(Lever):
    """Writes down which hook was called when."""

    lines: list[Any]

    def before_first_step(self, start: Start) -> None:
        self.lines.append(("start", sum(len(ids) for ids in start.token_ids) > 100))

    def batches(self, coming: Generator[Any]) -> Generator[Any]:
        for batch in coming:
            self.lines.append("batch")
            yield batch

    def after_step(self, places: int) -> None:
        self.lines.append(("step", places))

    def after_last_step(self) -> None:
        self.lines.append("finish")


def test_hooks_are_called_in_their_places_and_only_of_what_is_on(
    tiny_folder: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    _Diary.lines = []
    monkeypatch.setitem(LEVERS, "prefetch", _Diary)
    for on in ("false", "true"):
        ready = prepared_run(tiny_folder("bert"), f"speed.prefetch={on}")
        ready.loop.start(ready.encoded)
        ready.loop.run(2)
        ready.loop.finish()
    sizes = [
        int(ready.loop.collate(i)["input_ids"].numel()) for i in ready.loop.order.batches(0, 2)
    ]
    steps = [("step", sizes[0]), ("step", sum(sizes))]
    assert _Diary.lines == [("start", True), "batch", steps[0], "batch", steps[1], "finish"]
