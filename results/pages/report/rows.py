"""Says where the rows of a report split lie, so that a row's number leads to its text."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from results.pages.report.answers import Answers, section
from results.pages.report.parts import cut
from results.record import Record


def whereabouts(record: Record, answers: Answers) -> str:
    """Return in a sentence what the rows' numbers, counted from 1, count."""
    source = record.data.get("source")
    if source == "hub":
        return _on_hub(record, answers)
    if source != "local":
        return f"Rows count from 1 in the split {cut(answers.split)} of the {cut(source)} data."
    named = file_of(record, answers)
    if named is None:
        return "Rows count from 1; the record does not say in which file."
    said = f"Rows count from 1 in {cut(named, 200)}"
    folder = section(record.config, "data").get("dir")
    if isinstance(folder, str) and not named.startswith("/"):
        said += f", below data.dir={cut(folder, 200)}"
    return f"{said}{_counting(record, answers, named)}."


def file_of(record: Record, answers: Answers) -> str | None:
    """Return the file, or the folder, that a split of local data is read from."""
    if answers.of_vectors:
        pairs = section(answers.task, "pairs", answers.split)
        named = pairs.get("file") or pairs.get("folder")
        return named if isinstance(named, str) else None
    files, split = section(answers.task, "local"), own_name(record, answers)
    report = {**section(files, "report"), **section(files, "where_present")}
    if split is None and report:
        split = next(iter(report))
    named = report.get(split or "")
    return named if isinstance(named, str) else None


def own_name(record: Record, answers: Answers) -> str | None:
    """Return what the task that a split is of calls it; None for its first report split."""
    task = section(record.config, "task")
    if answers.split in section(task, "further"):
        split = section(task, "further", answers.split).get("split")
        return split if isinstance(split, str) else None
    if section(task, "mixture", "tasks"):
        return answers.split.partition("/")[2]
    return answers.split


def _counting(record: Record, answers: Answers, named: str) -> str:
    """Return what stands between a row's number and its line."""
    if section(record.config, "data").get("eval_size") is not None:
        return ", of those alone that data.eval_size= draws"
    facts = section(record.data, "splits", answers.split)
    if facts.get("skipped_rows"):
        return ", without the malformed rows, which were left out"
    if answers.of_vectors:
        return ", of pairs that have a score"
    if not named.endswith(".tsv"):
        return ""
    header: Any = section(answers.task, "local").get("header", True)
    return ": row N is line N + 1, after the header" if header else ": row N is line N"


def _on_hub(record: Record, answers: Answers) -> str:
    hub: Mapping[str, Any] = section(answers.task, "hub")
    name = own_name(record, answers)
    split = section(hub, "report").get(name, name) if name else name
    where = " ".join(cut(part) for part in (hub.get("path"), hub.get("name")) if part)
    return f"Rows count from 1 in the split {cut(split)} of the hub's {where or 'data set'}."
