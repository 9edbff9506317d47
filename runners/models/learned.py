"""Tells what a run learned from, so that no later one selects or reports by rows that it saw.

A chain holds no rows, but the hashes of a run's splits. Rows that another run holds out are unseen
where that run trained on the same rows, or held out the same ones.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from results.errors import UserError
from runners.config.settings import Settings
from runners.config.task import CUT

Rows = Mapping[str, Mapping[str, str]]  # each: which task's rows they are `of`, and hashes

# What may be held out of a task's rows, what that is for, and how two runs agree on it.
_HELD_OUT = {
    "selection": (
        "select its weights",
        "use protocol=final, or give both the same data.train_size, data.seed and protocol=",
    ),
    CUT: (
        "it reports, which task.local.split cuts off",
        "give both the same data.seed and data.eval_size",
    ),
}


def answers_of(task: Mapping[str, Any]) -> list[str]:
    """Return the tasks whose rows a task's own are: of an arm those of the task that it is of."""
    return [str(task.get("arm_of") or task["name"]), *(task.get("rows_of") or [])]


def labelled(task: Mapping[str, Any]) -> list[str]:
    """Return the tasks whose labels a run of a task sees: of a mixture each, of text none.

    An arm's labels are those of the task that it is an arm of, too.
    """
    return sorted({seen for name, one, _ in _each(task) for seen in (name, *answers_of(one))})


def seen_by(stages: Iterable[Mapping[str, Any]]) -> set[str]:
    """Return the tasks whose labels the runs of a chain saw; old ones tell them by their name."""
    seen = set[str]()
    for stage in stages:
        if "labelled" in stage:
            seen.update(stage["labelled"])
            continue
        name, _, of = str(stage["task"]).partition("(")
        if name != "mlm":
            seen.update([name, *of.rstrip(")").split(", ")[0].split("+")])
    return seen - {""}


def rows_of(
    task: Mapping[str, Any], data: Mapping[str, Any], source: str | None, splits: Mapping[str, str]
) -> Rows:
    """Return what tells the rows of each task whose labels a run sees, by its splits' hashes.

    A mixture's are called TASK/SPLIT. Rows that are mined from other text are not the task's, and
    to those of a run that a teacher taught others are `added`. Where vectors are compared, pairs
    with scores are never trained on.
    """
    rows = dict[str, dict[str, str]]()
    mined = (data.get("mine") or {}).get("source") == "text"
    for name, one, before in [] if task.get("pairs") else _each(task):
        cut = source == "local" and (one.get("local") or {}).get("split") is not None
        kept = ("train", "selection", *([CUT] if cut else []))
        hashes = {split: splits[before + split] for split in kept if before + split in splits}
        if (data.get("pseudo") or {}).get("teacher"):
            hashes["added"] = "pseudo"
        for of in answers_of(one):
            key = name if of in (name, one.get("arm_of")) else f"{name} with {of}"
            rows[key] = {"of": of + " as mined" * mined, **hashes}
    return rows


def content_of(config: Mapping[str, Any], data: Mapping[str, Any], harness: str | int) -> str:
    """Return a hash of what a run learned from, and by which versions of code.

    It is the same for all seeds of one way: where each draws its own rows, how they are drawn is
    told. `data` is in the shape of a record's. Rows that are only reported left nothing.
    """
    options, mined = config.get("data") or {}, data.get("mined") or {}
    added = data.get("pseudo") or data.get("generated") or {}
    by_seed = options.get("seed") == "seed"
    splits = {**data["splits"]}
    splits |= {f"{name}/train": part for name, part in (data.get("parts") or {}).items()}
    # Which mined rows stay is known only once the model that filters them has answered.
    learned = {} if "filter" in mined else {
        name: [facts.get("rows"), data.get("drawn_from")] if by_seed else facts["sha256"]
        for name, facts in splits.items()
        if name.rpartition("/")[2] in ("train", "selection")
    }  # fmt: skip
    facts = {
        "harness": str(harness),
        "methods": [[method["name"], method.get("version")] for method in methods_of(config)],
        "splits": learned,
        "mined": mined.get("sha256"),
        "offered": None if by_seed else (added.get("offered") or {}).get("sha256"),
        "generator": (added.get("generator") or {}).get("sha256"),
        "taught": [
            [stage.get("settings"), stage.get("content")]
            for stage in (added.get("teacher") or {}).get("chain", ())
        ],
    }
    text = json.dumps(facts, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:8]


def methods_of(config: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the methods of a record's configuration, or of a delta's."""
    named = config["method"]
    return (
        [{"name": name, **options} for name, options in named.items()]
        if isinstance(named, Mapping)
        else list(named)
    )


def with_taught(rows: Rows, taught: Iterable[str]) -> dict[str, Any]:
    """Return rows with the tasks that a teacher learned from, of which no rows are known.

    A teacher of the same task was held to the same rows when it taught.
    """
    own = {*rows, *(one["of"] for one in rows.values())}
    return {**{name: {"of": name} for name in sorted({*taught} - own)}, **rows}


def holds_out(settings: Settings) -> bool:
    """Say whether a run selects or reports by rows that are drawn from a task's training rows."""
    task = settings.task
    each = [task] if task.mixture is None else [*task.mixture.tasks.values()]
    cut = any(one.local is not None and one.local.split is not None for one in each)
    return cut or settings.protocol.fraction is not None


def check_rows(where: str, stages: Iterable[Mapping[str, Any]], own: Rows) -> None:
    """Refuse a start from runs that may have learned from rows by which this one is judged.

    `own` are its rows. A stage that does not tell its rows may have learned from any.
    """
    for stage in stages:
        theirs = stage.get("rows")
        if theirs is None:
            theirs = {name: {"of": name} for name in seen_by([stage])}
        for mine in own.values():
            for seen in theirs.values():
                if seen.get("of") == mine["of"]:
                    _check_held_out(where, str(stage["task"]), seen, mine)


def _check_held_out(
    where: str, stage: str, seen: Mapping[str, str], mine: Mapping[str, str]
) -> None:
    if "train" in mine and seen.get("train") == mine["train"] and "added" not in seen:
        return
    for split, (judges, instead) in _HELD_OUT.items():
        if split in mine and seen.get(split) != mine[split]:
            raise UserError(
                f"{where}: a run of task={stage} before this one learned from other rows of"
                f" {mine['of']}, perhaps from those that {judges}; {instead}"
            )


def _each(task: Mapping[str, Any]) -> Iterator[tuple[str, Mapping[str, Any], str]]:
    """Yield each task whose labels are seen: name, definition, how its splits' names begin."""
    if mixture := task.get("mixture"):
        tasks = mixture.get("tasks") or {}
        for name in mixture["of"]:
            yield name, tasks.get(name) or {"name": name}, f"{name}/"
    elif not task.get("mlm"):
        yield str(task["name"]), task, ""
