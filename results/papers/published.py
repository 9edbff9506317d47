"""Papers' scores beside ours, only where model and data are the same, with what else differs."""

from __future__ import annotations

import csv
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from statistics import fmean
from typing import Any

import yaml

from results.errors import UserError
from results.papers.models import is_of_model
from results.record import Record
from results.tables.collect import Row, Table
from results.tables.columns import task_of

FOLDER = Path(__file__).parent


COLUMNS = ("place", "model", "split", "train", "seeds", "task", "metric", "method", "options",
           "value", "sd")  # fmt: skip


@dataclass(frozen=True)
class Score:
    """One published number in percent; `metric` joins several with + where their mean is meant."""

    place: str
    model: str
    split: str
    train: str
    seeds: str
    task: str
    metric: str
    method: str
    options: str
    value: float
    sd: float | None


@dataclass(frozen=True)
class Paper:
    """A paper, where its numbers were read, what its protocol does otherwise, and the numbers."""

    key: str
    paper: str
    source: str
    reading: str
    protocol: str
    scores: tuple[Score, ...]


@dataclass(frozen=True)
class Beside:
    """A published score beside a cell of ours, both in percent and by the same metric."""

    shown: str
    title: str
    note: str
    theirs: float
    ours: float


@cache
def papers(folder: Path = FOLDER) -> tuple[Paper, ...]:
    """Read papers.yaml and the CSV of each; a file that is wrong is a UserError with its line."""
    try:
        content = yaml.safe_load((folder / "papers.yaml").read_text(encoding="utf-8"))
        return tuple(Paper(key, **about, scores=_scores(folder / f"{key}.csv"))
                     for key, about in content.items())  # fmt: skip
    except (OSError, TypeError, AttributeError, yaml.YAMLError) as error:
        raise UserError(f"{folder / 'papers.yaml'}: {error}") from None


def _scores(path: Path) -> tuple[Score, ...]:
    with path.open(encoding="utf-8", newline="") as stream:
        reader = csv.DictReader(stream)
        if tuple(reader.fieldnames or ()) != COLUMNS:
            raise UserError(f"{path} line 1: the columns must be {', '.join(COLUMNS)}")
        scores = []
        for number, line in enumerate(reader, start=2):
            try:
                value, sd = float(line.pop("value")), line.pop("sd")
                scores.append(Score(**line, value=value, sd=float(sd) if sd else None))
            except (TypeError, ValueError) as error:
                raise UserError(f"{path} line {number}: {error}") from None
    return tuple(scores)


def beside(table: Table, column: str, known: Sequence[Paper]) -> dict[str, list[Beside]]:
    """Return the published scores that the cells of a column may be compared with, by row."""
    by_row: dict[str, list[Beside]] = defaultdict(list)
    for row, paper, score in _of_rows(table, known):
        records = [p.record for p in row.points_of(column)]
        whole = [r for r in records if r is not None and r.status == "finished"]
        if score.task != task_of(column) or not whole or any(_differ(r, score) for r in whole):
            continue
        ours = [value for r in whole if (value := _same_metric(r, score)) is not None]
        if ours:
            by_row[row.method].append(_beside(paper, score, whole, 100 * fmean(ours)))
    return dict(by_row)


def elsewhere(table: Table, known: Sequence[Paper]) -> list[str]:
    """Name what is published on a table's methods and tasks but not on its model and data."""
    models: dict[str, dict[str, set[str]]] = defaultdict(lambda: defaultdict(set))
    for row, paper, score in _of_rows(table, known):
        columns = (cell for column, cell in row.cells.items() if task_of(column) == score.task)
        records = [p.record for cell in columns for p in cell.points if p.record]
        if records and all(_differ(record, score) for record in records):
            models[row.method][paper.paper.partition(",")[0]].add(score.model)
    return [
        f"{method}: " + ", ".join(f"{paper} ({', '.join(sorted(m))})" for paper, m in where.items())
        for method, where in models.items()
    ]


def _of_rows(table: Table, known: Sequence[Paper]) -> list[tuple[Row, Paper, Score]]:
    by_method: dict[str, list[tuple[Paper, Score]]] = defaultdict(list)
    for paper in known:
        for score in paper.scores:
            by_method[score.method].append((paper, score))
    return [
        (row, paper, score)
        for row in table.rows
        for paper, score in by_method["+".join(row.names) + row.way]
        if _same_options(row, score)
    ]


def _same_options(row: Row, score: Score) -> bool:
    """Say whether a row has the options that a published score names; none named is any."""
    config = next(p.record for cell in row.cells.values() for p in cell.points if p.record).config
    options = {f"{m['name']}.{k}={v}" for m in config["method"] for k, v in m.items()}
    options.add(f"optimizer={config.get('optimizer', {}).get('name', 'adamw')}")
    named = [option for option in score.options.split("; ") if "=" in option]
    return all(option in options for option in named)


def _differ(record: Record, score: Score) -> str | None:
    """Say why a record and a published score may not be compared; None where they may."""
    if not is_of_model(record, score.model):
        return f"model {score.model}"
    if score.split.startswith("test") and record.task not in _TESTED:
        return "GLUE's test server"
    if score.split.startswith("dev half"):
        return "half of dev"
    if score.split.startswith("unknown"):
        return "an unknown split"
    if record.data["source"] == "embedded":
        return "embedded data"
    splits = record.data["splits"]
    if any(facts.get("complete") is False for facts in splits.values()):
        return "a subset of the data"
    text = record.data.get("text")
    if score.train != "all" and (score.train != "none" or text is not None):
        return f"trained on {score.train}"
    return None


_TESTED = ("STS12", "STS13", "STS14", "STS15", "STS16", "STS-B", "SICK-R")


def _same_metric(record: Record, score: Score) -> float | None:
    wanted = "mismatched" in score.split
    for split, values in record.scores.items():
        if ("mismatched" in split) == wanted and all(m in values for m in score.metric.split("+")):
            return fmean(values[m] for m in score.metric.split("+"))
    return None


def _length(budget: Mapping[str, Any]) -> str:
    steps = budget.get("steps")
    return f"{budget['epochs']} epochs" if steps is None else f"{steps} steps"


def _beside(paper: Paper, score: Score, records: Sequence[Record], ours: float) -> Beside:
    spread = "" if score.sd is None else f" ± {score.sd:g}"
    budget, config = records[0].config["budget"], records[0].config
    where = f"{paper.paper}, {score.place}"
    where += "" if score.model == records[0].model else f" (model {score.model})"
    note = (
        f"{where}: {paper.protocol}; {score.seeds or 'an unknown number of'} run(s); read in"
        f" {paper.reading}. Here: {len(records)} run(s), protocol {records[0].protocol},"
        f" {config.get('optimizer', {}).get('name', 'adamw')} at {config['lr']:g},"
        f" {_length(budget)}, batch {budget['batch_size']}, {config['precision']}"
    )
    name = {"matthews_correlation": "", "accuracy": "acc ", "spearmanr": ""}.get(
        score.metric, score.metric + " "
    )
    title = f"{where}: {score.metric} {score.value:g}{spread}, here {ours:.2f}"
    return Beside(f"{name}{score.value:.1f}", title, note, score.value, ours)
