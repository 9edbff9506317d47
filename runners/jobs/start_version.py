"""Which starts took over less than the other run had trained, once: today's have another name."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from methods.method import Method
from methods.surgery.inserted import tuner_of
from runners.config.check import RunConfig, from_record
from runners.models.learned import methods_of
from runners.models.predecessor import Predecessor
from runners.models.weights import Weights

# Whose pairs of matrices have the same names and shapes.
_PAIRS = frozenset({"lora", "lora_plus", "rslora", "dora", "pissa", "olora", "peft"})


def start_version(config: RunConfig, weights: Weights, before: Predecessor | None) -> int:
    """Return 2 where a start lost some of what the run before had trained, else 1."""
    if before is None or before.exported:
        return 1
    freeze, names = config.settings.start.freeze, {m["name"] for m in methods_of(before.config)}
    lost = any(_splits(m, names) or (freeze and _folds(m, names)) for m in config.methods)
    if weights.architecture == "bert" and any(_acts_in_pooler(m, names) for m in config.methods):
        lost |= config.head == from_record(before.config).head == "texts"  # others have no pooler
    return 2 if lost else 1


def _splits(method: Method, before: Collection[str]) -> bool:
    """Say whether pairs were put beside matrices out of which their start was taken once more."""
    options = getattr(method, "options", None)
    options = options if isinstance(options, Mapping) else {}  # unimc's are another thing
    starts = str(options.get("init_lora_weights", tuner_of(method)))
    own = starts.startswith(("pissa", "olora")) or bool(options.get("use_kasa"))
    return own and not _PAIRS.isdisjoint(before)


def _folds(method: Method, before: Collection[str]) -> bool:
    """Say whether a prefix that an MLP had made was the untrained MLP's."""
    by_mlp = method.name == "unipelt" or getattr(method, "projection", False)
    return method.name in before and by_mlp


def _acts_in_pooler(method: Method, before: Collection[str]) -> bool:
    """Say whether the activation of a pooler that has one as a module was the untrained one."""
    own = method.name == "raft" and getattr(method, "pooler", "keep") != "keep"
    return own and method.name in before
