"""A run's name: a hash of everything that can change its score, and of nothing else.

Output folders, devices, thread counts and where files lie stay out. A changed default, label, text,
weight or method version is another run; the same run asked for in other words is the same.
"""

from __future__ import annotations

import hashlib
import json
from typing import Any

from runners.config.check import RunConfig
from runners.config.settings import Protocol, Start
from runners.config.task import Mixture, Task
from runners.data.class_weights import class_weights
from runners.data.split import TaskData
from runners.models.predecessor import Predecessor
from runners.models.weights import Weights

HARNESS_VERSION = (
    2  # raised when a change of the loop, the batches or the metrics can change a score
)


OLD_BUCKETS = 16  # as every run had before it could be chosen; those keep their names


def identity(
    config: RunConfig, data: TaskData, weights: Weights, predecessor: Predecessor | None = None
) -> dict[str, Any]:
    """Return what the name is made from, JSON-ready."""
    settings = config.settings
    budget = settings.budget.model_dump(exclude={"name", "precision", "eval_batch_size"})
    if budget["buckets"] == OLD_BUCKETS:
        del budget["buckets"]
    if budget["truncate"] == "head":  # as in every run before it could be chosen
        del budget["truncate"]
    if budget["steps"] is not None:
        budget["epochs"] = None
    task = settings.task
    # A head in the pretrained files was kept once where its shapes fitted.
    head = {"head": "drawn"} if weights.head and task.facts.head == "texts" else {}
    masked = {} if task.mlm is None else {"mlm": task.mlm.model_dump(exclude={"tasks"})}
    start = {} if predecessor is None else {"start": _start(predecessor, settings.start)}
    control = settings.control.model_dump(include={"equal", "stages"})
    weighted = class_weights(task, data.train)
    of_task = task.model_dump(include=_OF_A_TASK)
    if task.mixture is not None:
        of_task["kind"] = "mixture"  # as that kind was called first
    return {
        **head,
        **start,
        **masked,
        **({} if task.mixture is None else {"mixture": _mixture(task.mixture)}),
        **({"further": _further(task)} if task.further else {}),
        **({} if weighted is None else {"class_weights": weighted}),
        **({"draw": "seed"} if settings.data.seed == "seed" else {}),
        **({"control": control} if settings.control.equal is not None else {}),
        "harness": HARNESS_VERSION,
        "methods": config.method_options(),
        "lr": config.lr,
        "precision": config.precision,
        "budget": budget,
        "protocol": settings.protocol.model_dump(exclude={_unused(settings.protocol)}),
        "task": of_task,
        "source": data.source,
        "splits": {name: split.sha256 for name, split in data.splits().items()},
        "weights": weights.sha256,
        "model_files": weights.files_sha256,
        "optimizer": settings.optimizer.model_dump(),
        "fast_dropout": settings.speed.fast_dropout,
        "untrained": sorted(settings.model.untrained),
        "seed": settings.seed,
    }


def _unused(protocol: Protocol) -> str:
    """Return which of a protocol's two ways to find rows to select by another one replaces."""
    return "rows" if protocol.rows is None else "fraction"


_OF_A_TASK = {
    *("name", "version", "kind", "text", "options", "labels", "positive_label", "metrics"),
    "diagnostics",
}


def _mixture(mixture: Mixture) -> dict[str, Any]:
    tasks = [task.model_dump(include=_OF_A_TASK) for task in mixture.tasks.values()]
    return {"draw": mixture.draw, "tasks": tasks}


def _further(task: Task) -> dict[str, Any]:
    """Return what decides the scores of further sets besides their examples."""
    return {
        name: {
            "merge": one.merge,
            "labels": one.definition.labels if one.definition else [],
            "metrics": one.definition.metrics if one.definition else [],
        }
        for name, one in task.further.items()
    }


def _start(predecessor: Predecessor, start: Start) -> dict[str, Any]:
    return {
        "run": predecessor.run,
        "sha256": predecessor.sha256,
        "head": start.head,
        **({"freeze": True} if start.freeze else {}),
    }


def run_name(
    config: RunConfig,
    data: TaskData,
    weights: Weights,
    predecessor: Predecessor | None = None,
) -> str:
    """Return TASK.METHODS.MODEL.sSEED.HASH: readable in front, exact at the end."""
    facts = identity(config, data, weights, predecessor)
    text = json.dumps(facts, sort_keys=True, ensure_ascii=False)
    digest = hashlib.sha256(text.encode()).hexdigest()[:12]
    settings = config.settings
    parts = [
        settings.task.name,
        "+".join(config.method_names),
        settings.model.name,
        f"s{settings.seed}",
        digest,
    ]
    return ".".join(parts)
