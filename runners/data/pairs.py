"""Reads scored sentence pairs: SentEval's layout, tab-separated files, or the hub.

Pairs without a gold score are left out, as everyone does who reports these sets. White space inside
a sentence is made single blanks, as SentEval does.
"""

from __future__ import annotations

from pathlib import Path

from results.errors import UserError
from runners.config.task import Pairs, Task
from runners.data.files import checked_lines, read_text, refuse_json
from runners.data.hub import hub_commit, hub_table
from runners.data.labels import score_of
from runners.data.split import Split


def read_pairs(task: Task, name: str, files: Pairs, folder: Path) -> Split:
    """Return one set as a split with scores and, where a folder has several files, subsets.

    A missing folder or file, unequal line counts and a score outside the task's range are a
    UserError that names file and line.
    """
    if files.folder is not None:
        return _read_folder(task, name, folder / files.folder)
    assert files.file is not None
    path = folder / files.file
    shown = f"task={task.name}: {path}"
    lines = checked_lines(read_text(path, shown), shown)
    texts, scores = [], []
    for number, line in enumerate(lines[files.header :], 1 + files.header):
        if not line:
            continue
        fields = line.split("\t")
        where = f"task={task.name}: {path} line {number}"
        if len(fields) <= max(files.columns):
            refuse_json(lines[0], f"task={task.name}: {path}")
            raise UserError(f"{where} has {len(fields)} fields, expected {max(files.columns) + 1}")
        first, second, score = (fields[i] for i in files.columns)
        if score.strip():
            texts.append((_words(first, where), _words(second, where)))
            scores.append(score_of(score, task, where))
    return _split(task, name, texts, scores, None, str(path))


def _read_folder(task: Task, name: str, folder: Path) -> Split:
    if not folder.is_dir():
        raise UserError(
            f"task={task.name}: {folder} is missing: {name} lies there in SentEval's layout; give"
            " data.dir the folder above it, or leave the set out of task.pairs"
        )
    inputs = sorted(folder.glob("STS.input.*.txt"))
    if not inputs:
        raise UserError(f"task={task.name}: {folder} holds no STS.input.*.txt")
    texts, scores, subsets = [], [], []
    for path in inputs:
        gold = path.with_name(path.name.replace("STS.input.", "STS.gs."))
        shown = [(p, f"task={task.name}: {p}") for p in (path, gold)]
        pairs, golds = (checked_lines(read_text(p, where), where) for p, where in shown)
        if len(pairs) != len(golds):
            raise UserError(
                f"task={task.name}: {path.name} has {len(pairs)} lines and {gold.name}"
                f" {len(golds)}, in {folder}; one of them is cut off"
            )
        for number, (pair, score) in enumerate(zip(pairs, golds, strict=True), 1):
            if not score.strip():
                continue
            where = f"task={task.name}: {path} line {number}"
            fields = pair.split("\t")
            if len(fields) < 2:
                raise UserError(f"{where} has one field, expected two sentences")
            texts.append((_words(fields[0], where), _words(fields[1], where)))
            scores.append(score_of(score, task, f"task={task.name}: {gold} line {number}"))
            subsets.append(path.name.removeprefix("STS.input.").removesuffix(".txt"))
    return _split(task, name, texts, scores, subsets, str(folder))


def read_hub_pairs(
    task: Task, name: str, files: Pairs, revision: str | None
) -> tuple[Split, str | None]:
    """Return one set from the hub, with columns sentence1, sentence2 and score, and its commit."""
    if files.hub is None:
        raise UserError(f"data=hub: task {task.name} names no hub data set for {name}")
    if files.folder is not None and "spearmanr_subsets" in task.metrics:
        raise UserError(
            f"data=hub: {files.hub} does not tell the subsets of {name}, of which spearmanr_subsets"
            " is a mean; give their files by data.dir=FOLDER, or take spearmanr"
        )
    commit = hub_commit(files.hub, revision)
    table = hub_table(files.hub, None, files.split, commit, "data=hub")
    lacking = {"sentence1", "sentence2", "score"} - set(table.column_names)
    if lacking:
        raise UserError(f"task={task.name}: {files.hub} has no column {', '.join(sorted(lacking))}")
    texts, scores = [], []
    columns = (list(table[c]) for c in ("sentence1", "sentence2", "score"))
    for number, (first, second, score) in enumerate(zip(*columns, strict=True)):
        where = f"task={task.name}: {files.hub} row {number}"
        if score is not None:
            texts.append((_words(first, where), _words(second, where)))
            scores.append(score_of(str(score), task, where))
    return _split(task, name, texts, scores, None, files.hub), commit


def _split(
    task: Task,
    name: str,
    texts: list[tuple[str, str]],
    scores: list[float],
    subsets: list[str] | None,
    where: str,
) -> Split:
    if len(scores) < 2:
        raise UserError(f"task={task.name}: {where} has {len(scores)} scored pairs; {name} needs 2")
    kept = tuple(subsets) if subsets is not None else None
    return Split(name, tuple(texts), tuple(scores), subsets=kept)


def _words(text: object, where: str) -> str:
    if not isinstance(text, str):
        raise UserError(f"{where} has {text!r:.60} in place of a sentence")
    words = " ".join(text.split())
    if not words:
        raise UserError(f"{where} has an empty sentence")
    return words
