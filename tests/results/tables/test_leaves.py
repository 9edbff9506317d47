"""Every leaf of a configuration tells runs apart in tables, or is known to change no score."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Iterator
from typing import Any

import pytest

from results.record import Record
from results.tables.collect import tables
from results.tables.leaves import WITHOUT_EFFECT, without_effect
from tests.conftest import configure
from tests.results.simulated import BASE

_SPLIT = {"rows": 48, "sha256": "a" * 64}
_DATA: dict[str, Any] = {"source": "local", "splits": {"train": _SPLIT, "validation": _SPLIT}}
_SETS = {"source": "local", "splits": {"train": _SPLIT, "STS-B": _SPLIT}}
_MIXED = {
    "source": "local",
    "splits": {"train": _SPLIT, "rte/validation": _SPLIT, "mrpc/validation": _SPLIT},
    "parts": {"rte": _SPLIT, "mrpc": _SPLIT},
}
_FURTHER = {"source": "local", "splits": {**_DATA["splits"], "sick": _SPLIT}}
_ACCURATE = {"accuracy": 0.5}

# What is typed, and what a record of it holds besides its configuration.
COMPOSITIONS: dict[str, tuple[list[str], dict[str, Any]]] = {
    "plain": (["task=mrpc", "data=embedded"], {"data": _DATA}),
    "steps": (["task=stsb", "budget.steps=9", "budget.dropout=0.2"], {"data": _DATA}),
    "select": (["task=cola", "protocol=select", "optimizer=super_adam"], {"data": _DATA}),
    "weighed": (["task=cola", "task.class_weights=[1,2]"], {"data": _DATA}),
    "named weights": (
        ["task=cola", "task.class_weights={acceptable: 1, unacceptable: 2}"],
        {"data": _DATA},
    ),
    "patient": (["task=cola", "protocol=select", "budget.patience=2"], {"data": _DATA}),
    "prompted": (["task=rte", "method=mlm_prompt"], {"data": _DATA}),
    "prompted for a score": (["task=stsb", "method=mlm_prompt"], {"data": _DATA}),
    "of batches": (["task=mrpc", "method=lily"], {"data": _DATA}),
    "chosen": (["task=rte", "method=unimc"], {"data": _DATA}),
    "composed": (["task=rte", "method=[hype,adapter]", "data.shots=2"], {"data": _DATA}),
    "tokens": (["task=mlm", "method=full", "task.mlm.on=[cola,rte]"], {"data": _DATA}),
    "vectors": (
        ["task=sts", "method=simcse"],
        {
            "data": {**_SETS, "text": {"kind": "sentences", "rows": 48}},
            "scores": {"STS-B": {"spearmanr": 0.5}},
        },
    ),
    "mixture": (
        ["task=mix", "task.mixture.of=[rte,mrpc]"],
        {
            "data": _MIXED,
            "scores": {"rte/validation": _ACCURATE, "mrpc/validation": _ACCURATE},
        },
    ),
    "chosen mixture": (
        ["task=mix", "task.mixture.of=[rte,mrpc]", "method=unimc"],
        {
            "data": _MIXED,
            "scores": {"rte/validation": _ACCURATE, "mrpc/validation": _ACCURATE},
        },
    ),
    "further": (
        ["task=mnli", "+task.further.sick.task=sick", "+task.further.sick.merge.neutral=neutral"],
        {"data": _FURTHER, "scores": {"validation": _ACCURATE, "sick": _ACCURATE}},
    ),
}

# Leaves with a few values only.
_OTHER = {
    "protocol.name": {"final": "select", "select": "final"},
    "task.mixture.draw": {"proportional": "even"},
    "control.equal": {"updates": "data", "data": "updates"},
    "start.head": {"drawn": "keep"},
}


def _configuration(name: str) -> dict[str, Any]:
    """Return the configuration as a record holds it."""
    config = configure(*COMPOSITIONS[name][0])
    kept: dict[str, Any] = config.settings.model_dump()
    kept |= {"method": config.method_options(), "lr": config.lr, "precision": config.precision}
    return kept


def _record(config: dict[str, Any], seed: int, **more: Any) -> Record:
    """Return a record of a configuration, whose own fields repeat parts of it."""
    data = {**more.pop("data", _DATA), "source": config["data"]["source"]}
    if "parts" in data:
        data["draw"] = config["task"]["mixture"]["draw"]
    more.setdefault("scores", {"validation": _ACCURATE})
    return dataclasses.replace(
        BASE,
        run=f"run{seed}",
        seed=seed,
        methods=[method["name"] for method in config["method"]],
        task=config["task"]["name"],
        model=config["model"]["name"],
        budget=config["budget"]["name"],
        protocol=config["protocol"]["name"],
        config=config,
        data=data,
        predictions={},
        score=0.5,
        **more,
    )


def _paths(value: Any, *path: Any) -> Iterator[tuple[Any, ...]]:
    """Yield where every leaf is; methods stand in a list."""
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from _paths(inner, *path, key)
    elif path == ("method",):
        for i, inner in enumerate(value):
            yield from _paths(inner, *path, i)
    else:
        yield path


def _changed(config: dict[str, Any], path: tuple[Any, ...]) -> dict[str, Any]:
    """Return a configuration with another value in one place."""
    other = copy.deepcopy(config)
    *outer, last = path
    part: Any = other
    for key in outer:
        part = part[key]
    value, key = part[last], ".".join(map(str, path))
    if key in _OTHER:
        part[last] = _OTHER[key][value]
    elif isinstance(value, bool):
        part[last] = not value
    elif isinstance(value, int | float):
        part[last] = value + 1
    elif isinstance(value, list):
        part[last] = [*value, "more"]
    else:
        part[last] = 7 if value is None else f"{value}_x"
    return other


def _places(records: list[Record]) -> tuple[list[set[tuple[str, ...]]], str]:
    """Return in which tables, columns and rows each run stands, and what marks the columns."""
    collected = tables(records)
    places: dict[str, set[tuple[str, ...]]] = {record.run: set() for record in records}
    for table in collected:
        for row in table.rows:
            for task, cell in row.cells.items():
                for point in cell.points:
                    places[point.run].add((table.conditions.heading(), task, row.method))
    headings = {table.conditions.heading() for table in collected}
    assert len(headings) == len(collected)
    return list(places.values()), " ".join(m for table in collected for m in table.marks.values())


def _changes_nothing(path: tuple[Any, ...], config: dict[str, Any]) -> bool:
    """Say whether a leaf is known to change no score, in a part of a task as in a task."""
    key = ".".join(map(str, path))
    if key == "task.name":  # columns are its sets, or its parts
        return bool(config["task"]["pairs"] or config["task"].get("mixture"))
    if key in ("model.name", "protocol.name", "data.source"):  # a field of the record says it too
        return False
    if path[:3] == ("task", "mixture", "tasks"):
        return without_effect("task." + ".".join(path[4:]))
    if path[:2] == ("task", "further") and path[3] == "definition":
        return without_effect("task." + ".".join(path[4:]))
    if path[:2] == ("task", "further"):
        return path[3] in ("task", "split", "dir")
    if key in ("protocol.fraction", "protocol.rows") and config["data"].get("shots"):
        return True  # as many rows select as are trained on
    if path[:2] == ("task", "range"):
        return not config["task"].get("prompt")
    if key == "budget.eval_batch_size":
        return "lily" not in [method["name"] for method in config["method"]]
    if key == "task.mixture.draw":
        return False
    if key == "budget.epochs":
        return config["budget"]["steps"] is not None
    if key == "budget.evaluate":
        return bool(config["protocol"]["name"] == "final")
    return without_effect(key)


@pytest.mark.parametrize("name", COMPOSITIONS)
def test_no_leaf_mixes_two_kinds_of_runs_without_a_word(name: str) -> None:
    config, more = _configuration(name), COMPOSITIONS[name][1]
    paths = list(_paths(config))
    assert len(paths) > 50
    for path in paths:
        key = ".".join(map(str, path))
        records = [_record(config, 1, **more), _record(_changed(config, path), 2, **more)]
        (before, after), marks = _places(records)
        assert before, key
        assert (before == after) == _changes_nothing(path, config), key
        numbered = {column for _, column, _ in before ^ after if "#" in column}
        assert not numbered or f"{path[-1]}=" in marks, key


def test_every_leaf_that_changes_nothing_is_one_that_there_is() -> None:
    known = {".".join(map(str, p)) for name in COMPOSITIONS for p in _paths(_configuration(name))}
    parts = {".".join(key.split(".")[:n]) for key in known for n in range(1, 5)}
    assert set(WITHOUT_EFFECT) - parts == {
        *("start.run", "task.generated", "task.arm_of", "task.rows_of"),
        *("data.pseudo", "data.generated", "data.mine", "task.mine"),
    }


def test_what_one_method_reads_of_a_task_sets_it_apart_from_no_other() -> None:
    plain, prompted = (_configuration(name) for name in ("composed", "prompted"))
    assert "prompt" in prompted["task"]
    assert "prompt" not in plain["task"]
    (one, other), marks = _places([_record(plain, 1), _record(prompted, 2)])
    assert {column for _, column, _ in one | other} == {"rte"}
    assert not marks
