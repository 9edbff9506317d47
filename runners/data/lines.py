"""What a task that predicts masked tokens reads: lines of other tasks' text, or of a user's file.

Every text of every column is a line of its own, its white space made single blanks; an empty one,
and one that was there before, is left out. Which lines are held out is decided by the lines
themselves and data.seed: the same ones for every seed, size and way of masking.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

from results.errors import UserError
from runners.config.settings import Data, Protocol
from runners.config.task import MaskedText, Task
from runners.data.corpus import clean, read_training_text
from runners.data.embedded.splits import read_embedded
from runners.data.hub import hub_commit, read_hub, read_hub_train
from runners.data.local import read_file, read_local
from runners.data.sources import choose_source, local_folder
from runners.data.split import Split, TaskData, cut_selection, draw

HELD_OUT = "held_out"
MOST_HELD_OUT = 1000  # lines


@dataclass(frozen=True)
class _Lines:
    """Lines without copies, and what a record says of where they are from."""

    split: Split
    source: str
    reason: str
    revision: str | None
    facts: dict[str, Any]


def load_lines(task: Task, data: Data, protocol: Protocol, seed: int) -> TaskData:
    """Return the lines to train on and those held out, as splits without labels."""
    masked = task.mlm
    assert masked is not None
    lines = _of_tasks(masked, data) if masked.on else _of_files(data)
    count = len(lines.split)
    if count < 2:
        raise UserError(
            f"task={task.name}: {lines.facts['from']} holds {count} line{'s' * (count != 1)} of"
            " text, and one is held out: give it two or more"
        )
    if protocol.rows is not None:
        raise UserError(
            f"protocol.rows={protocol.rows}: task={task.name} selects by protocol.fraction"
        )
    held = _held_out(lines.split, masked.held_out, data.report_seed)
    report = replace(lines.split.take(held), name=HELD_OUT, skipped_rows=0)
    train = lines.split.take(sorted(set(range(count)) - set(held)))
    fewer = len(held) if data.eval_size is None else min(data.eval_size, len(held))
    complete = {"train": data.train_size is None, HELD_OUT: fewer == len(held)}
    pool = train.sha256 if data.seed == "seed" else None
    if data.train_size is not None:
        train = draw(train, data.train_size, data.train_seed(seed), task, "data.train_size")
    report = (
        report
        if fewer == len(held)
        else draw(report, fewer, data.report_seed, task, "data.eval_size")
    )
    selection = None
    if protocol.fraction is not None:
        train, selection = cut_selection(train, protocol.fraction, data.train_seed(seed), task)
    if masked.shuffle:
        train = replace(
            train, texts=tuple(_shuffled(line, data.report_seed) for (line,) in train.texts)
        )
    return TaskData(
        lines.source,
        lines.reason,
        lines.revision,
        train,
        {HELD_OUT: report},
        selection,
        complete,
        lines.facts,
        drawn_from=pool,
    )


def _held_out(lines: Split, share: float, seed: int) -> list[int]:
    """Return which lines are held out, in their order: those with the lowest hashes."""
    count = min(MOST_HELD_OUT, len(lines) - 1, max(1, round(share * len(lines))))
    hashes = [
        hashlib.sha256(f"{seed}\0held out\0{line}".encode()).digest() for (line,) in lines.texts
    ]
    return sorted(sorted(range(len(lines)), key=hashes.__getitem__)[:count])


def _shuffled(line: str, seed: int) -> tuple[str, ...]:
    words = line.split()
    random.Random(f"{seed}:shuffle:{line}").shuffle(words)
    return (" ".join(words),)


def _of_files(data: Data) -> _Lines:
    """Return the lines of data.text."""
    if not data.text:
        raise UserError("this run reads lines of a file: name it by data.text=FILE")
    split, facts = read_training_text(data, "local", "sentences", set())
    del facts["left_out_as_evaluated"]
    return _Lines(split, "local", "data.text is given", None, {**facts, "kind": "lines"})


def _of_tasks(masked: MaskedText, data: Data) -> _Lines:
    """Return the lines of the splits of the tasks that are named."""
    chosen = {name: choose_source(task, data) for name, task in masked.tasks.items()}
    sources = {source for source, _ in chosen.values()}
    if len(sources) > 1:
        listed = ", ".join(f"{name}: {source}" for name, (source, _) in chosen.items())
        raise UserError(f"mlm.on: the tasks' data lies apart ({listed}); choose one by data=NAME")
    texts, parts, commits, skipped = list[str](), list[str](), list[str](), 0
    for name, task in masked.tasks.items():
        splits, commit = _splits(task, data, chosen[name][0], masked.splits)
        for split in splits:
            own = list(clean(str(text) for row in split.texts for text in row))
            parts.append(f"{name} {split.name} ({len(own):,})")
            skipped += split.skipped_rows
            texts += own
        commits += [f"{name} {commit}"] if commit else []
    unique = dict.fromkeys(texts)
    facts: dict[str, Any] = {
        "kind": "lines",
        "from": ", ".join(parts),
        "rows": len(unique),
        "left_out_as_duplicates": len(texts) - len(unique),
    }
    beyond = [name for name in masked.splits if name != "train"]
    if beyond:
        facts["beyond_train"] = beyond
    [source] = sources
    reason = next(iter(chosen.values()))[1]
    split = Split("train", tuple((line,) for line in unique), None, skipped)
    return _Lines(split, source, reason, ", ".join(commits) or None, facts)


def _splits(
    task: Task, data: Data, source: str, names: list[str]
) -> tuple[list[Split], str | None]:
    """Return those of a task's splits that are named and there, and the hub's commit.

    Where train alone is named, no other is read.
    """
    skip, alone = data.malformed_rows == "skip", names == ["train"]
    if source == "local":
        return list(_local_splits(task, data, names, skip)), None
    if source == "hub":
        assert task.hub is not None
        if alone:
            commit = hub_commit(task.hub.path, data.revision)
            return [read_hub_train(task, commit)], commit
        train, report, commit = read_hub(task, data.revision)
    else:
        (train, report), commit = read_embedded(task), None
    every = {"train": train, **report}
    return [every[name] for name in names if name in every], commit


def _local_splits(task: Task, data: Data, names: list[str], skip: bool) -> Iterator[Split]:
    files, folder = task.local, local_folder(task, data)
    assert files is not None
    if files.split is not None:  # what is reported on is no text to train on
        train, report = read_local(task, folder, skip, data.report_seed)
        every = {"train": train, **report}
        yield from (every[name] for name in names if name in every)
        return
    places = {"train": files.train, **files.report, **files.where_present}
    for name in names:
        if name in places and not (
            name in files.where_present and not (folder / places[name]).is_file()
        ):
            yield read_file(task, files, folder / places[name], name, skip)
