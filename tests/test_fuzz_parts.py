"""Records of several tasks, sets or controls with anything in what tells them: shown, or named."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from runners.runs.run import run
from tests.conftest import SOAK, configure, tiny
from tests.test_fuzz import _json, _places, _read_and_tabulate

OTHER_RUNS = (
    ("mix=[mnli,stsb]", "save=delta"),
    ("task=mnli", "+task.further.rte={task: rte, merge: {neutral: not_entailment,"
     " contradiction: not_entailment}}"),
    ("task=mlm", "mlm.on=[rte]"),
    ("task=rte", "control.equal=data", "control.stages=[mnli]", "control.train=abc"),
    ("task=rte", "start=mix.full"),
)  # fmt: skip


@pytest.fixture(scope="module")
def others(
    tiny_folder: Callable[[str], Path], _cache: Path, tmp_path_factory: pytest.TempPathFactory
) -> list[dict[str, Any]]:
    """Return the records of runs with parts, other sets, masked tokens, a control, or a start."""
    out = tmp_path_factory.mktemp("others")
    small = [a for a in tiny(tiny_folder("bert")) if not a.startswith("task=")]
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TUNEBENCH_CACHE", str(_cache))
        for typed in OTHER_RUNS:
            arguments = [*small, *typed, f"out={out}"]
            assert run(configure(*arguments), arguments) == 0
    contents = [json.loads(path.read_text()) for path in sorted(out.glob("*.json"))]
    assert len(contents) == len(OTHER_RUNS)
    return [{k: v for k, v in one.items() if k != "content_sha256"} for one in contents]


def _of_several(place: tuple[Any, ...]) -> bool:
    """Say whether a place is of what only such records have, and not too deep in it."""
    roots = {("data",): 3, ("measured",): 3, ("scores",): 3, ("weights", "start"): 5}
    roots |= {("config", "control"): 3, ("config", "start"): 3}
    roots |= {("config", "task", part): 6 for part in ("mixture", "further", "mlm", "arm_of")}
    return any(place[: len(r)] == r and len(place) <= depth for r, depth in roots.items())


def test_a_record_of_several_tasks_with_anything_in_what_tells_them(
    others: list[dict[str, Any]], tmp_path: Path
) -> None:
    """Each part in turn is gone, or another thing: three of them, and all in `make soak`."""
    values = (..., None, [], {}, {"x": {}}, "x", 0)
    tried = 0
    for content in others:
        path = tmp_path / f"{content['run']}.json"
        for place in filter(_of_several, _places(content)):
            for number in range(len(values) if SOAK else 3):
                value = values[(tried + number) % len(values)]
                changed = copy.deepcopy(content)
                node = changed
                for key in place[:-1]:
                    node = node[key]
                if value is ...:
                    del node[place[-1]]
                else:
                    node[place[-1]] = value
                path.write_text(_json(changed))
                _read_and_tabulate(path, "words" if tried % 3 else "page")
                tried += 1
    assert tried > 500
