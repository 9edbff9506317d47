"""The leaves of a record's configuration: which can change a score, and what an absent one was."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cache
from typing import Any

_HASHED = "the hashes of the weights and of their files are compared"
_CONTENT = "the hashes of the splits say what was read"
_MINED = "a row names that rows were mined, how, and where that is not enough their hash"


WITHOUT_EFFECT = {
    "model.package": _HASHED,
    "model.name_or_path": _HASHED,
    "model.revision": _HASHED,
    "model.sha256": _HASHED,
    "model.pooling": "a method that pools says how among its options",
    "model.lr": "a run's own rate tells rows apart",
    "budget.eval_batch_size": "examples are scored one by one, but by rows that say so",
    "budget.precision": "a run's own precision is a condition",
    "protocol.name": "the record names its protocol, which is a condition",
    "data.source": "the record names the source that was read, which is a condition",
    "data.dir": _CONTENT,
    "data.revision": _CONTENT,
    "data.train_size": _CONTENT,
    "data.eval_size": _CONTENT,
    "data.shots": _CONTENT,
    "data.seed": _CONTENT,
    "data.balanced": _CONTENT,
    "data.malformed_rows": _CONTENT,
    "data.text": _CONTENT,
    "data.glue_dir": _CONTENT,
    "data.pseudo": "a row names the run that labelled its rows",
    "data.generated": "a row names that rows were made, and its options",
    "data.mine": _MINED,
    "task.mine": _MINED,
    "task.name": "the record names its task, which is a column",
    "task.range": "it refuses files with other scores, and is kept where words stand for its ends",
    "task.local": _CONTENT,
    "task.hub": _CONTENT,
    "task.rows": _CONTENT,
    "task.pairs": _CONTENT,
    "task.selection": _CONTENT,
    "task.generated": _CONTENT,
    "task.arm_of": "it says in which column a row stands, and a row names its arm",
    "task.rows_of": _CONTENT,
    "task.mlm.tasks": _CONTENT,
    "task.mixture": "each of its tasks is a column, and a row names what it mixes",
    "task.further": "each of its sets is a column of its own",
    **dict.fromkeys(
        (
            *("speed.bf16_copy", "speed.first_token", "speed.gradient_checkpointing"),
            *("speed.graphs", "speed.onednn", "speed.prefetch", "speed.release_memory"),
            *("speed.resident", "speed.skip_padding", "speed.trim_vocabulary"),
        ),
        "it changes what a run costs, of which a table says how its rows ran",
    ),
    "start.run": "the chain of what was trained before tells rows apart",
    "seed": "a cell's scores are of several seeds",
    "device": "the record says on what kind of device it ran, which is a condition",
}


# What runs did before a key was there, where that is not nothing (null, or an empty list).
AS_IT_WAS: dict[str, Any] = {
    "budget.buckets": 16,
    "budget.truncate": "head",
    "task.version": 1,
    "task.kind": "classification",
    "task.mlm.mask": "token",
}


HASH = 12  # letters of a hash that are shown


def short(sha256: str) -> str:
    """Return the beginning of a hash; what stands in place of one stays whole."""
    return sha256[:HASH] if re.fullmatch("[0-9a-f]{64}", sha256) else sha256


def leaves(value: Any, key: str) -> Iterator[tuple[str, Any]]:
    """Yield every leaf below a part of a configuration, by its dotted key."""
    if isinstance(value, dict):
        for part, inner in value.items():
            yield from leaves(inner, f"{key}.{part}")
    else:
        yield key, value


@cache
def without_effect(key: str) -> bool:
    """Say whether a leaf, or a part that it is in, can change no score."""
    return key in WITHOUT_EFFECT or ("." in key and without_effect(key.rpartition(".")[0]))


def effective(value: Any, key: str) -> dict[str, str]:
    """Return as text what can change a score below a part and is not as it was before it was there.

    So a record that does not know a key equals one that has it at that value.
    """
    kept: dict[str, str] = {}
    if isinstance(value, dict):
        for part, inner in value.items():
            if not without_effect(inner_key := f"{key}.{part}"):
                kept |= effective(inner, inner_key)
    elif value is not None and value != [] and value != AS_IT_WAS.get(key):
        kept[key] = typed(value)
    return kept


def as_it_was(key: str) -> str:
    """Return the text of a leaf that `effective` leaves out."""
    return typed(AS_IT_WAS.get(key))


def typed(value: Any) -> str:
    """Return a value as it is typed on the command line."""
    if isinstance(value, list):
        return f"[{','.join(map(typed, value))}]"
    if value is None:
        return "null"
    return str(value).lower() if isinstance(value, bool) else str(value)


def apart(each: list[dict[str, str]]) -> list[dict[str, str]]:
    """Return of each mapping of leaves what not all of them have, in words where it is absent."""
    keys = dict.fromkeys(key for one in each for key in one)
    differ = [key for key in keys if len({one.get(key) for one in each}) > 1]
    return [{key: one.get(key, as_it_was(key)) for key in differ} for one in each]
