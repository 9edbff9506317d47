"""Simulated records, the same in every process, from the golden record of schema 1."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from results.record import Record, read_copy

BASE = read_copy(Path(__file__).parent / "golden" / "schema_1.json")
ROWS, UNSEEN = 400, tuple(range(10))  # so many of the report's, and which have unknown attributes
SHARES = {"full": 22_713_986, "bitfit": 175_106, "adapter": 734_978}


def simulated(
    method: str = "full", task: str = "mrpc", seed: int = 1, score: float | None = 0.5, **more: Any
) -> Record:
    """Return a record of real, complete data; `more` replaces fields, and parts of config."""
    splits = {
        "train": {"rows": 1000, "sha256": "1" * 64, "complete": True},
        "validation": {"rows": 400, "sha256": "2" * 64, "complete": True},
    }
    splits |= more.pop("splits", {})
    options = {"name": method, "version": 1, **more.pop("options", {})}
    names = method.split("+")
    config = {
        **BASE.config,
        "method": [options] if len(names) == 1 else [{"name": n, "version": 1} for n in names],
        "task": {"name": task, "kind": "classification", "labels": ["no", "yes"]},
        **more.pop("config", {}),
    }
    return dataclasses.replace(
        BASE,
        run=f"{task}.{method}.minilm.s{seed}.{len(more)}",
        status="finished" if score is not None else more.pop("status", "diverged"),
        methods=names,
        task=task,
        seed=seed,
        score=score,
        scores={} if score is None else {"validation": {"accuracy": score}},
        config=config,
        data={**BASE.data, "source": "local", "splits": splits},
        parameters={
            "total": 22_713_986,
            "trainable": SHARES.get(method, 148_610),
            "trainable_without_head": SHARES.get(method, 148_610) - 148_610,
        },
        **{"predictions": {}, "train_seconds": 100.0, "peak_bytes": 10**9, **more},
    )


def sliced(
    method: str = "full",
    task: str = "opin",
    seed: int = 1,
    seen: float | None = 0.8,
    unseen: float = 0.5,
    rows: tuple[int, ...] = UNSEEN,
    **more: Any,
) -> Record:
    """Return a run of a task with attributes, whose score follows from its slices'."""
    few, many = len(rows), ROWS - len(rows)
    score = None if seen is None else (many * seen + few * unseen) / ROWS
    of = {"seen": {"accuracy": seen}, "unseen": {"accuracy": unseen}}
    kept = {} if seen is None else {"validation": {"unseen": list(rows), "scores": of}}
    own = {"name": task, "kind": "classification", "labels": ["no", "yes"], "attributes": ["user"]}
    config = {"task": {**own, **more.pop("definition", {})}}
    return simulated(method, task, seed, score, slices=kept, config=config, **more)


def grid(
    gains: Mapping[str, float], tasks: Iterable[str], seeds: int, spread: float = 0.01, **more: Any
) -> list[Record]:
    """Return a record for each method, task and seed: a base, the method's gain, and noise."""
    rng = np.random.Generator(np.random.PCG64(5))
    found = []
    for place, task in enumerate(tasks):
        for seed in range(1, seeds + 1):
            base = 0.6 + 0.05 * place + rng.normal(0, 0.01)
            for method, gain in gains.items():
                score = round(base + gain + rng.normal(0, spread), 6)
                found.append(simulated(method, task, seed, score, **more))
    return found


def of_one_training(records: Iterable[Record]) -> list[Record]:
    """Return records of which those of one method and seed are parts of one run."""
    return [dataclasses.replace(r, run=f"{'+'.join(r.methods)}.s{r.seed}") for r in records]


def of_model(record: Record, name: str, weights: str = "") -> Record:
    """Return a record of another model; its weights are the model's own unless others are named."""
    facts = {**record.weights, "name_or_path": weights or f"hub/{name}"}
    config = {**record.config, "model": {"name": name, "package": None}}
    return dataclasses.replace(record, model=name, weights=facts, config=config)
